//! The same rules for tower stacks: a layer over any HTTP service, and the client as a service.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    client::Client,
    error::Error,
    error_chain::BoxError,
    request::{
        attempt_request::{Given, Sending},
        body::Body,
        replay::RequestBody,
    },
    response::body::ResponseBody,
    retry::{
        config::RetryConfig,
        failure::Failure,
        retry_loop::{Discardable, Transport, call},
    },
};

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Error>> + Send>>;

/// A tower layer that retries the HTTP service beneath it by [`RetryConfig`].
///
/// The service beneath takes `Request<`[`RequestBody`]`>` and is cloned for each attempt. What became
/// of a request that failed is read from hyper's errors in its error's chain of sources; where there is
/// none of hyper's, the request counts as one that may have been processed.
///
/// ```
/// use retry_client::{RetryLayer, RetryPolicy, RetryConfig};
///
/// let layer = RetryLayer::new(RetryConfig::new(RetryPolicy::SAMPLE).status_codes([502, 503, 504]))?;
/// # Ok::<(), retry_client::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer(RetryConfig);

impl RetryLayer {
    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense; the message names it.
    pub fn new(rules: RetryConfig) -> Result<Self, Error> {
        rules.check().map(Self)
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> RetryService<S> {
        RetryService { inner, rules: self.0.clone() }
    }
}

/// An HTTP service with retries; made by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: S,
    rules: RetryConfig,
}

impl<S, B, R> Service<Request<B>> for RetryService<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>, Future: Send, Error: Into<BoxError>>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    R: http_body::Body<Data: Send, Error: Send> + Send + 'static,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = Answer<R>;

    /// Always ready: it is the attempts that wait for the service beneath.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, rules) = (Inner(self.inner.clone()), self.rules.clone());
        Box::pin(async move { call(inner, &rules, Ok(Given::new(request.map(Body::new)))).await })
    }
}

/// A service as a transport.
struct Inner<S>(S);

impl<S, R> Transport for Inner<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>, Error: Into<BoxError>> + Clone,
    R: Discardable,
{
    type Body = R;

    fn send<'a>(
        &mut self,
        sending: Sending<'a>,
    ) -> impl Future<Output = Result<Box<Response<R>>, Failure>> + use<'a, S, R> {
        let mut service = self.0.clone();
        async move {
            let authority = sending.prepared.head.uri().authority();
            let failure =
                |error: BoxError| Failure::of(error, authority.map_or("the server", |authority| authority.as_str()));
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| failure(error.into()))?;
            service.call(sending.request()).await.map(Box::new).map_err(|error| failure(error.into()))
        }
    }
}

/// The client as a service: [`execute`](Client::execute), for requests with any body.
impl<B> Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = Answer<ResponseBody>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.execute(request.map(Body::new)).await })
    }
}
