//! The builder of a client.

#[cfg(feature = "tls-no-provider")]
use std::path::PathBuf;
use std::{io, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use retry_core::{RetryBudget, RetryPolicy};
#[cfg(feature = "tls-no-provider")]
use rustls::ClientConfig;
use tokio::sync::Semaphore;

#[cfg(feature = "tls-no-provider")]
use crate::connection::{pem::Pem, tls::ClientCertificate};
use crate::{
    base_url::{BaseUrl, Redacted},
    client::{Client, Inner},
    connection::{pool::PoolConfig, proxy::Proxy, resolver::Resolver, tls::TlsSettings, upload_limit::UploadLimit},
    endpoint::{
        config::EndpointConfig,
        endpoints::Endpoints,
        origin::{EndpointIds, Origin},
        refresh::Refresh,
        set::EndpointSet,
    },
    error::Error,
    exchange_observer::{ExchangeObserver, Observing},
    grpc::code::GrpcCode,
    hedge::{after::HedgeAfter, delay::HedgeDelay},
    request::{deadline_header::DeadlineHeader, default_headers::DefaultHeaders},
    response::buffering::BufferLimits,
    retry::{
        attempt_event::AttemptEvent, backoff_gauge::BackoffGauge, config::RetryConfig, methods::RetryMethods,
        server_hints::ServerHint,
    },
    transport::HttpTransport,
};

/// Builds a [`Client`].
///
/// | setting | default | |
/// |---|---|---|
/// | `timeout` | 30 s | idle timeout: how long an exchange may make no progress |
/// | `connect_timeout` | 15 s | how long connecting may take |
/// | `http2_prior_knowledge` | off | uses HTTP/2 without negotiation |
/// | `preserve_header_case` | off | keeps the case of header names in forwarded requests |
/// | `resume` | off | resumes incomplete response bodies of GET requests |
/// | `response_buffer` | 0 | how many bytes of a response are buffered before it is returned |
/// | `response_buffer_time` | 100 ms | how long a response is buffered if it does not announce its length |
/// | `response_limit` | 16 MiB | maximum size of a response body that is read as a whole |
/// | `default_headers` | none | headers for requests that do not have them |
/// | `request_buffer_time` | none | how long a streamed request body is buffered before the request takes a connection |
/// | `pool_idle_timeout` | 90 s | how long an idle connection is kept |
/// | `pool_max_idle` | 64 | maximum number of idle connections |
/// | `pool_max_connections` | none | maximum number of connections |
/// | `pool_max_connection_age` | none | after which time a connection is replaced |
/// | `endpoint` | none | another server for the same requests; may be called several times |
/// | `outage_wait` | off | how long a call may wait while no endpoint is up |
/// | `eject_after`, `max_ejected` | 5, 0.5 | when an endpoint gets no requests, and which share of them at most |
/// | `slow_start` | 5 s | how long it takes until an endpoint that came back gets its full share |
/// | `dns_refresh`, `resolver` | off, the system | how often names are resolved again, each address an endpoint, and by what |
/// | `hedge_after` | none | after which time a request is sent to a second endpoint as well |
/// | `exchange_observer` | none | observes each request on its connection, and its response to the last byte |
/// | `proxy_from_env` | off | uses the proxy that the environment names |
/// | `ca_file`, `ca_pem` | none | trusted certificates in addition to the system's (feature `tls`) |
/// | `client_certificate`, `client_certificate_pem` | none | certificate of the client (feature `tls`) |
/// | `tls_config` | none | a configuration of rustls, which replaces these settings (feature `tls`) |
///
/// There is also a method for each setting of [`RetryConfig`]. The defaults of `timeout` and `connect_timeout` are
/// Ballerina's.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    url: Redacted<String>,
    more_urls: Vec<Redacted<String>>,
    endpoints: EndpointConfig,
    hedge_after: Option<HedgeAfter>,
    resolver: Resolver,
    retry_config: RetryConfig,
    pool: PoolConfig,
    resume: bool,
    response_buffer: BufferLimits,
    request_buffer_time: Option<Duration>,
    response_limit: usize,
    default_headers: Option<DefaultHeaders>,
    proxy_from_env: bool,
    tls: TlsSettings,
}

