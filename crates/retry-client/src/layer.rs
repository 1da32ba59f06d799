//! Retries in tower stacks: a layer over any HTTP service, and the client as a service.

use std::{
    future::{Ready, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    client::Client,
    error::Error,
    error_chain::BoxError,
    request::{body::Body, replay::AttemptBody},
    response::body::ResponseBody,
    retry::{
        attempt_event::host_and_port,
        attempt_request::{AttemptRequest, RequestParts},
        config::RetryConfig,
        failure::Failure,
        judged_response::{BoxResponse, JudgedResponse},
        retry_loop::{Drainable, Transport, call},
    },
};

type BoxFuture<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>;

/// A tower layer that adds retries to an HTTP service, by a [`RetryConfig`].
///
/// The inner service takes `Request<`[`Body`]`>`, with an absolute URL if it is a client. It is cloned for each attempt,
/// and gets the request when it is ready. What is above the layer happens once for each call, what is below once for each
/// attempt.
///
/// # Over hyper-util's client
///
/// ```
/// use std::time::Duration;
///
/// use hyper_util::{
///     client::legacy::{Client, connect::HttpConnector},
///     rt::TokioExecutor,
/// };
/// use retry_client::{Body, RetryConfig, RetryLayer, RetryPolicy, RetryService, http::Request};
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// type HttpClient = RetryService<Client<HttpConnector, Body>>;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = RetryConfig::new(RetryPolicy::interactive())
///     .status_codes([502, 503, 504])
///     .attempt_timeout(Duration::from_secs(2));
/// let client: HttpClient = ServiceBuilder::new()
///     .layer(RetryLayer::new(config)?)
///     .service(Client::builder(TokioExecutor::new()).build_http());
/// # let url = delayed_backend::Backend::start("ok".parse()?).await?;
/// # let backend = url; let url = format!("{}/hello", backend.url());
///
/// // A service is called through `&mut`, so each task has a clone. Clones share the connections.
/// let mut service = client.clone();
/// let response = service.ready().await?.call(Request::get(url).body(Body::empty())?).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// # Over reqwest
///
/// An adapter converts between the types of reqwest and those of the crate `http`:
///
/// ```
/// use retry_client::{Body, Error, RetryLayer, http::{Request, Response}};
/// use tower::{Service, ServiceBuilder, service_fn};
///
/// fn with_retries(
///     client: reqwest::Client,
///     retries: RetryLayer,
/// ) -> impl Service<Request<Body>, Response = Response<reqwest::Body>, Error = Error> + Clone {
///     ServiceBuilder::new().layer(retries).service(service_fn(move |request: Request<Body>| {
///         let client = client.clone();
///         async move {
///             let request = request.map(reqwest::Body::wrap).try_into()?;
///             client.execute(request).await.map(Response::from)
///         }
///     }))
/// }
/// ```
///
/// `reqwest::Response::from` converts the response back, for reqwest's `text` and `json`. The folder `examples` has this
/// as a program, and one for axum.
///
/// # What the layer knows of a failed request
///
/// It searches the chain of the error's sources:
///
/// | error | | retried |
/// |---|---|---|
/// | of hyper-util's client, also within reqwest's, if `is_connect`: connection refused, unknown name, connect timeout | not sent | for every method |
/// | of hyper, if `is_canceled`: the connection was closed before it took the request | not sent | for every method |
/// | of `poll_ready` | not sent | for every method |
/// | of h2, if the server refused the stream | refused | for every method |
/// | of rustls (feature `tls`): a certificate was rejected | not sent | never |
/// | of hyper-util's client, for a request without an absolute URL | not sent | never |
/// | of the request's body; of hyper, for a malformed response | | never |
/// | any other: a timeout of tower or reqwest, an error of another version of hyper | the server may have processed it | for idempotent methods |
///
/// reqwest has to be 0.12 or newer, which uses hyper 1.
///
/// [`CallOptions`](crate::CallOptions) in the extensions of a request replace the settings for it.
///
/// # Timeouts
///
/// - [`attempt_timeout`](RetryConfig::attempt_timeout) limits each attempt until the head of its response. When it elapses,
///   the request counts as sent if the inner service has it, although that may be still connecting. The connect timeout
///   of the client beneath should therefore be shorter.
/// - A timeout of tower or reqwest beneath the layer limits each attempt as well.
/// - A [`deadline`](retry_core::RetryPolicy::deadline) limits the call: better than a timeout above the layer, as there is no wait
///   that would end after it.
///
/// # Bodies
///
/// The body of a request is sent again if it was passed as bytes. A stream is buffered while it is sent, up to
/// [`replay_limit`](RetryConfig::replay_limit); beyond that, there is no other attempt.
///
/// The response of a failed attempt is read to its end and dropped before the wait, so that its connection can be used
/// again, unless it has more than 64 KiB or takes more than a second. A response that is not retried is returned when its
/// head has arrived. If its body breaks afterwards, reading it fails: buffering and resuming is what [`Client`] does.
#[derive(Clone, Debug)]
pub struct RetryLayer(Arc<RetryConfig>);

impl RetryLayer {
    /// Creates a layer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting.
    pub fn new(config: RetryConfig) -> Result<Self, Error> {
        config.validate().map(|config| Self(Arc::new(config)))
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner, config: Arc::clone(&self.0) }
    }
}

