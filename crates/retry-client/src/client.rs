//! The client.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST};
use retry_core::RetryBudget;

use crate::{
    endpoint::status::EndpointStatus,
    error::Error,
    error_chain::BoxError,
    history::History,
    request::{body::Body, default_headers::DefaultHeaders, hop_by_hop::remove_hop_by_hop},
    response::{
        body::ResponseBody,
        buffering::BufferLimits,
        received_body::ReceivedBody,
        resume::{Fetching, RangeClient},
    },
    retry::{
        attempt_request::{ReplayableRequest, RequestParts},
        backoff_gauge::BackoffGauge,
        call_options::CallOptions,
        config::RetryConfig,
        retry_loop,
    },
    transport::{CallTransport, Delivery, HttpTransport},
};

/// An HTTP client for one base URL. It is cheap to clone, and clones share the connection pool.
///
/// [`get`](Self::get), [`post`](Self::post) and their siblings create a [`RequestBuilder`](crate::RequestBuilder).
/// [`execute`](Self::execute) sends an [`http::Request`], and the client is a tower service for the same requests.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

/// Each call writes to its reference count, so that a client of another thread shares no cache line with it.
#[derive(Clone)]
#[repr(align(128))]
pub(crate) struct Inner {
    pub(crate) transport: HttpTransport,
    pub(crate) retry_config: RetryConfig,
    pub(crate) backoffs: BackoffGauge,
    pub(crate) resume: bool,
    pub(crate) response_buffer: BufferLimits,
    pub(crate) response_limit: usize,
    pub(crate) default_headers: Option<DefaultHeaders>,
}

type ResponseResult = Result<Response<ResponseBody>, Error>;

impl Client {
    /// Sends a request with a body of any type. Its URI is a path, which is appended to the base URL, or a URL of the client's
    /// server, which is used as it is. Its extensions may contain [`CallOptions`](crate::CallOptions).
    ///
    /// Returns the response once its head has arrived, whatever its status; see
    /// [`RequestBuilder::send`](crate::RequestBuilder::send).
    ///
    /// ```no_run
    /// # async fn run(client: retry_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use retry_client::{Body, http::Request};
    ///
    /// let request = Request::builder().method("REPORT").uri("/calendars").header("depth", "1");
    /// let response = client.execute(request.body(Body::from("<query/>"))?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt if no attempt got a response, and an error if the URI is of another server.
    pub fn execute<B>(&self, request: Request<B>) -> impl Future<Output = ResponseResult> + Send + use<'_, B>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let resolved = self.0.transport.base_url.resolve(request.method(), request.uri());
        self.0.deliver(resolved.map(|uri| with_uri(request.map(Body::new), uri)))
    }

    /// As [`execute`](Self::execute), with a future that does not borrow the client.
    pub(crate) fn execute_owned(self, request: Request<Body>) -> impl Future<Output = ResponseResult> + Send {
        let resolved = self.0.transport.base_url.resolve(request.method(), request.uri());
        self.send_owned(resolved.map(|uri| with_uri(request, uri)))
    }

    /// Sends a request, and returns the response once its head has arrived.
    pub(crate) async fn send_owned(self, parts: Result<RequestParts, Error>) -> ResponseResult {
        self.0.deliver(parts).await
    }

    /// Sends a request, and parses the body of its response. A status other than 2xx is an error, with the response; without
    /// the rest of a body that exceeds the limit.
    pub(crate) async fn read<T>(
        self,
        parts: Result<RequestParts, Error>,
        parse: impl FnOnce(Bytes) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let delivery = Delivery::Complete(self.0.response_limit(&parts));
        let read = |request: &ReplayableRequest<'_>, response: Response<ReceivedBody>| {
            let mut response = response.map(ReceivedBody::into_bytes);
            if !response.status().is_success() {
                return Err(request.failed(Error::status(response)));
            }
            let history: Option<History> = response.extensions_mut().remove();
            parse(response.into_body()).map_err(|error| request.failed(error.with_history(history)))
        };
        self.0.call(parts, delivery, read).await?
    }

    /// Forwards an inbound request to `path`, without its hop-by-hop headers and `Host`. The hop-by-hop headers of the
    /// response are removed too.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn forward<B>(&self, path: &str, mut request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        remove_hop_by_hop(request.headers_mut());
        request.headers_mut().remove(HOST);
        let joined = self.0.transport.base_url.join(path);
        let mut response = self.0.deliver(joined.map(|uri| with_uri(request.map(Body::new), uri))).await?;
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
        inner.default_headers = inner.default_headers.as_ref().map(DefaultHeaders::unshared);
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

    /// Returns the number of calls that wait for their next attempt, including those of
    /// [`with_own_pool`](Self::with_own_pool).
    #[must_use]
    pub fn calls_in_backoff(&self) -> usize {
        self.0.backoffs.get()
    }

    /// Returns how many retries the budget allows now. `None` if there is no budget. See [`RetryBudget::available`].
    #[must_use]
    pub fn budget_available(&self) -> Option<f64> {
        self.0.retry_config.budget.as_ref().map(RetryBudget::available)
    }
}

impl Inner {
    /// Sends a request, and buffers and resumes its response as configured.
    fn deliver(self: &Arc<Self>, parts: Result<RequestParts, Error>) -> impl Future<Output = ResponseResult> + Send {
        let mut limits = self.response_buffer;
        if let Some(bytes) = option(&parts, |options| options.response_buffer) {
            limits.bytes = bytes;
        }
        let delivery = if limits.bytes > 0 { Delivery::Buffered(limits) } else { Delivery::Streamed };
        let (client, limit) = (self.resume.then_some(self), self.response_limit(&parts));
        self.call(parts, delivery, move |request, response| ResponseBody::wrap(response, request, client, limit))
    }

    /// Returns the maximum size of a response body that is read as a whole.
    fn response_limit(&self, parts: &Result<RequestParts, Error>) -> usize {
        option(parts, |options| options.response_limit).unwrap_or(self.response_limit)
    }

    /// Sends a request. All requests pass through here.
    ///
    /// `parts` may be the error of an earlier step. With an early return, the future of each method above would contain
    /// another copy of the request.
    fn call<R>(
        &self,
        parts: Result<RequestParts, Error>,
        delivery: Delivery,
        finish: impl FnOnce(&ReplayableRequest<'_>, Response<ReceivedBody>) -> R,
    ) -> impl Future<Output = Result<R, Error>> {
        let parts = match &self.default_headers {
            None => parts,
            Some(headers) => parts.and_then(|mut parts| {
                headers.add(parts.head.headers_mut())?;
                Ok(parts)
            }),
        };
        let transport = CallTransport { transport: &self.transport, delivery };
        retry_loop::call(transport, &self.retry_config, Some(&self.backoffs), parts, finish)
    }
}

/// Returns an option of a request, if it is set.
fn option<T>(parts: &Result<RequestParts, Error>, get: impl FnOnce(&CallOptions) -> Option<T>) -> Option<T> {
    parts.as_ref().ok()?.options.as_deref().and_then(get)
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

fn with_uri(request: Request<Body>, uri: Uri) -> RequestParts {
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
