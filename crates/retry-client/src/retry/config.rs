//! The retry settings, for any transport.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};
use retry_core::{RetryBudget, RetryPolicy};

use crate::{
    error::Error,
    grpc::{code::GrpcCode, code_set::GrpcCodes},
    request::{buffer_quota::BufferQuota, deadline_header::DeadlineHeader},
    retry::{
        attempt_event::AttemptEvent,
        judge::Judge,
        methods::RetryMethods,
        server_hints::{ServerHint, ServerHints},
    },
};

/// What is retried, and how. [`ClientBuilder`](crate::ClientBuilder) has a method of the same name for each of these
/// settings, and [`RetryLayer`](crate::RetryLayer) has no others. [`CallOptions`](crate::CallOptions) replace some of them
/// for one request.
///
/// | setting | default | |
/// |---|---|---|
/// | `policy` | [`RetryPolicy::default`] | number of retries, backoff, deadline, and the limit on `Retry-After` |
/// | `status_codes` | none | statuses that are retried |
/// | `server_hints` | `Retry-After` | headers in which servers say whether and when to retry |
/// | `grpc_status_codes` | none | status codes of gRPC calls that are retried |
/// | `retry_methods` | idempotent | methods that may be repeated although the server may have processed the request |
/// | `attempt_timeout` | none | timeout of one attempt |
/// | `budget` | none | limit on retries, shared by several calls |
/// | `add_idempotency_key` | off | adds an `Idempotency-Key` to requests of other methods, and repeats them |
/// | `attempt_header` | none | header that carries the number of the attempt |
/// | `deadline_header` | none | header that carries how long the client is going to wait |
/// | `replay_limit` | 64 KiB | bytes of one streamed request body that are buffered for other attempts |
/// | `replay_memory` | 64 MiB | bytes that all these buffers may hold together |
/// | `observer` | none | function that is called after each attempt |
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until a client or layer uses them"]
pub struct RetryConfig {
    pub(crate) policy: RetryPolicy,
    status_codes: Vec<u16>,
    server_hints: ServerHints,
    pub(crate) grpc_codes: GrpcCodes,
    pub(crate) methods: RetryMethods,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) budget: Option<RetryBudget>,
    pub(crate) add_idempotency_key: bool,
    pub(crate) attempt_header: Option<HeaderName>,
    pub(crate) deadline_header: Option<DeadlineHeader>,
    pub(crate) replay_limit: usize,
    pub(crate) buffer_quota: BufferQuota,
    pub(crate) observer: Option<Observer>,
}

