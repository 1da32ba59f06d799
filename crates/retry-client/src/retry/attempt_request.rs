//! The request of a call, and how each attempt sends it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{EXPECT, UPGRADE},
};
use retry_core::{Attempt, RetryBudget};
use tokio::time::Instant;

use crate::{
    endpoint::route::Route,
    error::Error,
    grpc::{code::GrpcCode, code_set::GrpcCodes},
    media_type::{has_grpc_status, is_grpc},
    request::{
        body::Body,
        idempotency_key::{self, IDEMPOTENCY_KEY},
        replay::{AttemptBody, ReplayBody, StreamBuffer},
    },
    retry::{
        call_options::{CallOptions, CallSettings},
        classify::RequestState,
        config::RetryConfig,
        response_status::ResponseStatus,
    },
};

/// Returns the trailers of a response that have arrived.
pub(crate) type GetTrailers<B> = fn(&B) -> Option<&HeaderMap>;

/// The head and body of a request, as it is passed to a call.
pub(crate) struct RequestParts {
    /// Boxed, as it is moved often.
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: Body,
    /// Boxed, as few requests have any.
    pub(crate) options: Option<Box<CallOptions>>,
}

impl RequestParts {
    pub(crate) fn new(request: Request<Body>) -> Self {
        let (mut head, body) = request.into_parts();
        let options = head.extensions.remove().map(Box::new);
        Self { head: Box::new(Request::from_parts(head, ())), body, options }
    }
}

/// A request that can be sent several times.
pub(crate) struct ReplayableRequest<'a> {
    pub(crate) settings: CallSettings<'a>,
    pub(crate) head: Box<Request<()>>,
    pub(crate) body: ReplayBody,
    /// Whether it may be processed twice.
    pub(crate) idempotent: bool,
    /// The gRPC status codes that are retried; none if it is not a gRPC call.
    grpc_codes: GrpcCodes,
    /// To how many connections the current attempt has passed it.
    sent: AtomicU32,
    /// Where its attempts have gone.
    pub(crate) route: Route,
}

impl<'a> ReplayableRequest<'a> {
    pub(crate) fn new(config: &'a RetryConfig, parts: RequestParts) -> Result<Self, Error> {
        let RequestParts { mut head, body, options } = parts;
        if head.method() == Method::CONNECT {
            return Err(Error::bad_input("method CONNECT: tunnels are not supported"));
        }
        let settings = CallSettings::new(config, options)?;
        let idempotent = make_idempotent(&settings, &mut head);
        let body = ReplayBody::new(body, config.replay_limit, &config.buffer_quota);
        // `repeatable(false)` is stronger than a list of the client.
        let is_grpc =
            settings.repeatable() != Some(false) && !config.grpc_codes.is_empty() && has_grpc_status(head.headers());
        let grpc_codes = if is_grpc { config.grpc_codes } else { GrpcCodes::default() };
        Ok(Self { settings, head, body, idempotent, grpc_codes, sent: AtomicU32::new(0), route: Route::default() })
    }

    /// Returns the status of a response. `trailers` returns those that have arrived.
    pub(crate) fn status<B>(&self, response: &Response<B>, trailers: GetTrailers<B>) -> ResponseStatus {
        let grpc = || GrpcCode::of(trailers(response.body()).unwrap_or(response.headers()));
        ResponseStatus { http: response.status(), grpc: if self.grpc_codes.is_empty() { None } else { grpc() } }
    }

    /// Whether a response with this status is retried for its gRPC code.
    pub(crate) fn is_grpc_retried(&self, status: ResponseStatus) -> bool {
        status.grpc.is_some_and(|code| self.grpc_codes.contains(code))
    }

    /// Returns what is known of it at the end of an attempt.
    pub(crate) fn state(&self) -> RequestState {
        let Self { body, idempotent, route, .. } = self;
        RequestState {
            idempotent: *idempotent,
            replayable: body.is_replayable(),
            fully_read: body.is_fully_read(),
            next: route.next_endpoint(),
        }
    }

    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Relaxed) > 0
    }
}

/// Returns whether the request may be processed twice, after adding an idempotency key if that is configured.
fn make_idempotent(settings: &CallSettings<'_>, request: &mut Request<()>) -> bool {
    if request.headers().contains_key(UPGRADE) {
        // What follows a switch of protocols cannot be repeated.
        return false;
    }
    let (config, repeatable) = (settings.config, settings.repeatable());
    if repeatable == Some(false) {
        return false;
    }
    if config.methods.allows(request.method()) || request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return true;
    }
    if config.add_idempotency_key {
        idempotency_key::ensure(request.headers_mut(), fastrand::u128(..));
    }
    config.add_idempotency_key || repeatable == Some(true)
}

