//! The client: what callers write.

use std::{fmt, sync::Arc};

use http::{
    Method, Request, Response, Uri,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
};

use crate::{
    builder::{ClientBuilder, Config},
    connection::{pool::Pool, proxy::Proxy},
    error::Error,
    request::{attempt_request::Given, body::Body, hop_by_hop},
    response::body::ResponseBody,
    retry::retry_loop::call,
    transport::{Delivery, Hyper},
};
use retry_core::RetryBudget;

/// A client for one base URL. Cheap to clone; clones share the connection pool.
///
/// Paths start with `/` and may have a query; they are put behind the base URL. A response of any
/// status is a success of these methods, [`get_text`](Self::get_text) aside.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    pool: Arc<Pool>,
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

    pub(crate) fn from_config(config: Config, pool: Arc<Pool>) -> Self {
        Self(Arc::new(Shared { pool, config }))
    }

    /// Gets a text. The attempt ends when the body does: one that breaks off or stalls is retried.
    ///
    /// # Errors
    ///
    /// A status other than 2xx is an error of kind [`Status`](crate::ErrorKind::Status) that holds the
    /// response; a body that is not UTF-8 is a [`BadResponse`](crate::ErrorKind::BadResponse).
    pub async fn get_text(&self, path: &str) -> Result<String, Error> {
        let request = self.request(Method::GET, path, Body::empty());
        let (head, body) = self.call(request, Delivery::Whole, false).await?.into_parts();
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
    pub fn execute<B: Into<Body>>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Error>> + Send + use<'_, B> {
        let resolved = self.0.config.target.resolve(request.method(), request.uri());
        self.deliver(resolved.map(|uri| at(uri, request)))
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
        let joined = self.0.config.target.join(path);
        let given = joined.map(|uri| {
            let mut given = at(uri, request);
            hop_by_hop::readdress(given.head.headers_mut());
            given
        });
        let mut response = self.deliver(given).await?;
        hop_by_hop::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// How many connections there are, those being made included. For metrics, as are the next two.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.pool.connections()
    }

    /// How many calls wait for their next attempt.
    #[must_use]
    pub fn calls_in_backoff(&self) -> usize {
        self.0.config.rules.waits.get()
    }

    /// How many retries the budget would grant now; none without a budget. See [`RetryBudget::available`].
    #[must_use]
    pub fn budget_available(&self) -> Option<f64> {
        self.0.config.rules.budget.as_ref().map(RetryBudget::available)
    }

    fn send(&self, method: Method, path: &str, body: Body) -> impl Future<Output = Answer> + Send {
        self.deliver(self.request(method, path, body))
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Given, Error> {
        let mut given = Given::new(Request::new(body));
        *given.head.method_mut() = method;
        *given.head.uri_mut() = self.0.config.target.join(path)?;
        Ok(given)
    }

    /// Sends a request, and goes on with its response where it breaks off if that was asked for.
    fn deliver(&self, given: Result<Given, Error>) -> impl Future<Output = Answer> + Send {
        let config = &self.0.config;
        let delivery = match &given {
            Ok(Given { head, .. }) if config.response_buffer.is_for_request(head.headers()) => {
                Delivery::Buffered(config.response_buffer)
            }
            _ => Delivery::Streaming,
        };
        self.call(given, delivery, config.resume)
    }

    /// Sends a request whose response is handed over as soon as its head is there.
    pub(crate) async fn stream(&self, request: Request<Body>) -> Answer {
        self.call(Ok(Given::new(request)), Delivery::Streaming, false).await
    }

    pub(crate) fn retry_count(&self) -> u32 {
        self.0.config.rules.policy.count()
    }

    /// Every request comes through here. What went wrong before is told when the future is polled: a function that
    /// returned early would make each of those above a future of its own, around a copy of the request.
    fn call(
        &self,
        mut given: Result<Given, Error>,
        delivery: Delivery,
        resume: bool,
    ) -> impl Future<Output = Answer> + Send {
        let config = &self.0.config;
        if let Ok(Given { head, .. }) = &mut given {
            config.target.name_host(head.headers_mut());
            self.authorize(head);
        }
        call(Hyper { client: self, delivery, resume }, &config.rules, given)
    }

    /// Adds the credentials of the base URL and of the proxy, but not to TRACE: whoever sent that would get them back
    /// (RFC 9110, section 9.3.8).
    fn authorize(&self, head: &mut Request<()>) {
        if *head.method() == Method::TRACE {
            return;
        }
        let Config { target, proxy, .. } = &self.0.config;
        if let Some(authorization) = &target.authorization {
            head.headers_mut().entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        if let Some(authorization) = proxy.as_ref().and_then(Proxy::authorization) {
            head.headers_mut().entry(PROXY_AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0.pool
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }
}

type Answer = Result<Response<ResponseBody>, Error>;

/// The same request at another place.
fn at(uri: Uri, request: Request<impl Into<Body>>) -> Given {
    let mut given = Given::new(request);
    *given.head.uri_mut() = uri;
    given
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.config).finish()
    }
}
