//! A request on its way into a call: what is known of it, and what each attempt sends.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{EXPECT, UPGRADE},
};
use retry_core::Attempt;

use crate::{
    error::Error,
    request::{
        body::Body,
        idempotency_key::{self, IDEMPOTENCY_KEY},
        replay::{Replay, RequestBody, Stream},
    },
    response::buffering::is_grpc,
    retry::{config::RetryConfig, failure::Fate},
};

/// A request as its caller gives it.
pub(crate) struct Given {
    /// On the heap, as it passes through many hands.
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: Body,
}

impl Given {
    pub(crate) fn new(request: Request<impl Into<Body>>) -> Self {
        let (head, body) = request.into_parts();
        Self { head: Box::new(Request::from_parts(head, ())), body: body.into() }
    }
}

/// A request, and what is to be known of it before the first attempt.
pub(crate) struct Prepared {
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: Replay,
    /// Whether it may be processed twice.
    pub(crate) idempotent: bool,
    /// Whether the attempt under way has handed it to a connection.
    sent: AtomicBool,
}

impl Prepared {
    pub(crate) fn new(rules: &RetryConfig, given: Given) -> Result<Self, Error> {
        let Given { mut head, body } = given;
        if head.method() == Method::CONNECT {
            return Err(Error::bad_input("method CONNECT: a tunnel is no request that could be retried".to_owned()));
        }
        let idempotent = prepare(rules, &mut head);
        let body = Replay::new(body, rules.replay_limit, &rules.replay_memory);
        Ok(Self { head, body, idempotent, sent: AtomicBool::new(false) })
    }

    /// What is known of the request when a limit on time cuts its attempt.
    pub(crate) fn fate_when_cut(&self) -> Fate {
        if self.sent.load(Relaxed) { Fate::TimedOut } else { Fate::NeverSent }
    }
}

/// Whether the request may be processed twice; gives it a key to make it so where that is asked for.
fn prepare(rules: &RetryConfig, request: &mut Request<()>) -> bool {
    if request.headers().contains_key(UPGRADE) {
        // What follows a switch of protocols is not HTTP's to repeat.
        return false;
    }
    let idempotent = is_idempotent(rules, request.method(), request.headers());
    if rules.add_idempotency_key && !idempotent {
        idempotency_key::ensure(request.headers_mut(), || fastrand::u128(..));
    }
    idempotent || rules.add_idempotency_key
}

/// Whether a request may be processed twice as it is.
fn is_idempotent(rules: &RetryConfig, method: &Method, headers: &HeaderMap) -> bool {
    rules.methods.allow(method) || headers.contains_key(&IDEMPOTENCY_KEY)
}

/// One attempt at sending a request, which is written out only once there is something to send it over: a great many
/// may wait for that.
pub(crate) struct Sending<'a> {
    rules: &'a RetryConfig,
    pub(crate) prepared: &'a Prepared,
    attempt: Attempt,
}

impl<'a> Sending<'a> {
    /// An attempt that has sent nothing yet.
    pub(crate) fn new(rules: &'a RetryConfig, prepared: &'a Prepared, attempt: Attempt) -> Self {
        prepared.sent.store(false, Relaxed);
        Self { rules, prepared, attempt }
    }

    /// Whether the request could be sent again if it got no response.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.prepared.idempotent && self.prepared.body.can_repeat() && self.prepared.body.fits()
    }

    /// The body, if it is read from somewhere.
    pub(crate) fn stream(&self) -> Option<&'a Mutex<Stream>> {
        self.prepared.body.stream()
    }

    /// Whether the body may be read ahead of the connection: for the first attempt, and not where its sender may wait for
    /// the server.
    pub(crate) fn may_read_ahead(&self) -> bool {
        let headers = self.prepared.head.headers();
        let waits = |name: &HeaderName| *name == EXPECT || *name == UPGRADE;
        self.attempt.number == 1 && !is_grpc(headers) && !headers.keys().any(waits)
    }

    /// Notes that a connection has handed the request back, unsent.
    pub(crate) fn came_back(&self) {
        self.prepared.sent.store(false, Relaxed);
    }

    /// The request as this attempt sends it, for the connection that takes it now.
    pub(crate) fn request(&self) -> Request<RequestBody> {
        let Self { rules, prepared: Prepared { head, body, sent, .. }, attempt } = self;
        sent.store(true, Relaxed);
        let mut request = Request::new(body.attempt());
        *request.method_mut() = head.method().clone();
        *request.uri_mut() = head.uri().clone();
        *request.version_mut() = head.version();
        *request.headers_mut() = head.headers().clone();
        if !head.extensions().is_empty() {
            *request.extensions_mut() = head.extensions().clone();
        }
        if let Some(name) = &rules.attempt_header {
            request.headers_mut().insert(name, HeaderValue::from(attempt.number));
        }
        request
    }
}
