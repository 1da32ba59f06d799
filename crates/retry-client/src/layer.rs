//! Retries in tower stacks: a layer over any HTTP service, and the client as a service.

use std::{
    future::{Ready, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, uri::Authority};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    client::Client,
    error::Error,
    error_chain::BoxError,
    request::{body::Body, replay::AttemptBody},
    response::body::ResponseBody,
    retry::{
        attempt_request::{AttemptRequest, RequestParts},
        config::RetryConfig,
        failure::Failure,
        retry_loop::{BoxResponse, Drainable, Transport, call},
    },
};

type BoxFuture<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>;

/// A tower layer that adds retries to an HTTP service, by a [`RetryConfig`].
///
/// The inner service takes `Request<`[`Body`]`>` and is cloned for each attempt. If it fails, the layer searches
/// the chain of sources for an error of hyper or h2 that shows what happened to the request. Without one, it assumes
/// that the server may have processed the request.
///
/// ```
/// use retry_client::{RetryConfig, RetryLayer, RetryPolicy};
///
/// let layer = RetryLayer::new(RetryConfig::new(RetryPolicy::interactive()).status_codes([502, 503, 504]))?;
/// # Ok::<(), retry_client::Error>(())
/// ```
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
            call(transport, &config, Ok(parts), |_, response| response).await
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
            let server = request.head().uri().authority().map_or("the server", Authority::as_str);
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| Failure::not_sent(error.into(), server))?;
            let response = service.call(request.message().map(AttemptBody::into_body)).await;
            response.map(Box::new).map_err(|error| Failure::exchange(error.into(), server))
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