impl Client {
    /// Creates a client with the [default settings](ClientBuilder).
    ///
    /// # Errors
    ///
    /// Returns an error if `base_url` is not a URL like `http://host:port` or `http://host/prefix`.
    pub fn new(base_url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(base_url).build()
    }

    /// Creates a builder with the default settings.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: Redacted(base_url.into()),
            more_urls: Vec::new(),
            endpoints: EndpointConfig::default(),
            hedge_after: None,
            resolver: Resolver::default(),
            retry_config: RetryConfig::default(),
            pool: PoolConfig {
                max_connections: Semaphore::MAX_PERMITS,
                max_age: None,
                max_idle: 64,
                idle_timeout: Duration::from_secs(90),
                connect_timeout: Duration::from_secs(15),
                stall_timeout: Some(Duration::from_secs(30)),
                http2: false,
                preserve_header_case: false,
            },
            resume: false,
            response_buffer: BufferLimits::default(),
            request_buffer_time: None,
            response_limit: 16 * 1024 * 1024,
            default_headers: None,
            proxy_from_env: false,
            tls: TlsSettings::default(),
        }
    }
}

impl ClientBuilder {
    /// Sets all retry settings at once.
    pub fn retry_config(mut self, config: RetryConfig) -> Self {
        self.retry_config = config;
        self
    }

    /// Sets the number of retries, the waits between them, and the deadline.
    pub fn policy(self, policy: RetryPolicy) -> Self {
        self.configure_retries(|config| config.policy(policy))
    }

    /// Sets the status codes of gRPC calls that are retried; see [`RetryConfig::grpc_status_codes`].
    pub fn grpc_status_codes(self, codes: impl IntoIterator<Item = GrpcCode>) -> Self {
        self.configure_retries(|config| config.grpc_status_codes(codes))
    }

    /// Sets the statuses that are retried; see [`RetryConfig::status_codes`].
    pub fn status_codes(self, codes: impl IntoIterator<Item = u16>) -> Self {
        self.configure_retries(|config| config.status_codes(codes))
    }

    /// Sets the response headers in which servers say whether and when to retry; see [`RetryConfig::server_hints`].
    pub fn server_hints(self, hints: impl IntoIterator<Item = ServerHint>) -> Self {
        self.configure_retries(|config| config.server_hints(hints))
    }

    /// Sets which methods may be repeated although the server may have processed the request.
    pub fn retry_methods(self, methods: RetryMethods) -> Self {
        self.configure_retries(|config| config.retry_methods(methods))
    }

