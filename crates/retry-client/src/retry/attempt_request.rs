//! The request of a call, and how each attempt sends it.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{EXPECT, UPGRADE},
};
use retry_core::Attempt;

use crate::{
    endpoint::route::Route,
    error::Error,
    media_type::is_grpc,
    request::{
        body::Body,
        idempotency_key::{self, IDEMPOTENCY_KEY},
        replay::{ReplayBody, RequestBody, StreamBuffer},
    },
    retry::config::RetryConfig,
};

/// The head and body of a request, as it is passed to a call.
pub(crate) struct RequestParts {
    /// Boxed, as it is moved often.
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: Body,
}

impl RequestParts {
    pub(crate) fn new(request: Request<impl Into<Body>>) -> Self {
        let (head, body) = request.into_parts();
        Self { head: Box::new(Request::from_parts(head, ())), body: body.into() }
    }
}

/// A request that can be sent several times.
pub(crate) struct ReplayableRequest {
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: ReplayBody,
    /// Whether it may be processed twice.
    pub(crate) idempotent: bool,
    /// Whether the current attempt has passed it to a connection.
    sent: AtomicBool,
    /// Where its attempts have gone.
    pub(crate) route: Route,
}

impl ReplayableRequest {
    pub(crate) fn new(config: &RetryConfig, parts: RequestParts) -> Result<Self, Error> {
        let RequestParts { mut head, body } = parts;
        if head.method() == Method::CONNECT {
            return Err(Error::bad_input("method CONNECT: tunnels are not supported"));
        }
        let idempotent = make_idempotent(config, &mut head);
        let body = ReplayBody::new(body, config.replay_limit, &config.buffer_quota);
        Ok(Self { head, body, idempotent, sent: AtomicBool::new(false), route: Route::default() })
    }

    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Relaxed)
    }
}

/// Returns whether the request may be processed twice, after adding an idempotency key if that is configured.
fn make_idempotent(config: &RetryConfig, request: &mut Request<()>) -> bool {
    if request.headers().contains_key(UPGRADE) {
        // What follows a switch of protocols cannot be repeated.
        return false;
    }
    if config.methods.allows(request.method()) || request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return true;
    }
    if config.add_idempotency_key {
        idempotency_key::ensure(request.headers_mut(), fastrand::u128(..));
    }
    config.add_idempotency_key
}

/// The request of one attempt. The message is built only when there is a connection for it, as many requests may wait for
/// one.
#[derive(Clone, Copy)]
pub(crate) struct AttemptRequest<'a> {
    config: &'a RetryConfig,
    request: &'a ReplayableRequest,
    attempt: Attempt,
}

impl<'a> AttemptRequest<'a> {
    pub(crate) fn new(config: &'a RetryConfig, request: &'a ReplayableRequest, attempt: Attempt) -> Self {
        request.sent.store(false, Relaxed);
        Self { config, request, attempt }
    }

    pub(crate) fn head(&self) -> &'a Request<()> {
        &self.request.head
    }

    /// Returns where the attempts of the call have gone.
    pub(crate) fn route(&self) -> &'a Route {
        &self.request.route
    }

    /// Whether a response with this status is a failure of the server, which is retried.
    pub(crate) fn is_failure(&self, status: StatusCode) -> bool {
        status.is_server_error() && self.config.retries_status(status)
    }

    /// Whether the request could be sent again if it got no response.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.request.idempotent && self.request.body.is_replayable() && self.request.body.fits()
    }

    /// Returns the body if it is a stream.
    pub(crate) fn stream(&self) -> Option<&'a Mutex<StreamBuffer>> {
        self.request.body.stream()
    }

    /// Whether the body may be read before there is a connection: for the first attempt, unless the client may wait for
    /// the server before it sends the body.
    pub(crate) fn may_prefetch_body(&self) -> bool {
        let headers = self.request.head.headers();
        self.attempt.number == 1 && !is_grpc(headers) && !headers.keys().any(|name| *name == EXPECT || *name == UPGRADE)
    }

    /// Notes that a connection returned the request unsent.
    pub(crate) fn not_sent(&self) {
        self.request.sent.store(false, Relaxed);
    }

    /// Builds the message, for the connection that sends it now.
    pub(crate) fn message(&self) -> Request<RequestBody> {
        let Self { config, request: ReplayableRequest { head, body, sent, .. }, attempt } = self;
        sent.store(true, Relaxed);
        let mut message = Request::clone(head).map(|()| body.attempt());
        if let Some(name) = &config.attempt_header {
            message.headers_mut().insert(name, HeaderValue::from(attempt.number));
        }
        message
    }
}
