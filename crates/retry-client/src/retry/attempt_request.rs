//! The request of a call, and how each attempt sends it.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{EXPECT, UPGRADE},
};
use retry_core::{Attempt, RetryBudget};
use tokio::time::Instant;

use crate::{
    end_reason::EndReason,
    endpoint::route::Route,
    error::{Error, FailedRequest},
    grpc::code_set::GrpcCodes,
    media_type::{has_grpc_status, is_grpc},
    request::{
        body::Body,
        header_count::check_header_count,
        idempotency_key::{self, IDEMPOTENCY_KEY},
        replay::{AttemptBody, ReplayBody, StreamBuffer},
    },
    retry::{
        attempt_event::WithoutQuery,
        call_options::{CallOptions, CallSettings},
        classify::RequestState,
        config::RetryConfig,
        judge::{Judgment, wall_clock},
    },
};

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
    repeatability: Repeatability,
    /// The gRPC status codes for which it is repeated; none if it is not a gRPC call.
    pub(crate) grpc_codes: GrpcCodes,
    /// When the call has to be over. Set by its first attempt, if a header says how long it may take.
    deadline: OnceLock<Instant>,
    /// Why it is not sent again, once that is decided.
    pub(crate) obstacle: OnceLock<EndReason>,
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
        check_header_count(head.headers().len())?;
        let settings = CallSettings::new(config, options)?;
        let repeatability = Repeatability::of(&settings, &head);
        if repeatability == Repeatability::WithKey {
            idempotency_key::ensure(head.headers_mut(), fastrand::u128(..));
        }
        let body = ReplayBody::new(body, config.replay_limit, &config.buffer_quota);
        let is_grpc =
            repeatability != Repeatability::Never && !config.grpc_codes.is_empty() && has_grpc_status(head.headers());
        let grpc_codes = if is_grpc { config.grpc_codes } else { GrpcCodes::default() };
        Ok(Self {
            settings,
            head,
            body,
            repeatability,
            grpc_codes,
            deadline: OnceLock::new(),
            obstacle: OnceLock::new(),
            sent: AtomicU32::new(0),
            route: Route::default(),
        })
    }

    /// Judges a response by its head and the trailers that have arrived.
    pub(crate) fn judge(&self, http: StatusCode, head: &HeaderMap, trailers: Option<&HeaderMap>) -> Judgment {
        self.settings.config.judge(self.grpc_codes).judge(http, head, trailers, wall_clock)
    }

    /// Whether this is a gRPC call that is repeated if the code in its trailers is listed. That of a client that is still
    /// sending is a stream.
    pub(crate) fn may_depend_on_trailers(&self) -> bool {
        !self.grpc_codes.is_empty() && self.body.is_buffered()
    }

    /// Whether it may be processed twice.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.repeatability, Repeatability::Yes | Repeatability::WithKey)
    }

    /// Adds to an error that it is of this request.
    pub(crate) fn failed(&self, error: Error) -> Error {
        let line = format!("{} {}", self.head.method(), WithoutQuery(self.head.uri()));
        error.of_request(FailedRequest { line, can_be_allowed: self.repeatability == Repeatability::No })
    }

    /// Whether the request could be sent again if it got no response.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_idempotent() && self.body.is_replayable() && self.body.fits()
    }

    /// Returns what is known of it at the end of an attempt.
    pub(crate) fn state(&self) -> RequestState {
        let Self { body, route, .. } = self;
        RequestState {
            idempotent: self.is_idempotent(),
            replayable: body.is_replayable(),
            fully_read: body.is_fully_read(),
            next: route.next_endpoint(),
        }
    }

    /// Returns what is left of the attempt timeout after this time. That until an endpoint is up does not count.
    pub(crate) fn attempt_left(&self, elapsed: Duration) -> Option<Duration> {
        let timeout = self.settings.attempt_timeout()?;
        Some(timeout.saturating_sub(elapsed.saturating_sub(self.route.parked_in_attempt())))
    }

    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Relaxed) > 0
    }
}

/// Whether a request may be processed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeatability {
    Yes,
    /// Once it has an `Idempotency-Key`.
    WithKey,
    /// Only if the server says so.
    No,
    /// Whatever the server says.
    Never,
}

impl Repeatability {
    fn of(settings: &CallSettings<'_>, request: &Request<()>) -> Self {
        let (config, repeatable, headers) = (settings.config, settings.repeatable(), request.headers());
        if repeatable == Some(false) || headers.contains_key(UPGRADE) {
            // What follows a switch of protocols cannot be repeated.
            return Self::Never;
        }
        if config.methods.allows(request.method()) || headers.contains_key(&IDEMPOTENCY_KEY) {
            Self::Yes
        } else if config.add_idempotency_key {
            Self::WithKey
        } else if repeatable == Some(true) {
            Self::Yes
        } else {
            Self::No
        }
    }
}

/// The request of one attempt. The message is built only when there is a connection for it, as many requests may wait for
/// one.
#[derive(Clone, Copy)]
pub(crate) struct AttemptRequest<'a> {
    pub(crate) request: &'a ReplayableRequest<'a>,
    /// The number of the attempt, from 1.
    number: u32,
    /// When the attempt began; `None` if no header says how long it may take.
    began: Option<Instant>,
}

impl<'a> AttemptRequest<'a> {
    pub(crate) fn new(request: &'a ReplayableRequest<'a>, attempt: Attempt) -> Self {
        request.sent.store(0, Relaxed);
        let began = request.settings.config.deadline_header.as_ref().map(|_| Instant::now());
        if let Some(deadline) = began.zip(attempt.remaining).and_then(|(began, left)| began.checked_add(left)) {
            request.deadline.get_or_init(|| deadline);
        }
        Self { request, number: attempt.number, began }
    }

    pub(crate) fn head(&self) -> &'a Request<()> {
        &self.request.head
    }

    /// Returns where the attempts of the call have gone.
    pub(crate) fn route(&self) -> &'a Route {
        &self.request.route
    }

    /// Whether the request could be sent again if it got no response.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.request.is_repeatable()
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

    /// Returns how long the attempt may still take; `None` if it is not limited. Its timeout does not count the time until
    /// an endpoint is up.
    fn time_left(&self) -> Option<Duration> {
        let (began, now) = (self.began?, Instant::now());
        let until_deadline = self.request.deadline.get().map(|deadline| deadline.saturating_duration_since(now));
        let until_timeout = self.request.attempt_left(now - began);
        until_deadline.into_iter().chain(until_timeout).min()
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
