//! The settings of a client, checked once when it is built.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{fmt, time::Duration};

use http::HeaderName;
use retry_core::{RetryBudget, RetryPolicy};
use tokio::sync::Semaphore;

#[cfg(feature = "tls")]
use crate::connection::tls::Identity;
use crate::{
    base_url::Target,
    client::Client,
    connection::{
        connect::Connector,
        pool::{Limits, Pool, Protocol},
        proxy::Proxy,
        tls::Tls,
    },
    error::{Error, Redacted},
    request::upload_limit::Uploads,
    response::buffering::ResponseBuffer,
    retry::{attempt_event::AttemptEvent, classify::RetryMethods, config::RetryConfig},
};

/// Settings that have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) proxy: Option<Proxy>,
    /// What connections lead to, for messages.
    pub(crate) place: String,
    pub(crate) rules: RetryConfig,
    pub(crate) resume: bool,
    pub(crate) response_buffer: ResponseBuffer,
    /// If a request's body is read ahead of its connection.
    pub(crate) uploads: Option<Uploads>,
}

/// Builds a [`Client`]; what is not set keeps its default.
///
/// | setting | default | |
/// |---|---|---|
/// | `timeout` | 30 s | idle: the longest an exchange may make no progress |
/// | `connect_timeout` | 15 s | the longest it may take to connect |
/// | `http2_prior_knowledge` | off | HTTP/2 from the first byte |
/// | `preserve_header_case` | off | header names as they came, for requests that are passed on |
/// | `resume` | off | goes on with a GET's body that breaks off |
/// | `response_buffer` | 0 | how many bytes of a response are buffered before it is handed over |
/// | `response_buffer_time` | 100 ms | for how long at most, unless it announces a short length |
/// | `request_buffer_time` | none | how long a streamed request body is read before it takes a connection |
/// | `pool_idle_timeout` | 90 s | how long a connection without an exchange is kept |
/// | `pool_max_idle` | 64 | how many such connections are kept |
/// | `pool_max_connections` | none | how many connections there may be |
/// | `proxy_from_env` | off | goes through the proxy that the environment names |
/// | `ca_file` | none | an authority to trust beside the system's (feature `tls`) |
/// | `client_certificate` | none | who the client is (feature `tls`) |
///
/// and those of [`RetryConfig`]. The defaults of `timeout` and `connect_timeout` are Ballerina's.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: String,
    rules: RetryConfig,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    http2: bool,
    preserve_header_case: bool,
    resume: bool,
    response_buffer: ResponseBuffer,
    request_buffer_time: Option<Duration>,
    pool_idle_timeout: Duration,
    pool_max_idle: usize,
    pool_max_connections: usize,
    proxy_from_env: bool,
    tls: Tls,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            rules: RetryConfig::default(),
            timeout: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(15),
            http2: false,
            preserve_header_case: false,
            resume: false,
            response_buffer: ResponseBuffer { bytes: 0, time: Duration::from_millis(100) },
            request_buffer_time: None,
            pool_idle_timeout: Duration::from_secs(90),
            pool_max_idle: 64,
            pool_max_connections: Semaphore::MAX_PERMITS,
            proxy_from_env: false,
            tls: Tls::default(),
        }
    }

    /// Sets everything about retries at once.
    pub fn retry_config(mut self, rules: RetryConfig) -> Self {
        self.rules = rules;
        self
    }

    /// Sets how often to retry and how long to wait.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.change(|rules| rules.policy(policy))
    }

    /// Sets the statuses that are retried; see [`RetryConfig::status_codes`].
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

    /// Draws every retry on a budget; see [`RetryConfig::budget`].
    pub fn budget(self, budget: RetryBudget) -> Self {
        self.change(|rules| rules.budget(budget))
    }

    /// Gives requests of other methods an `Idempotency-Key`; see [`RetryConfig::add_idempotency_key`].
    pub fn add_idempotency_key(self, on: bool) -> Self {
        self.change(|rules| rules.add_idempotency_key(on))
    }

    /// Sends the attempt's number, from 1, in this header.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        self.change(|rules| rules.attempt_header(name))
    }

    /// Sets how much of a streamed request body is kept; see [`RetryConfig::replay_limit`].
    pub fn replay_limit(self, bytes: usize) -> Self {
        self.change(|rules| rules.replay_limit(bytes))
    }

    /// Sets how much all such bodies together may hold; see [`RetryConfig::replay_memory`].
    pub fn replay_memory(self, bytes: usize) -> Self {
        self.change(|rules| rules.replay_memory(bytes))
    }

    /// Notes in the journal when attempts ran; see [`RetryConfig::timed`].
    pub fn timed(self, on: bool) -> Self {
        self.change(|rules| rules.timed(on))
    }

    /// Sets who is told of each attempt that fails and of each end; see [`RetryConfig::observer`].
    pub fn observer(self, observer: impl Fn(&AttemptEvent<'_>) + Send + Sync + 'static) -> Self {
        self.change(|rules| rules.observer(observer))
    }

    fn change(mut self, change: impl FnOnce(RetryConfig) -> RetryConfig) -> Self {
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

    /// Sets the limit on connecting: name lookup, every address tried, a proxy's tunnel and the TLS
    /// handshake. Above zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Speaks HTTP/2 from the first byte, to a server known to do so. For https, HTTP/2 is all that the
    /// client offers then; without this, the server chooses between it and HTTP/1.1 (ALPN).
    pub fn http2_prior_knowledge(mut self, on: bool) -> Self {
        self.http2 = on;
        self
    }

    /// Sends the names of a request's headers in the case in which they came, if it was received by hyper's server with
    /// the setting of the same name, and keeps that of the response for it. Over HTTP/1.1 alone; names are lower-case
    /// otherwise, which means the same (RFC 9110, section 5.1), but not to everybody.
    pub fn preserve_header_case(mut self, on: bool) -> Self {
        self.preserve_header_case = on;
        self
    }

    /// Goes on with the body of a GET that breaks off or stalls, by asking for the rest (`Range`), as often
    /// as the policy has retries. Only where the response has a strong `ETag` to hold the rest to; where
    /// the server won't, or has something else by then, reading fails. No byte comes twice.
    pub fn resume(mut self, on: bool) -> Self {
        self.resume = on;
        self
    }

    /// Buffers up to this many bytes of a response before it is handed over: one that breaks off or stalls meanwhile is
    /// an attempt that failed, and is retried where that is safe.
    ///
    /// A response that announces a length up to this many bytes, to a request that may be repeated, is buffered until it
    /// is whole. Any other is buffered for [`response_buffer_time`](Self::response_buffer_time) at most, and then handed
    /// over with what has come of it; so is one that turns out to be longer. One that announces a greater length is not
    /// buffered. What is buffered counts towards [`replay_memory`](Self::replay_memory).
    ///
    /// Never buffered are `text/event-stream`, `application/x-ndjson`, `multipart/x-mixed-replace` and
    /// `application/grpc`, and responses to requests that accept nothing else.
    pub fn response_buffer(mut self, bytes: usize) -> Self {
        self.response_buffer.bytes = bytes;
        self
    }

    /// Sets for how long at most a response is buffered that does not announce its length, or is one to a request that
    /// may not be repeated.
    pub fn response_buffer_time(mut self, time: Duration) -> Self {
        self.response_buffer.time = time;
        self
    }

    /// Reads a streamed request body for up to this time before the request takes a connection, until it is whole or no
    /// more of it can be kept: slow senders then take up no connection of a server's. Not for gRPC, upgrades, and
    /// requests with `Expect`, whose senders may wait for the server. Bodies that are still coming then take half of
    /// [`pool_max_connections`](Self::pool_max_connections) at most over HTTP/1.1; a request that finds none of those free
    /// waits as for a connection.
    pub fn request_buffer_time(mut self, time: Duration) -> Self {
        self.request_buffer_time = Some(time);
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

    /// Sets how many connections there may be, those being made included. At least 1. A request that finds none
    /// free waits for one, and the wait counts as connecting: within `connect_timeout`.
    pub fn pool_max_connections(mut self, connections: usize) -> Self {
        self.pool_max_connections = connections;
        self
    }

    /// Goes through the proxy that the environment names, if it does for this server: `HTTP_PROXY` for
    /// `http://`, `HTTPS_PROXY` for `https://`, `ALL_PROXY` for both, but for the hosts, domains and networks
    /// in `NO_PROXY`; in small letters, too. Off unless set: a library should not be led elsewhere by
    /// variables that its program knows nothing of.
    ///
    /// The variables are read once, by [`build`](Self::build), which refuses a proxy that is not for plain
    /// `http://` (SOCKS, https); a value that is no URL counts as none. In a CGI program, where a request can
    /// set `HTTP_PROXY`, all are ignored. A user name and password in the URL are for the proxy alone.
    ///
    /// For `https://`, and for HTTP/2 by prior knowledge, the proxy is asked for a tunnel (`CONNECT`). One
    /// that it refuses with 4xx is not asked for again, but for 408, 425 and 429.
    pub fn proxy_from_env(mut self, on: bool) -> Self {
        self.proxy_from_env = on;
        self
    }

    /// Trusts the authorities in this PEM file, beside the system's. Needs the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca_file = Some(path.into());
        self
    }

    /// Presents a certificate to servers that ask for one. Both are PEM files: the certificate followed by
    /// those that lead up to its authority, and its key, unencrypted. Needs the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn client_certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some(Identity { chain: chain.into(), key: key.into() });
        self
    }

    /// Checks the settings. Reads the files that they name, and for `https://` the system's authorities.
    ///
    /// # Errors
    ///
    /// One that names the setting, the value and what is allowed; its kind is
    /// [`BadInput`](crate::ErrorKind::BadInput).
    pub fn build(self) -> Result<Client, Error> {
        let Self {
            url,
            rules,
            timeout,
            connect_timeout,
            http2,
            preserve_header_case,
            resume,
            response_buffer,
            request_buffer_time,
            pool_idle_timeout,
            pool_max_idle,
            pool_max_connections,
            proxy_from_env,
            tls,
        } = self;
        let limits = [("timeout", timeout), ("connect_timeout", Some(connect_timeout))];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(Duration::ZERO)) {
            return Err(Error::bad_input(format!("{name} is 0: expected a time above zero")));
        }
        if pool_max_connections == 0 {
            return Err(Error::bad_input("pool_max_connections is 0: expected at least 1".to_owned()));
        }
        let pool_max_connections = pool_max_connections.min(Semaphore::MAX_PERMITS);
        let (target, rules) = (Target::parse(&url)?, rules.check()?);
        let server = target.join("/")?;
        let proxy = if proxy_from_env { Proxy::from_env(&server, http2)? } else { None };
        let place = match &proxy {
            Some(proxy) => format!("{} through proxy {proxy}", target.authority()),
            None => target.authority().to_owned(),
        };
        let limits = Limits {
            most: pool_max_connections,
            most_unused: pool_max_idle,
            unused: pool_idle_timeout,
            connecting: connect_timeout,
            silence: timeout,
        };
        let tls = tls.load(target.is_https(), http2)?;
        let connector = Connector::new(server, connect_timeout, proxy.clone(), tls);
        let uploads = request_buffer_time.map(|time| Uploads::new(time, connect_timeout, pool_max_connections));
        let config = Config { target, proxy, place, rules, resume, response_buffer, uploads };
        Ok(Client::from_config(config, Pool::new(connector, limits, Protocol { http2, preserve_header_case })))
    }
}

/// Without the user name and password in the URL.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            rules,
            timeout,
            connect_timeout,
            http2,
            preserve_header_case,
            resume,
            response_buffer,
            request_buffer_time,
            pool_idle_timeout,
            pool_max_idle,
            pool_max_connections,
            proxy_from_env,
            tls,
        } = self;
        f.debug_struct("ClientBuilder")
            .field("url", &format_args!("{}", Redacted(url)))
            .field("rules", rules)
            .field("timeout", timeout)
            .field("connect_timeout", connect_timeout)
            .field("http2", http2)
            .field("preserve_header_case", preserve_header_case)
            .field("resume", resume)
            .field("response_buffer", response_buffer)
            .field("request_buffer_time", request_buffer_time)
            .field("pool_idle_timeout", pool_idle_timeout)
            .field("pool_max_idle", pool_max_idle)
            .field("pool_max_connections", pool_max_connections)
            .field("proxy_from_env", proxy_from_env)
            .field("tls", tls)
            .finish()
    }
}
