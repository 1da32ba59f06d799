//! The client: what callers write.

use std::{fmt, sync::Arc};

use http::{Method, Request, Response, Uri, header::AUTHORIZATION, request};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use retry_core::{Classify, Event, Reason, Report, Retry, TokioRuntime, Verdict};

use crate::{
    Body, ClientBuilder, ResponseBody,
    attempt::{Delivery, Failure, attempt},
    classify::{self, on_answer, on_failure},
    config::Config,
    connect::Connector,
    error::Error,
    forward,
    replay::{AttemptBody, Replay},
};

pub(crate) type Http = legacy::Client<Connector, AttemptBody>;

/// A client for one base URL. Cheap to clone; clones share the connection pool.
///
/// Paths start with `/` and may have a query; they are put behind the base URL. A response of any
/// status is a success of these methods, [`get_text`](Self::get_text) aside.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    http: Http,
    retry: Retry<TokioRuntime>,
    config: Config,
}

impl Client {
    /// A client with the [default settings](ClientBuilder).
    ///
    /// # Errors
    ///
    /// When `base_url` is not a URL like `http://host:port` or `http://host/prefix`.
    pub fn new(base_url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(base_url).build()
    }

    /// Settings for a client, starting from the defaults.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(base_url.into())
    }

    pub(crate) fn from_config(config: Config) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(config.http2)
            .build(Connector::new(config.connect_timeout));
        Self(Arc::new(Shared { http, retry: Retry::new(config.policy), config }))
    }

    /// Gets a text. The attempt ends when the body does: one that breaks off or stalls is retried.
    ///
    /// # Errors
    ///
    /// A status other than 2xx is an error of kind [`Status`](crate::ErrorKind::Status) that holds the
    /// response; a body that is not UTF-8 is a [`BadResponse`](crate::ErrorKind::BadResponse).
    pub async fn get_text(&self, path: &str) -> Result<String, Error> {
        let request = self.request(Method::GET, path, Body::empty())?;
        let (head, body) = self.call(request, Delivery::Whole).await?.into_parts();
        if head.status.is_success() {
            return body.text().await;
        }
        Err(Error::status(Response::from_parts(head, body.bytes().await?)))
    }

    /// Sends a GET.
    ///
    /// # Errors
    ///
    /// When the last attempt allowed got no answer; so for all methods below.
    pub async fn get(&self, path: &str) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// Sends a HEAD.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn head(&self, path: &str) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::HEAD, path, Body::empty()).await
    }

    /// Sends a POST.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::POST, path, body.into()).await
    }

    /// Sends a PUT.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn put(&self, path: &str, body: impl Into<Body>) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::PUT, path, body.into()).await
    }

    /// Sends a PATCH.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn patch(&self, path: &str, body: impl Into<Body>) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::PATCH, path, body.into()).await
    }

    /// Sends a DELETE.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn delete(&self, path: &str) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::DELETE, path, Body::empty()).await
    }

    /// Sends an OPTIONS.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn options(&self, path: &str) -> Result<Response<ResponseBody>, Error> {
        self.send(Method::OPTIONS, path, Body::empty()).await
    }

    /// Sends a request of any method, with headers of the caller's choice. Its URI is a path, or a URL on
    /// this client's server.
    ///
    /// ```no_run
    /// # async fn run(client: retry_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = http::Request::builder()
    ///     .method("REPORT")
    ///     .uri("/calendars")
    ///     .header("depth", "1")
    ///     .body("<query/>")?;
    /// let response = client.execute(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and when the URI is on another server.
    pub async fn execute(&self, request: Request<impl Into<Body>>) -> Result<Response<ResponseBody>, Error> {
        let mut request = request.map(Into::into);
        *request.uri_mut() = self.0.config.target.resolve(request.uri())?;
        self.call(request, Delivery::Streaming).await
    }

    /// Sends an inbound request on to `path`: its method, body and headers, but for those that concern
    /// one hop only and `Host`. What comes back has its hop-by-hop headers removed, too.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn forward(
        &self,
        path: &str,
        request: Request<impl Into<Body>>,
    ) -> Result<Response<ResponseBody>, Error> {
        let mut request = request.map(Into::into);
        *request.uri_mut() = self.0.config.target.join(path)?;
        forward::readdress(request.headers_mut());
        let mut response = self.call(request, Delivery::Streaming).await?;
        forward::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<ResponseBody>, Error> {
        self.call(self.request(method, path, body)?, Delivery::Streaming).await
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Error> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.0.config.target.join(path)?;
        Ok(request)
    }

    /// Every request comes through here: attempts, until the core says that it is over.
    async fn call(&self, request: Request<Body>, delivery: Delivery) -> Result<Response<ResponseBody>, Error> {
        let Shared { http, retry, config } = &*self.0;
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err(Error::bad_input("method CONNECT: a tunnel is no request that could be retried".to_owned()));
        }
        if let Some(authorization) = &config.target.authorization {
            head.headers.entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        let body = Replay::new(body, config.replay_limit);
        let idempotent = config.retry_methods.allow(&head.method);
        let retry = retry
            .clone()
            .classify(Judge { config, body: &body, idempotent })
            .observe(|event: Event<'_, _, _>| log_failure(config, &head, &event));
        let report = retry.report(|_| attempt(http, config, &head, &body, delivery)).await;
        finish(report)
    }
}

fn finish(report: Report<Response<ResponseBody>, Failure>) -> Result<Response<ResponseBody>, Error> {
    let Report { outcome, reason, journal, .. } = report;
    match outcome {
        Some(Ok(response)) => Ok(response),
        Some(Err(failure)) => Err(failure.error.ended(reason, journal)),
        None => Err(Error::deadline().ended(reason, journal)),
    }
}

/// Judges the attempts of one call.
struct Judge<'a> {
    config: &'a Config,
    body: &'a Replay,
    idempotent: bool,
}

