//! The settings of a client, checked once when it is built.

use std::time::Duration;

use http::StatusCode;
use retry_core::RetryPolicy;

use crate::{Client, RetryMethods, error::Error, target::Target};

/// Settings that have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) policy: RetryPolicy,
    /// None is off.
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) status_codes: Vec<StatusCode>,
    pub(crate) retry_methods: RetryMethods,
    pub(crate) replay_limit: usize,
    pub(crate) http2: bool,
}

/// Builds a [`Client`]; what is not set keeps its default.
///
/// | setting | default | |
/// |---|---|---|
/// | `retry` | [`RetryPolicy::default`] | how often to retry and how long to wait |
/// | `timeout` | 30 s | idle: the longest an exchange may make no progress |
/// | `attempt_timeout` | none | the longest one attempt may take, connecting included |
/// | `connect_timeout` | 15 s | the longest it may take to connect |
/// | `status_codes` | none | statuses that are retried |
/// | `retry_methods` | idempotent | methods that are repeated though they may have been processed |
/// | `replay_limit` | 64 KiB | how much of a streamed request body is kept for other attempts |
/// | `http2_prior_knowledge` | off | HTTP/2 from the first byte |
///
/// The defaults of `timeout` and `connect_timeout` are Ballerina's.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: String,
    policy: RetryPolicy,
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    connect_timeout: Duration,
    status_codes: Vec<u16>,
    retry_methods: RetryMethods,
    replay_limit: usize,
    http2: bool,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            policy: RetryPolicy::default(),
            timeout: Some(Duration::from_secs(30)),
            attempt_timeout: None,
            connect_timeout: Duration::from_secs(15),
            status_codes: Vec::new(),
            retry_methods: RetryMethods::default(),
            replay_limit: 64 * 1024,
            http2: false,
        }
    }

    /// Sets how often to retry and how long to wait.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
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

    /// Sets a limit on each attempt, connecting included, up to the head of the response (for
    /// [`get_text`](Client::get_text) up to its end). Above zero.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Sets the limit on connecting: name lookup, and every address tried. Above zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the statuses that are retried, from 100 to 999.
    pub fn status_codes(mut self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.status_codes = codes.into_iter().collect();
        self
    }

    /// Sets which methods may be repeated although the server may have processed the request.
    pub fn retry_methods(mut self, methods: RetryMethods) -> Self {
        self.retry_methods = methods;
        self
    }

    /// Sets how many bytes of a streamed request body are kept for other attempts. A longer body is sent
    /// all the same, but not again.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// Speaks HTTP/2 from the first byte, to a server known to do so.
    pub fn http2_prior_knowledge(mut self, on: bool) -> Self {
        self.http2 = on;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// One that names the setting, the value and what is allowed; its kind is
    /// [`BadInput`](crate::ErrorKind::BadInput).
    pub fn build(self) -> Result<Client, Error> {
        let Self {
            url,
            policy,
            timeout,
            attempt_timeout,
            connect_timeout,
            status_codes,
            retry_methods,
            replay_limit,
            http2,
        } = self;
        let limits =
            [("timeout", timeout), ("attempt_timeout", attempt_timeout), ("connect_timeout", Some(connect_timeout))];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(Duration::ZERO)) {
            return Err(Error::bad_input(format!("{name} is 0: expected a time above zero")));
        }
        let status = |code| {
            let refused = |_| Error::bad_input(format!("status_codes has {code}: expected codes from 100 to 999"));
            StatusCode::from_u16(code).map_err(refused)
        };
        let status_codes = status_codes.into_iter().map(status).collect::<Result<_, _>>()?;
        Ok(Client::from_config(Config {
            target: Target::parse(&url)?,
            policy,
            timeout,
            attempt_timeout,
            connect_timeout,
            status_codes,
            retry_methods,
            replay_limit,
            http2,
        }))
    }
}