#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn Fn(&AttemptEvent<'_>) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl RetryConfig {
    /// Creates the default settings with this policy.
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            status_codes: Vec::new(),
            server_hints: ServerHints::from_iter([ServerHint::RetryAfter]),
            grpc_codes: GrpcCodes::default(),
            methods: RetryMethods::default(),
            attempt_timeout: None,
            budget: None,
            add_idempotency_key: false,
            attempt_header: None,
            deadline_header: None,
            replay_limit: 64 * 1024,
            buffer_quota: BufferQuota::new(64 * 1024 * 1024),
            observer: None,
        }
    }

    /// Sets the number of retries, the waits between them, and the deadline.
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the statuses that are retried, from 100 to 999. After a 429, and after the gRPC code `RESOURCE_EXHAUSTED`, the
    /// waits are at least those of [`RetryPolicy::throttled_interval`], and a retry may cost fewer tokens of a budget.
    pub fn status_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.status_codes = codes.into_iter().collect();
        self
    }

    /// Sets the response headers in which servers say whether and when to retry. A wait replaces the policy's; if it exceeds
    /// [`RetryPolicy::max_retry_after`] or the deadline, the response is returned immediately. If a response has several,
    /// the first one of this list counts. Any header may forbid the retry; for gRPC those in the trailers, too.
    ///
    /// ```
    /// use retry_client::{Client, ServerHint};
    ///
    /// // For an API that sends `x-should-retry` and waits in milliseconds.
    /// let client = Client::builder("https://api.example")
    ///     .status_codes([429, 500, 502, 503, 504])
    ///     .server_hints([ServerHint::ShouldRetry, ServerHint::RetryAfterMs, ServerHint::RetryAfter]);
    /// ```
    pub fn server_hints(mut self, hints: impl IntoIterator<Item = ServerHint>) -> Self {
        self.server_hints = hints.into_iter().collect();
        self
    }

    /// Sets the status codes of gRPC calls that are retried, such as [`GrpcCode::Unavailable`]. List only those with which
    /// your servers say that a call was not processed, or may be repeated: gRPC sends every call as a POST, and these are
    /// repeated if what was read of their request is within [`replay_limit`](Self::replay_limit). The next attempt sends
    /// that, and then the rest.
    ///
    /// A call is one whose request has the content type `application/grpc`, with or without a suffix such as `+proto`. The
    /// code counts if it is in the head of the response (Trailers-Only), or in trailers that are buffered: see
    /// [`ClientBuilder::response_buffer`](crate::ClientBuilder::response_buffer). Failures other than a code are retried as
    /// those of any POST.
    pub fn grpc_status_codes(mut self, codes: impl IntoIterator<Item = GrpcCode>) -> Self {
        self.grpc_codes = codes.into_iter().collect();
        self
    }

    /// Sets which methods may be repeated although the server may have processed the request. A request with an
    /// `Idempotency-Key` may be repeated whatever its method.
    pub fn retry_methods(mut self, methods: RetryMethods) -> Self {
        self.methods = methods;
        self
    }

    /// Sets the timeout of one attempt, until the head of the response has arrived. Must be above zero.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Limits retries by a budget, which other calls may share. Use one budget per server, so that a server that fails
    /// does not use up the retries for another.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Adds an `Idempotency-Key` to requests whose methods are not idempotent, the same for each attempt, and repeats
    /// them. Only for servers that honor the header.
    pub fn add_idempotency_key(mut self, on: bool) -> Self {
        self.add_idempotency_key = on;
        self
    }

    /// Sends the number of the attempt, from 1, in this header.
    pub fn attempt_header(mut self, name: HeaderName) -> Self {
        self.attempt_header = Some(name);
        self
    }

    /// Sends in this header how long the attempt may take, so that the server can give up in time: what is left of the
    /// deadline when the attempt is sent, or the attempt timeout if that is shorter. Without both, there is no such header. A
    /// request that has the header with a shorter time keeps that. A server may apply it to the whole response, streams
    /// included.
    ///
    /// ```
    /// use http::HeaderName;
    /// use retry_client::{Client, RetryPolicy};
    ///
    /// let client = Client::builder("http://localhost:8080")
    ///     .policy(RetryPolicy::interactive()) // with a deadline of 5 s
    ///     .deadline_header(HeaderName::from_static("grpc-timeout"));
    /// ```
    pub fn deadline_header(mut self, header: impl Into<DeadlineHeader>) -> Self {
        self.deadline_header = Some(header.into());
        self
    }

    /// Sets how many bytes of a streamed request body are buffered for other attempts. A request with a longer body is
    /// sent only once. Bodies that were passed as bytes do not count.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// Sets how many bytes may be buffered for all requests together. A request whose body would exceed that is sent
    /// only once.
    pub fn replay_memory(mut self, bytes: usize) -> Self {
        self.buffer_quota = BufferQuota::new(bytes);
        self
    }

    /// Registers an observer, called before each wait and once when the call ends. It must not block.
    pub fn observer(mut self, observer: impl Fn(&AttemptEvent<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Rejects invalid settings.
    pub(crate) fn validate(self) -> Result<Self, Error> {
        if self.attempt_timeout == Some(Duration::ZERO) {
            return Err(Error::bad_input("attempt_timeout is 0: expected a time above zero"));
        }
        if self.grpc_codes.contains(GrpcCode::Ok) {
            return Err(Error::bad_input("grpc_status_codes has OK: expected codes of errors"));
        }
        match self.status_codes.iter().find(|code| StatusCode::from_u16(**code).is_err()) {
            Some(code) => Err(Error::bad_input(format!("status_codes has {code}: expected codes from 100 to 999"))),
            None => Ok(self),
        }
    }

    /// Returns what judges the responses to a request. `grpc_codes` are those for which it is repeated.
    pub(crate) fn judge(&self, grpc_codes: GrpcCodes) -> Judge<'_> {
        Judge { status_codes: &self.status_codes, grpc_codes, hints: self.server_hints }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}
