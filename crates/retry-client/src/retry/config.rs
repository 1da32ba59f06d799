//! What is retried, and how: the settings that hold for any transport.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};
use retry_core::{Retry, RetryBudget, RetryPolicy, TokioRuntime};

use crate::{
    error::Error,
    request::buffer_quota::Memory,
    retry::{attempt_event::AttemptEvent, backoff_gauge::Gauge, classify::RetryMethods},
};

type Observer = Arc<dyn Fn(&AttemptEvent<'_>) + Send + Sync>;

/// What is retried, and how. A [`ClientBuilder`](crate::ClientBuilder) has the same settings as methods
/// of its own; a [`RetryLayer`](crate::RetryLayer) is made of nothing else.
///
/// | setting | default | |
/// |---|---|---|
/// | `policy` | [`RetryPolicy::default`] | how often to retry and how long to wait, with the deadline and the cap on `Retry-After` |
/// | `status_codes` | none | statuses that are retried |
/// | `methods` | idempotent | methods that are repeated though they may have been processed |
/// | `attempt_timeout` | none | the longest one attempt may take |
/// | `budget` | none | a limit on retries that calls share |
/// | `add_idempotency_key` | off | gives requests of other methods an `Idempotency-Key` |
/// | `attempt_header` | none | a header that tells the server the number of the attempt |
/// | `replay_limit` | 64 KiB | how much of one streamed request body is kept for other attempts |
/// | `replay_memory` | 64 MiB | how much all such bodies hold together |
/// | `timed` | off | notes in the journal when attempts ran |
/// | `observer` | none | is told of each attempt that fails, and of each end |
#[derive(Clone)]
pub struct RetryConfig {
    pub(crate) policy: RetryPolicy,
    status_codes: Vec<u16>,
    pub(crate) methods: RetryMethods,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) budget: Option<RetryBudget>,
    pub(crate) add_idempotency_key: bool,
    pub(crate) attempt_header: Option<HeaderName>,
    pub(crate) replay_limit: usize,
    pub(crate) replay_memory: Memory,
    timed: bool,
    /// How many calls wait for their next attempt.
    pub(crate) waits: Gauge,
    pub(crate) observer: Option<Observer>,
}

const REPLAY_LIMIT: usize = 64 * 1024;
const REPLAY_MEMORY: usize = 64 * 1024 * 1024;

impl RetryConfig {
    /// The defaults around a policy.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            status_codes: Vec::new(),
            methods: RetryMethods::default(),
            attempt_timeout: None,
            budget: None,
            add_idempotency_key: false,
            attempt_header: None,
            replay_limit: REPLAY_LIMIT,
            replay_memory: Memory::new(REPLAY_MEMORY),
            timed: false,
            waits: Gauge::default(),
            observer: None,
        }
    }

    /// Sets how often to retry and how long to wait.
    #[must_use]
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the statuses that are retried, from 100 to 999. Their `Retry-After` is honoured, up to
    /// [`RetryPolicy::max_retry_after`] and the deadline; beyond either the response is handed over at once.
    #[must_use]
    pub fn status_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.status_codes = codes.into_iter().collect();
        self
    }

    /// Sets which methods may be repeated although the server may have processed the request. A request
    /// with an `Idempotency-Key` may be, whatever its method.
    #[must_use]
    pub fn methods(mut self, methods: RetryMethods) -> Self {
        self.methods = methods;
        self
    }

    /// Sets a limit on each attempt, up to the head of the response. Above zero.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Draws every retry on a budget, which other calls may share. One budget per server is the usual
    /// choice: a server in trouble should not cost another its retries.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Gives requests of methods that are not idempotent an `Idempotency-Key`, the same at each attempt,
    /// and repeats them on the strength of it. Only for servers that honour the header.
    #[must_use]
    pub fn add_idempotency_key(mut self, on: bool) -> Self {
        self.add_idempotency_key = on;
        self
    }

    /// Sends the attempt's number, from 1, in this header.
    #[must_use]
    pub fn attempt_header(mut self, name: HeaderName) -> Self {
        self.attempt_header = Some(name);
        self
    }

    /// Sets how many bytes of a streamed request body are kept for other attempts. A longer body is sent
    /// all the same, but not again. Bodies given as bytes are not counted: they are there anyway.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// Sets how many bytes all such bodies together may hold; past it, as past the limit of one.
    #[must_use]
    pub fn replay_memory(mut self, bytes: usize) -> Self {
        self.replay_memory = Memory::new(bytes);
        self
    }

    /// Notes in the [`Journal`](crate::Journal) when each attempt ran and how long it took, for two readings of the
    /// clock per attempt. With an observer they are noted anyway.
    #[must_use]
    pub fn timed(mut self, on: bool) -> Self {
        self.timed = on;
        self
    }

    /// Sets who is told of each attempt that fails and of each end, for metrics. It must not block.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&AttemptEvent<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(self) -> Result<Self, Error> {
        if self.attempt_timeout == Some(Duration::ZERO) {
            return Err(Error::bad_input("attempt_timeout is 0: expected a time above zero".to_owned()));
        }
        match self.status_codes.iter().find(|code| StatusCode::from_u16(**code).is_err()) {
            Some(code) => Err(Error::bad_input(format!("status_codes has {code}: expected codes from 100 to 999"))),
            None => Ok(self),
        }
    }

    pub(crate) fn lists(&self, status: StatusCode) -> bool {
        self.status_codes.contains(&status.as_u16())
    }

    /// The engine for one call.
    pub(crate) fn engine(&self) -> Retry<TokioRuntime> {
        let retry = Retry::new(self.policy);
        let retry = if self.timed { retry.timed() } else { retry };
        match &self.budget {
            Some(budget) => retry.budget(budget.clone()),
            None => retry,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}

impl fmt::Debug for RetryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryConfig")
            .field("policy", &self.policy)
            .field("status_codes", &self.status_codes)
            .field("methods", &self.methods)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("budget", &self.budget)
            .field("add_idempotency_key", &self.add_idempotency_key)
            .field("attempt_header", &self.attempt_header)
            .field("replay_limit", &self.replay_limit)
            .field("timed", &self.timed)
            .field("observer", &self.observer.is_some())
            .finish_non_exhaustive()
    }
}
