//! The settings of a client, checked once when it is built.

use std::time::Duration;

use http::HeaderName;
use retry_core::{RetryBudget, RetryPolicy};

use crate::{AttemptEvent, Client, RetryMethods, RetryRules, error::Error, target::Target};

/// Settings that have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) rules: RetryRules,
    /// None is off.
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) http2: bool,
    pub(crate) resume: bool,
    pub(crate) pool_idle_timeout: Duration,
    pub(crate) pool_max_idle: usize,
}

/// Builds a [`Client`]; what is not set keeps its default.
///
/// | setting | default | |
/// |---|---|---|
/// | `timeout` | 30 s | idle: the longest an exchange may make no progress |
/// | `connect_timeout` | 15 s | the longest it may take to connect |
/// | `http2_prior_knowledge` | off | HTTP/2 from the first byte |
/// | `resume` | off | goes on with a GET's body that breaks off |
/// | `pool_idle_timeout` | 90 s | how long a connection without an exchange is kept |
/// | `pool_max_idle` | 64 | how many such connections are kept |
///
/// and those of [`RetryRules`]. The defaults of `timeout` and `connect_timeout` are Ballerina's.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: String,
    rules: RetryRules,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    http2: bool,
    resume: bool,
    pool_idle_timeout: Duration,
    pool_max_idle: usize,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            rules: RetryRules::default(),
            timeout: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(15),
            http2: false,
            resume: false,
            pool_idle_timeout: Duration::from_secs(90),
            pool_max_idle: 64,
        }
    }

    /// Sets everything about retries at once.
    pub fn rules(mut self, rules: RetryRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets how often to retry and how long to wait.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.change(|rules| rules.policy(policy))
    }

    /// Sets the statuses that are retried; see [`RetryRules::status_codes`].
    pub fn status_codes(self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.change(|rules| rules.status_codes(codes))
    }

    /// Sets which methods may be repeated although the server may have processed the request.
    pub fn retry_methods(self, methods: RetryMethods) -> Self {
        self.change(|rules| rules.methods(methods))
    }

    /// Sets a limit on each attempt, connecting included, up to the head of the response (for
    /// [`get_text`](Client::get_text) up to its end). Above zero.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.change(|rules| rules.attempt_timeout(timeout))
    }

    /// Draws every retry on a budget; see [`RetryRules::budget`].
    pub fn budget(self, budget: RetryBudget) -> Self {
        self.change(|rules| rules.budget(budget))
    }

    /// Gives requests of other methods an `Idempotency-Key`; see [`RetryRules::add_idempotency_key`].
    pub fn add_idempotency_key(self, on: bool) -> Self {
        self.change(|rules| rules.add_idempotency_key(on))
    }

    /// Sends the attempt's number, from 1, in this header.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        self.change(|rules| rules.attempt_header(name))
    }

    /// Sets how much of a streamed request body is kept; see [`RetryRules::replay_limit`].
    pub fn replay_limit(self, bytes: usize) -> Self {
        self.change(|rules| rules.replay_limit(bytes))
    }

    /// Sets how much all such bodies together may hold; see [`RetryRules::replay_memory`].
    pub fn replay_memory(self, bytes: usize) -> Self {
        self.change(|rules| rules.replay_memory(bytes))
    }

    /// Sets who is told of each attempt that fails and of each end; see [`RetryRules::observer`].
    pub fn observer(self, observer: impl Fn(&AttemptEvent<'_>) + Send + Sync + 'static) -> Self {
        self.change(|rules| rules.observer(observer))
    }

    fn change(mut self, change: impl FnOnce(RetryRules) -> RetryRules) -> Self {
        self.rules = change(self.rules);
        self
    }

    /// Sets the idle timeout: any byte read or written starts it anew. It starts when the connection is
    /// ready, and goes on while the response body is read. Above zero.
    ///
    /// On HTTP/2, where exchanges share a connection, it is the exchange's own parts that count.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Turns the idle timeout off.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Sets the limit on connecting: name lookup, and every address tried. Above zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Speaks HTTP/2 from the first byte, to a server known to do so.
    pub fn http2_prior_knowledge(mut self, on: bool) -> Self {
        self.http2 = on;
        self
    }

    /// Goes on with the body of a GET that breaks off or stalls, by asking for the rest (`Range`), as often
    /// as the policy has retries. Only where the response has a strong `ETag` to hold the rest to; where
    /// the server won't, or has something else by then, reading fails. No byte comes twice.
    pub fn resume(mut self, on: bool) -> Self {
        self.resume = on;
        self
    }

    /// Sets how long a connection without an exchange is kept. Less than the server's own limit saves
    /// requests from meeting a connection that is just being closed.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool_idle_timeout = timeout;
        self
    }

    /// Sets how many connections without an exchange are kept. Zero keeps none: a connection per attempt.
    pub fn pool_max_idle(mut self, connections: usize) -> Self {
        self.pool_max_idle = connections;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// One that names the setting, the value and what is allowed; its kind is
    /// [`BadInput`](crate::ErrorKind::BadInput).
    pub fn build(self) -> Result<Client, Error> {
        let Self { url, rules, timeout, connect_timeout, http2, resume, pool_idle_timeout, pool_max_idle } = self;
        let limits = [("timeout", timeout), ("connect_timeout", Some(connect_timeout))];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(Duration::ZERO)) {
            return Err(Error::bad_input(format!("{name} is 0: expected a time above zero")));
        }
        let (target, rules) = (Target::parse(&url)?, rules.check()?);
        let config =
            Config { target, rules, timeout, connect_timeout, http2, resume, pool_idle_timeout, pool_max_idle };
        Ok(Client::from_config(config))
    }
}