/// An HTTP service with retries, created by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: S,
    config: Arc<RetryConfig>,
}

/// The request's body is a [`Body`], rather than generic, so that the compiler can infer the type of a request in
/// `service.ready().await?.call(request)`. Requests with another body are converted by `request.map(Body::new)`.
impl<S, R> Service<Request<Body>> for RetryService<S>
where
    S: Service<Request<Body>, Response = Response<R>, Future: Send, Error: Into<BoxError>>,
    S: Clone + Send + 'static,
    R: http_body::Body<Data: Send, Error: Send> + Send + 'static,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = BoxFuture<R>;

    /// Always ready: each attempt waits for the inner service.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (transport, config) = (ServiceTransport(self.inner.clone()), Arc::clone(&self.config));
        Box::pin(async move {
            let parts = RequestParts::new(request);
            call(transport, &config, None, Ok(parts), |_, response| response).await
        })
    }
}

#[derive(Clone)]
struct ServiceTransport<S>(S);

impl<S, R> Transport for ServiceTransport<S>
where
    S: Service<Request<Body>, Response = Response<R>, Future: Send, Error: Into<BoxError>> + Clone + Send,
    R: Drainable,
{
    type Body = R;

    type Endpoint = ();

    /// The service itself waits.
    fn pick<'a>(
        &mut self,
        _: AttemptRequest<'a>,
    ) -> Result<(), impl Future<Output = Result<(), Failure>> + use<'a, S, R>> {
        Ok::<_, Ready<_>>(())
    }

    fn send<'a>(
        &mut self,
        request: AttemptRequest<'a>,
        (): (),
    ) -> impl Future<Output = Result<BoxResponse<R>, Failure>> + use<'a, S, R> {
        let mut service = self.0.clone();
        async move {
            let server = request.head().uri().authority().map_or("the server", host_and_port);
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| Failure::not_sent(error.into(), server))?;
            let response = service.call(request.message().map(AttemptBody::into_body)).await;
            let response = response.map_err(|error| Failure::exchange(error.into(), server))?;
            let judgment = request.request.judge(response.status(), response.headers(), None);
            Ok(Box::new(JudgedResponse { response, judgment }))
        }
    }
}

/// The client as a service: [`execute`](Client::execute) for requests with a [`Body`]. Requests with another body are
/// converted by `request.map(Body::new)`.
impl Service<Request<Body>> for Client {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = BoxFuture<ResponseBody>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().execute_owned(request))
    }
}