    /// Sets the timeout of one attempt, including connecting, until the head of the response has arrived, or with
    /// [`RequestBuilder::text`](crate::RequestBuilder::text) and its siblings until its body has. Must be above zero.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.configure_retries(|config| config.attempt_timeout(timeout))
    }

    /// Limits retries by a budget; see [`RetryConfig::budget`].
    pub fn budget(self, budget: RetryBudget) -> Self {
        self.configure_retries(|config| config.budget(budget))
    }

    /// Adds an `Idempotency-Key` to requests of other methods; see [`RetryConfig::add_idempotency_key`].
    pub fn add_idempotency_key(self, on: bool) -> Self {
        self.configure_retries(|config| config.add_idempotency_key(on))
    }

    /// Sends the number of the attempt, from 1, in this header.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        self.configure_retries(|config| config.attempt_header(name))
    }

    /// Sends in this header how long the attempt may take; see [`RetryConfig::deadline_header`].
    pub fn deadline_header(self, header: impl Into<DeadlineHeader>) -> Self {
        self.configure_retries(|config| config.deadline_header(header))
    }

    /// Sets how many bytes of a streamed request body are buffered; see [`RetryConfig::replay_limit`].
    pub fn replay_limit(self, bytes: usize) -> Self {
        self.configure_retries(|config| config.replay_limit(bytes))
    }

    /// Sets how many bytes may be buffered together; see [`RetryConfig::replay_memory`].
    pub fn replay_memory(self, bytes: usize) -> Self {
        self.configure_retries(|config| config.replay_memory(bytes))
    }

    /// Registers an observer, called before each wait and once when the call ends; see [`RetryConfig::observer`].
    pub fn observer(self, observer: impl Fn(&AttemptEvent<'_>) + Send + Sync + 'static) -> Self {
        self.configure_retries(|config| config.observer(observer))
    }

    fn configure_retries(mut self, configure: impl FnOnce(RetryConfig) -> RetryConfig) -> Self {
        self.retry_config = configure(self.retry_config);
        self
    }

    /// Sets the idle timeout: how long an exchange may make no progress. It starts when the connection is ready, any
    /// byte read or written restarts it, and it applies until the end of the response body. Must be above zero.
    ///
    /// Over HTTP/2, where exchanges share a connection, only bytes of the exchange itself restart it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.pool.stall_timeout = Some(timeout);
        self
    }

    /// Turns the idle timeout off.
    pub fn no_timeout(mut self) -> Self {
        self.pool.stall_timeout = None;
        self
    }

    /// Sets the timeout for connecting: name lookup, all addresses, a proxy's tunnel and the TLS handshake. Must be above
    /// zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.pool.connect_timeout = timeout;
        self
    }

    /// Uses HTTP/2 without negotiation, for a server known to support it. For https, the client then offers only HTTP/2;
    /// by default the server chooses between HTTP/2 and HTTP/1.1 (ALPN).
    pub fn http2_prior_knowledge(mut self, on: bool) -> Self {
        self.pool.http2 = on;
        self
    }

    /// Sends header names over HTTP/1.1 in the case in which they were received, for requests that hyper's server received
    /// with the setting of the same name. The response keeps its case too. By default, names are sent in lower case, which
    /// means the same (RFC 9110, section 5.1), but some servers do not accept it.
    pub fn preserve_header_case(mut self, on: bool) -> Self {
        self.pool.preserve_header_case = on;
        self
    }

    /// Resumes the response body of a GET if it ends early or stalls: a range request fetches the rest. A body is
    /// resumed as often as the policy allows retries, and as often again after each 64 KiB. The response must have a
    /// strong `ETag`. Reading fails if the server does not support ranges, or if the resource has changed. No byte is
    /// returned twice.
    pub fn resume(mut self, on: bool) -> Self {
        self.resume = on;
        self
    }

    /// Buffers up to this many bytes of a response before it is returned. If the connection closes or stalls meanwhile,
    /// the attempt has failed, and is retried if that is safe.
    ///
    /// A response that announces a length up to this limit, to a request that may be repeated, is buffered to its end. Any
    /// other is buffered for at most [`response_buffer_time`](Self::response_buffer_time), and then returned with what has
    /// arrived. A response that announces a greater length is not buffered. The buffers count towards
    /// [`replay_memory`](Self::replay_memory).
    ///
    /// Responses of the types `text/event-stream`, `application/x-ndjson`, `multipart/x-mixed-replace` and
    /// `application/grpc` are not buffered, and neither are responses to requests that accept only these. But with
    /// [`grpc_status_codes`](Self::grpc_status_codes), the response to a gRPC call whose request is complete is buffered
    /// until its trailers arrive, at most until a second message begins, for 10 ms after the first, and for
    /// [`response_buffer_time`](Self::response_buffer_time).
    pub fn response_buffer(mut self, bytes: usize) -> Self {
        self.response_buffer.bytes = bytes;
        self
    }

    /// Limits the size of a response body that is read as a whole, by `text`, `bytes` and similar methods of
    /// [`RequestBuilder`](crate::RequestBuilder) and [`ResponseBody`](crate::ResponseBody). A longer one is an error of
    /// kind [`TooLarge`](crate::ErrorKind::TooLarge). The default is 16 MiB. To read a body of any size, read its frames.
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.response_limit = bytes;
        self
    }

    /// Sets how long a response is buffered if it does not announce its length, or if its request may not be repeated.
    pub fn response_buffer_time(mut self, time: Duration) -> Self {
        self.response_buffer.time = time;
        self
    }

    /// Sets headers for all requests. A request that has a header of the same name keeps its own. The values are not part
    /// of any log line or debug output. `Idempotency-Key` is an error, as a key is that of one request.
    ///
    /// ```
    /// use retry_client::{Client, http::{HeaderMap, HeaderValue, header::USER_AGENT}};
    ///
    /// let headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static("shop/1.0"))]);
    /// let client = Client::builder("http://localhost:8080").default_headers(headers).build()?;
    /// # Ok::<(), retry_client::Error>(())
    /// ```
    pub fn default_headers(mut self, headers: HeaderMap) -> Self {
        self.default_headers = (!headers.is_empty()).then_some(DefaultHeaders(headers));
        self
    }

    /// Buffers a streamed request body for up to this time before the request takes a connection, until the body is
    /// complete or exceeds the limits, so that slow clients do not occupy connections.
    ///
    /// Over HTTP/1.1, requests whose bodies are still incomplete then take at most half of
    /// [`pool_max_connections`](Self::pool_max_connections); others wait as for a connection. Does not apply to gRPC,
    /// upgrades, and requests with `Expect`, whose clients may wait for the server.
    pub fn request_buffer_time(mut self, time: Duration) -> Self {
        self.request_buffer_time = Some(time);
        self
    }

    /// Sets how long an idle connection is kept. Should be less than the server's own limit, so that requests are not sent
    /// on connections that the server is closing.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool.idle_timeout = timeout;
        self
    }

    /// Sets the maximum number of idle connections to each endpoint, divided among the pools of
    /// [`with_own_pool`](crate::Client::with_own_pool). With zero, each attempt opens a connection of its own.
    pub fn pool_max_idle(mut self, connections: usize) -> Self {
        self.pool.max_idle = connections;
        self
    }

    /// Sets the maximum number of connections to each endpoint, including those being opened. Must be at least 1. A request
    /// that finds none available waits for one, at most for the `connect_timeout`. If it may then open one, that has the
    /// same time again.
    pub fn pool_max_connections(mut self, connections: usize) -> Self {
        self.pool.max_connections = connections.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how long a connection is used, from its opening. After this time, give or take 10 % at random, it carries no
    /// further request, so that requests follow when the address of the server changes.
    pub fn pool_max_connection_age(mut self, age: Duration) -> Self {
        self.pool.max_age = Some(age);
        self
    }

    /// Adds another server that can process every request, an *endpoint*, beside the one of the base URL. Its path must be
    /// the same. User name, password, scheme and `Host` are its own.
    ///
    /// Requests are distributed: of two endpoints chosen at random, the one with fewer requests in flight gets the
    /// request. A retry goes to an endpoint that this call has not tried, the first one without a wait.
    pub fn endpoint(mut self, base_url: impl Into<String>) -> Self {
        self.more_urls.push(Redacted(base_url.into()));
        self
    }

    /// Lets a call wait for up to this time, in total, while no endpoint can be reached, but never past its deadline.
    /// Requests are then sent in the order in which they came. A wait is not an attempt and does not use the budget. Off
    /// by default.
    ///
    /// # Errors
    ///
    /// After this time, the call fails with an error of kind [`Outage`](crate::ErrorKind::Outage).
    pub fn outage_wait(mut self, time: Duration) -> Self {
        self.endpoints.outage_wait = (!time.is_zero()).then_some(time);
        self
    }

    /// Sets how many failures in a row eject an endpoint: attempts without a response, or with a status of 5xx that
    /// calls for a retry, even if the server forbids that ([`server_hints`](Self::server_hints)). Must be at least 1. The default is 5. An endpoint that cannot be connected to is down immediately.
    pub fn eject_after(mut self, failures: u32) -> Self {
        self.endpoints.eject_after = failures;
        self
    }

    /// Sets the share of the endpoints, from 0 to 1, that may be ejected for their failures at the same time, rounded down.
    /// The default is 0.5, so that a single endpoint is never ejected.
    pub fn max_ejected(mut self, share: f64) -> Self {
        self.endpoints.max_ejected = share;
        self
    }

    /// Sets how long it takes until an endpoint that came back gets its full share of the requests. The default is 5 s.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.endpoints.slow_start = time;
        self
    }

    /// Sends a request to a second endpoint if its response takes long. The first response that is not retried counts, and
    /// the other request is canceled. Off by default.
    ///
    /// This applies to the first attempt of requests that may be repeated and whose body has been read completely, while
    /// another endpoint is up; but not to gRPC, nor to a request that tests whether an ejected endpoint works again. The
    /// second request is charged to the [budget](Self::budget) like a retry, and is not sent if the budget does not allow
    /// it. It is part of the attempt, whose outcome is the response that counts, or the failure of both. A retry then goes
    /// to a third endpoint if there is one. An endpoint whose requests are overtaken for a second, and as many times in a
    /// row as [`eject_after`](Self::eject_after) says, is ejected.
    ///
    /// A response time is measured until the response is returned. A quantile is that of the last minute or so, for all
    /// requests that may be sent twice. Nothing is sent twice before enough is known: a hundred response times for 0.95,
    /// 500 for 0.99.
    pub fn hedge_after(mut self, after: HedgeAfter) -> Self {
        self.hedge_after = Some(after);
        self
    }

    /// Sets what observes each request on its connection, and its response to the last byte: also those that are hedged or
    /// canceled, and requests for the rest of a body. Attempts and why they are repeated are for an
    /// [`observer`](Self::observer).
    ///
    /// ```
    /// use retry_client::{
    ///     Client, ExchangeEnd, ExchangeObserver, ExchangeStart, ObservedExchange,
    ///     http::{HeaderMap, StatusCode},
    /// };
    ///
    /// struct Log;
    /// struct LoggedExchange(String);
    ///
    /// impl ExchangeObserver for Log {
    ///     fn started(&self, exchange: &ExchangeStart<'_>) -> Box<dyn ObservedExchange> {
    ///         Box::new(LoggedExchange(format!("{} to {}", exchange.method, exchange.endpoint)))
    ///     }
    /// }
    ///
    /// impl ObservedExchange for LoggedExchange {
    ///     fn head_received(&mut self, status: StatusCode, _: &HeaderMap) {
    ///         println!("{}: {status}", self.0);
    ///     }
    ///
    ///     fn ended(&mut self, body_bytes: u64, end: ExchangeEnd<'_>) {
    ///         println!("{}: {end:?} after {body_bytes} bytes", self.0);
    ///     }
    /// }
    ///
    /// let client = Client::builder("http://localhost:8080").exchange_observer(Log);
    /// ```
    pub fn exchange_observer(mut self, observer: impl ExchangeObserver + 'static) -> Self {
        self.endpoints.observing = Observing(Some(Arc::new(observer)));
        self
    }

    /// Resolves the names of the endpoints again after this time, and when connecting fails. Each address is then an
    /// endpoint. Addresses that are gone get no further requests. Off by default: the addresses of a name are one endpoint,
    /// tried one after the other for each connection. `localhost` is always one endpoint.
    pub fn dns_refresh(mut self, interval: Duration) -> Self {
        self.endpoints.dns_refresh = Some(interval);
        self
    }

    /// Sets what returns the addresses of a name, instead of the system: the preferred one first.
    ///
    /// ```
    /// use std::{io, net::{IpAddr, Ipv4Addr}};
    /// use retry_client::Client;
    ///
    /// let client = Client::builder("http://shop.example:8080")
    ///     .resolver(|name| {
    ///         let known = name == "shop.example";
    ///         async move { if known { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) } else { Err(io::ErrorKind::NotFound.into()) } }
    ///     })
    ///     .build()?;
    /// # Ok::<(), retry_client::Error>(())
    /// ```
    pub fn resolver<F, R>(mut self, resolve: F) -> Self
    where
        F: Fn(&str) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.resolver = Resolver::Function(Arc::new(move |name| Box::pin(resolve(name))));
        self
    }

    /// Uses the proxy that the environment names for the server: `HTTP_PROXY` for `http://`, `HTTPS_PROXY` for `https://`,
    /// `ALL_PROXY` for both, except for the hosts, domains and networks in `NO_PROXY`; the names may also be lower case.
    /// Off by default, as the variables may not be meant for the program that uses this library.
    ///
    /// [`build`](Self::build) reads the variables once, and returns an error for a proxy whose URL does not start with
    /// `http://` (SOCKS, https). A value that is not a URL is ignored. In a CGI program, where a request can set
    /// `HTTP_PROXY`, all variables are ignored. User name and password in the URL are sent to the proxy only.
    ///
    /// For `https://`, and for HTTP/2 by prior knowledge, the proxy opens a tunnel (`CONNECT`). A status of 4xx for that
    /// is not retried, except for 408, 425 and 429.
    pub fn proxy_from_env(mut self, on: bool) -> Self {
        self.proxy_from_env = on;
        self
    }

    /// Trusts the certificates in this PEM file, in addition to the system's. May be called several times.
    ///
    /// [`build`](Self::build) reads the file; an unreadable one is an error.
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities.push(Pem::file("ca_file", path));
        self
    }

    /// Trusts the certificates in this PEM text, as [`ca_file`](Self::ca_file) does: for those that a program contains, or
    /// gets from a store of secrets.
    ///
    /// ```no_run
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use retry_client::Client;
    ///
    /// let client = Client::builder("https://orders.internal").ca_pem(std::env::var("INTERNAL_CA")?).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[doc(alias = "root_certificate")]
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.authorities.push(Pem::memory("ca_pem", pem));
        self
    }

    /// Presents a certificate to servers that request one. Both files are PEM: one has the certificate followed by its
    /// chain, the other its unencrypted key. They may be the same file.
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn client_certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (chain, key) = (Pem::file("client_certificate", chain), Pem::file("client_certificate: key", key));
        self.tls.client_certificate = Some(ClientCertificate { chain, key });
        self
    }

    /// Presents a certificate to servers that request one, as [`client_certificate`](Self::client_certificate) does, from
    /// PEM text.
    ///
    /// ```no_run
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::env;
    ///
    /// use retry_client::Client;
    ///
    /// let client = Client::builder("https://orders.internal")
    ///     .client_certificate_pem(env::var("CLIENT_CERTIFICATE")?, env::var("CLIENT_KEY")?)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[doc(alias = "identity")]
    pub fn client_certificate_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let (chain, key) =
            (Pem::memory("client_certificate_pem", chain), Pem::memory("client_certificate_pem: key", key));
        self.tls.client_certificate = Some(ClientCertificate { chain, key });
        self
    }

    /// Uses this configuration of [rustls](crate::rustls), for everything that the methods above do not cover: only some
    /// authorities, certificates that change, another provider of cryptography, a log of session keys. It replaces them:
    /// the client trusts what the configuration trusts, and neither the system's certificates nor ring is used.
    ///
    /// If `alpn_protocols` is empty, the client offers the protocols that it would offer without this setting. Otherwise
    /// it offers those, which may be `h2`, `http/1.1` or both; with [`http2_prior_knowledge`](Self::http2_prior_knowledge)
    /// only `h2`.
    ///
    /// ```
    /// use retry_client::{Client, rustls};
    /// use rustls::{ClientConfig, RootCertStore};
    ///
    /// let authorities = RootCertStore::empty(); // with the only ones to trust
    /// let config = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
    /// let client = Client::builder("https://orders.internal").tls_config(config).build()?;
    /// # Ok::<(), retry_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`build`](Self::build) returns an error for other protocols, and if a method above was called too.
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls_config(mut self, config: impl Into<Arc<ClientConfig>>) -> Self {
        self.tls.config = Some(config.into());
        self
    }

    /// Builds the client. Reads the files that the settings name, and for `https://` the system's trusted certificates.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`BadInput`](crate::ErrorKind::BadInput) that names the invalid setting, its value and
    /// what is expected.
    pub fn build(self) -> Result<Client, Error> {
        let pool = self.pool;
        let timeouts = [("timeout", pool.stall_timeout), ("connect_timeout", Some(pool.connect_timeout))];
        if let Some((name, _)) = timeouts.iter().find(|(_, timeout)| *timeout == Some(Duration::ZERO)) {
            return Err(Error::bad_input(format!("{name} is 0: expected a time above zero")));
        }
        if pool.max_connections == 0 {
            return Err(Error::bad_input("pool_max_connections is 0: expected at least 1"));
        }
        self.endpoints.validate()?;
        let hedge_after = self.hedge_after.map(HedgeAfter::validate).transpose()?;
        let origins = self.origins()?;
        let retry_config = self.retry_config.validate()?;
        let default_headers = self.default_headers.map(DefaultHeaders::validate).transpose()?;
        let Some(first) = origins.first() else { return Err(Error::bad_input("expected a base URL")) };
        let base_url = first.base_url.clone();
        let ids = Arc::<EndpointIds>::default();
        let endpoints: Vec<_> = origins.iter().map(|origin| origin.endpoint(&ids, None)).collect();
        let has_name = origins.iter().any(|origin| origin.resolved_name().is_some());
        let config = EndpointConfig { dns_refresh: self.endpoints.dns_refresh.filter(|_| has_name), ..self.endpoints };
        let refresh = config.dns_refresh.map(|interval| {
            let origins = origins.into_iter().zip(endpoints.iter().map(|endpoint| endpoint.id));
            Arc::new(Refresh::new(origins, &ids, interval))
        });
        let upload_limit =
            self.request_buffer_time.map(|time| UploadLimit::new(time, pool.connect_timeout, pool.max_connections));
        let transport = HttpTransport {
            endpoints: Arc::new(Endpoints::new(EndpointSet::new(config, endpoints), refresh)),
            base_url,
            upload_limit,
            buffer_quota: retry_config.buffer_quota.clone(),
            hedge_delay: hedge_after.map(|after| Arc::new(HedgeDelay::new(after))),
        };
        let Self { resume, response_buffer, response_limit, .. } = self;
        let backoffs = BackoffGauge::default();
        let inner =
            Inner { transport, retry_config, backoffs, resume, response_buffer, response_limit, default_headers };
        Ok(Client(Arc::new(inner)))
    }

    /// Returns what the URLs describe.
    fn origins(&self) -> Result<Vec<Arc<Origin>>, Error> {
        let mut origins: Vec<Arc<Origin>> = Vec::new();
        for Redacted(url) in [&self.url].into_iter().chain(&self.more_urls) {
            let base_url = BaseUrl::parse(url)?;
            if let Some(first) = origins.first().filter(|first| first.base_url.prefix != base_url.prefix) {
                let (url, path) = (Redacted(url), &first.base_url.prefix);
                return Err(Error::bad_input(format!(
                    "base URL '{url:?}': expected the path '{path}/' of the first URL"
                )));
            }
            let uri = base_url.join("/")?;
            let proxy = if self.proxy_from_env { Proxy::from_env(&uri, self.pool.http2)? } else { None };
            let tls = self.tls.load(base_url.is_https(), self.pool.http2)?;
            let authorization = proxy.as_ref().and_then(Proxy::authorization).cloned();
            let base_url = base_url.with_proxy_authorization(authorization);
            let (pool, resolver) = (self.pool, self.resolver.clone());
            origins.push(Arc::new(Origin { base_url, uri, proxy, tls, pool, resolver }));
        }
        Ok(origins)
    }
}
