//! The client.

use std::{fmt, sync::Arc};

use http::{Method, Request, Response, Uri, header::HOST};
use retry_core::RetryBudget;

use crate::{
    endpoint::status::EndpointStatus,
    error::Error,
    request::{body::Body, hop_by_hop::remove_hop_by_hop},
    response::{
        body::ResponseBody,
        buffering::BufferLimits,
        received_body::ReceivedBody,
        resume::{Fetching, RangeClient},
    },
    retry::{attempt_request::RequestParts, config::RetryConfig, retry_loop},
    transport::{CallTransport, Delivery, HttpTransport},
};

/// An HTTP client for one base URL. It is cheap to clone, and clones share the connection pool.
///
/// Paths start with `/`, may have a query, and are appended to the base URL. All methods except
/// [`get_text`](Self::get_text) return a response of any status as `Ok`.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

/// Each call writes to its reference count, so that a client of another thread shares no cache line with it.
#[derive(Clone)]
#[repr(align(128))]
pub(crate) struct Inner {
    pub(crate) transport: HttpTransport,
    pub(crate) retry_config: RetryConfig,
    pub(crate) resume: bool,
    pub(crate) response_buffer: BufferLimits,
}

type ResponseResult = Result<Response<ResponseBody>, Error>;

impl Client {
    /// Sends a GET and returns the body as text. An attempt includes reading the body, so an incomplete body is
    /// retried.
    ///
    /// # Errors
    ///
    /// A status other than 2xx is an error of kind [`Status`](crate::ErrorKind::Status), which contains the response. A
    /// body that is not UTF-8 is a [`BadResponse`](crate::ErrorKind::BadResponse).
    pub async fn get_text(&self, path: &str) -> Result<String, Error> {
        let parts = self.parts(Method::GET, path, Body::empty());
        let (head, body) = self.call(parts, Delivery::Complete, false).await?.into_parts();
        if head.status.is_success() {
            return body.text().await;
        }
        Err(Error::status(Response::from_parts(head, body.bytes().await?)))
    }

    /// Sends a GET.
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt if no attempt got a response. The methods below do the same.
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

    /// Sends a request with any method and headers. Its URI is a path, or a URL of the client's server.
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
    /// As [`get`](Self::get), and if the URI is of another server.
    pub fn execute<B: Into<Body>>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Error>> + Send + use<'_, B> {
        let resolved = self.0.transport.base_url.resolve(request.method(), request.uri());
        self.deliver(resolved.map(|uri| with_uri(request, uri)))
    }

    /// Forwards an inbound request to `path`, without its hop-by-hop headers and `Host`. The hop-by-hop headers of the
    /// response are removed too.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn forward(
        &self,
        path: &str,
        mut request: Request<impl Into<Body>>,
    ) -> Result<Response<ResponseBody>, Error> {
        remove_hop_by_hop(request.headers_mut());
        request.headers_mut().remove(HOST);
        let joined = self.0.transport.base_url.join(path);
        let mut response = self.deliver(joined.map(|uri| with_uri(request, uri))).await?;
        remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// Returns a client with the same settings, which shares everything but the idle connections: the budget, and the
    /// limits on connections and buffers. For a server with a runtime for each thread, whose connections stay on the thread
    /// that opened them.
    ///
    /// If [`pool_max_connections`](crate::ClientBuilder::pool_max_connections) allows no new connection, a request takes
    /// an idle one of the other clients. Each keeps its share of
    /// [`pool_max_idle`](crate::ClientBuilder::pool_max_idle).
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.transport.endpoints = Arc::new(inner.transport.endpoints.sibling());
        inner.transport.base_url = inner.transport.base_url.unshared();
        inner.transport.hedge_delay = inner.transport.hedge_delay.map(|delay| Arc::new(delay.sibling()));
        Self(Arc::new(inner))
    }

    /// Returns the number of connections, including those being opened and those of [`with_own_pool`](Self::with_own_pool).
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.transport.endpoints.connections()
    }

    /// Returns the endpoints and their state.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.transport.endpoints.set.status()
    }

    /// Returns the number of calls that wait until an endpoint is up.
    #[must_use]
    pub fn calls_parked(&self) -> usize {
        self.0.transport.endpoints.set.parked()
    }

    /// Returns the number of calls that wait for their next attempt.
    #[must_use]
    pub fn calls_in_backoff(&self) -> usize {
        self.0.retry_config.backoff_gauge.get()
    }

    /// Returns how many retries the budget allows now. `None` if there is no budget. See [`RetryBudget::available`].
    #[must_use]
    pub fn budget_available(&self) -> Option<f64> {
        self.0.retry_config.budget.as_ref().map(RetryBudget::available)
    }

    fn send(&self, method: Method, path: &str, body: Body) -> impl Future<Output = ResponseResult> + Send {
        self.deliver(self.parts(method, path, body))
    }

    fn parts(&self, method: Method, path: &str, body: Body) -> Result<RequestParts, Error> {
        let mut parts = with_uri(Request::new(body), self.0.transport.base_url.join(path)?);
        *parts.head.method_mut() = method;
        Ok(parts)
    }

    /// Sends a request, and buffers and resumes its response as configured.
    fn deliver(&self, parts: Result<RequestParts, Error>) -> impl Future<Output = ResponseResult> + Send {
        let limits = self.0.response_buffer;
        let delivery = if limits.bytes > 0 { Delivery::Buffered(limits) } else { Delivery::Streamed };
        self.call(parts, delivery, self.0.resume)
    }

    fn call(
        &self,
        parts: Result<RequestParts, Error>,
        delivery: Delivery,
        resume: bool,
    ) -> impl Future<Output = ResponseResult> + Send {
        let client = resume.then_some(&self.0);
        self.0.call(parts, delivery, move |request, response| ResponseBody::wrap(response, request, client))
    }
}

impl Inner {
    /// Sends a request. All requests pass through here.
    ///
    /// `parts` may be the error of an earlier step. With an early return, the future of each method above would contain
    /// another copy of the request.
    fn call<R>(
        &self,
        parts: Result<RequestParts, Error>,
        delivery: Delivery,
        finish: impl FnOnce(&Request<()>, Response<ReceivedBody>) -> R,
    ) -> impl Future<Output = Result<R, Error>> {
        let transport = CallTransport { transport: &self.transport, delivery };
        retry_loop::call(transport, &self.retry_config, parts, finish)
    }
}

impl RangeClient for Inner {
    fn fetch(self: Arc<Self>, request: Request<Body>) -> Fetching {
        let parts = Ok(RequestParts::new(request));
        Box::pin(async move { self.call(parts, Delivery::Streamed, |_, response| response).await })
    }

    fn retry_config(&self) -> &RetryConfig {
        &self.retry_config
    }
}

fn with_uri(request: Request<impl Into<Body>>, uri: Uri) -> RequestParts {
    let mut parts = RequestParts::new(request);
    *parts.head.uri_mut() = uri;
    parts
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base_url = &self.0.transport.base_url;
        f.debug_struct("Client")
            .field("base_url", base_url)
            .field("retry_config", &self.0.retry_config)
            .finish_non_exhaustive()
    }
}