/// The request of one attempt. The message is built only when there is a connection for it, as many requests may wait for
/// one.
#[derive(Clone, Copy)]
pub(crate) struct AttemptRequest<'a> {
    request: &'a ReplayableRequest<'a>,
    /// The number of the attempt, from 1.
    number: u32,
    /// When the call has to be over; `None` if no header says so.
    deadline: Option<Instant>,
}

impl<'a> AttemptRequest<'a> {
    pub(crate) fn new(request: &'a ReplayableRequest<'a>, attempt: Attempt) -> Self {
        request.sent.store(0, Relaxed);
        let left = request.settings.config.deadline_header.as_ref().and(attempt.remaining);
        let deadline = left.and_then(|left| Instant::now().checked_add(left));
        Self { request, number: attempt.number, deadline }
    }

    pub(crate) fn head(&self) -> &'a Request<()> {
        &self.request.head
    }

    /// Returns where the attempts of the call have gone.
    pub(crate) fn route(&self) -> &'a Route {
        &self.request.route
    }

    /// Returns the status of a response. `trailers` returns those that have arrived.
    pub(crate) fn status<B>(&self, response: &Response<B>, trailers: GetTrailers<B>) -> ResponseStatus {
        self.request.status(response, trailers)
    }

    /// Whether a response with this status is a failure of the server, which is retried.
    pub(crate) fn is_failure(&self, status: ResponseStatus) -> bool {
        status.http.is_server_error() && self.request.settings.config.retries_status(status.http)
            || status.grpc.is_some_and(GrpcCode::is_server_error) && self.request.is_grpc_retried(status)
    }

    /// Whether a response with this status is retried.
    pub(crate) fn is_retried(&self, status: ResponseStatus) -> bool {
        self.request.settings.config.retries_status(status.http) || self.request.is_grpc_retried(status)
    }

    /// Returns the gRPC status codes that are failures of the server and retried; none if this is not a gRPC call.
    pub(crate) fn grpc_failures(&self) -> GrpcCodes {
        self.request.grpc_codes.server_errors()
    }

    /// Whether this is a gRPC call that is repeated if the code in its trailers is listed. That of a client that is still
    /// sending is a stream.
    pub(crate) fn may_depend_on_trailers(&self) -> bool {
        !self.request.grpc_codes.is_empty() && self.has_body_buffered()
    }

    /// Whether the request could be sent again if it got no response.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.request.idempotent && self.request.body.is_replayable() && self.request.body.fits()
    }

    /// Whether it may be sent to a second endpoint if its response takes long: in the first attempt of a request that may
    /// be repeated. After a failure, the policy decides about further requests.
    pub(crate) fn may_be_hedged(&self) -> bool {
        self.number == 1 && self.is_repeatable() && !is_grpc(self.request.head.headers())
    }

    /// Whether its body can be sent a second time now.
    pub(crate) fn has_body_buffered(&self) -> bool {
        self.request.body.is_buffered()
    }

    /// Returns the budget for retries.
    pub(crate) fn budget(&self) -> Option<&'a RetryBudget> {
        self.request.settings.budget()
    }

    /// Returns the body if it is a stream.
    pub(crate) fn stream(&self) -> Option<&'a Mutex<StreamBuffer>> {
        self.request.body.stream()
    }

    /// Whether the body may be read before there is a connection: for the first attempt, unless the client may wait for
    /// the server before it sends the body.
    pub(crate) fn may_prefetch_body(&self) -> bool {
        let headers = self.request.head.headers();
        self.number == 1 && !is_grpc(headers) && !headers.keys().any(|name| *name == EXPECT || *name == UPGRADE)
    }

    /// Notes that a connection returned the request unsent.
    pub(crate) fn not_sent(&self) {
        self.request.sent.fetch_sub(1, Relaxed);
    }

    /// Returns how long the attempt may still take; `None` if it is not limited.
    fn time_left(&self) -> Option<Duration> {
        let until_deadline = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        until_deadline.into_iter().chain(self.request.settings.attempt_timeout()).min()
    }

    /// Builds the message, for the connection that sends it now.
    pub(crate) fn message(&self) -> Request<AttemptBody> {
        let Self { request: ReplayableRequest { settings, head, body, sent, .. }, number, .. } = self;
        sent.fetch_add(1, Relaxed);
        let mut message = Request::clone(head).map(|()| body.attempt());
        if let Some(name) = &settings.config.attempt_header {
            message.headers_mut().insert(name, HeaderValue::from(*number));
        }
        if let Some(header) = &settings.config.deadline_header
            && let Some(left) = self.time_left()
            // A shorter time of the caller's own is what it is going to wait.
            && header.read(message.headers()).is_none_or(|own| left < own)
        {
            message.headers_mut().insert(header.name(), header.value(left));
        }
        message
    }
}