impl Classify<Response<ResponseBody>, Failure> for Judge<'_> {
    fn classify(&self, outcome: &Result<Response<ResponseBody>, Failure>) -> Verdict {
        let request = classify::Request {
            idempotent: self.idempotent,
            can_repeat: self.body.can_repeat(),
            is_read: self.body.is_read(),
        };
        match outcome {
            Ok(response) => on_answer(request, self.config.status_codes.contains(&response.status())),
            Err(failure) => on_failure(request, failure.fate),
        }
    }

    async fn discard(&self, outcome: Result<Response<ResponseBody>, Failure>) {
        if let Ok(response) = outcome {
            response.into_body().drain().await;
        }
    }
}

/// One line for each attempt that failed. The query stays out of it: people put secrets there.
fn log_failure(config: &Config, head: &request::Parts, event: &Event<'_, Response<ResponseBody>, Failure>) {
    let (record, outcome) = match event {
        Event::End { reason: Reason::Accepted, .. } => return,
        Event::Retry { record, outcome } | Event::End { record, outcome, .. } => (record, outcome),
    };
    let what: &dyn fmt::Display = match outcome {
        Some(Ok(response)) => &format_args!("answered {}", response.status()),
        Some(Err(failure)) => &failure.error,
        None => &"cut by the deadline",
    };
    let next: &dyn fmt::Display = match event {
        Event::Retry { .. } => &format_args!("next attempt in {:?}", record.wait.unwrap_or_default()),
        Event::End { reason: Reason::Permanent, .. } => &"not safe or no use to repeat",
        Event::End { reason, .. } => reason,
    };
    let attempts = u64::from(config.policy.count()) + 1;
    let (method, number) = (&head.method, record.attempt);
    log::warn!("{method} {}: attempt {number} of {attempts} failed: {what}; {next}", Place(&head.uri));
}

/// A URL without its query.
struct Place<'a>(&'a Uri);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", uri.scheme_str().unwrap_or("http"), uri.path())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.config).finish()
    }
}
