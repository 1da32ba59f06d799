//! An HTTP client on hyper that retries what is safe to retry, and [a tower layer](RetryLayer) that adds the same retries to
//! hyper-util's client, reqwest, or any other HTTP service.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use retry_client::{Client, RetryPolicy, retry_core::Jitter};
//!
//! let policy = RetryPolicy::builder()
//!     .interval(Duration::from_millis(100))
//!     .backoff_factor(2.0)
//!     .jitter(Jitter::Full)
//!     .build()?;
//! let client = Client::builder("http://localhost:8080")
//!     .policy(policy)
//!     .timeout(Duration::from_secs(2))
//!     .build()?;
//! let text = client.get("/hello").text().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! | outcome of the attempt | retried |
//! |---|---|
//! | the request was not sent: there was no connection, or it was closed before a byte was written | for every method |
//! | the server refused the request: HTTP/2 `REFUSED_STREAM`, or `GOAWAY` with a last stream ID below that of the request | for every method |
//! | the request was sent, but there was no response, or it ended early while it was buffered | for the idempotent methods of RFC 9110, section 9.2.2; for every method with [`RetryMethods::All`] |
//! | the response has a status in [`status_codes`](ClientBuilder::status_codes) | as above |
//! | a gRPC call ends with a code in [`grpc_status_codes`](ClientBuilder::grpc_status_codes) | if what was sent of its request can be sent again |
//! | any other response | never |
//!
//! A request with an `Idempotency-Key` counts as idempotent, whatever its method. If the response to be retried has a
//! `Retry-After` header, that replaces the policy's wait, within the policy's limits
//! ([`server_hints`](ClientBuilder::server_hints) are the headers that count). If no attempt is left, the response is
//! returned.
//!
//! If an idle connection turns out to be closed before anything was written to it, the request goes to another connection.
//! As nothing was sent, that does not count as an attempt.
//!
//! # Several servers, and outages
//!
//! [`endpoint`](ClientBuilder::endpoint) adds servers that can process the same requests. Those that cannot be connected
//! to, or that respond with one failure after the other, get no requests until a probe succeeds. A retry goes to another
//! endpoint, the first one without a wait. With [`hedge_after`](ClientBuilder::hedge_after), a request that is slow is
//! sent to a second endpoint as well.
//!
//! With [`outage_wait`](ClientBuilder::outage_wait), calls wait in their order while no endpoint can be reached, whatever
//! their method, and without an attempt: a restart of the server then takes time, but no request.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use retry_client::{Client, ErrorKind};
//!
//! let client = Client::builder("http://10.0.0.1:8080")
//!     .endpoint("http://10.0.0.2:8080")
//!     .outage_wait(Duration::from_secs(10))
//!     .build()?;
//! match client.post("/orders").body("1 tea").await {
//!     Ok(response) => println!("{}", response.status()),
//!     Err(error) if error.kind() == ErrorKind::Outage => println!("not sent: {error}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # https and proxies
//!
//! `https://` URLs need the feature `tls`, which is off by default and uses rustls. The client trusts the system's
//! certificates (or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`) and those of `ClientBuilder::ca_file` or `ca_pem`. It
//! presents that of `client_certificate` or `client_certificate_pem` to servers that request one, and lets the server
//! choose between HTTP/2 and HTTP/1.1. `tls_config` replaces all of this by a configuration of rustls.
//!
//! The cryptography is that of the process's default provider (`rustls::crypto::CryptoProvider::install_default`), or else
//! of ring. The feature `tls-no-provider` is `tls` without ring, for programs that install another provider or use
//! `tls_config`.
//!
//! A failed handshake is retried for every method, like any other failure to connect. A rejected certificate is not
//! retried, as another attempt would fail too. With TLS 1.3, however, a server rejects the client's certificate after
//! the handshake, and over HTTP/2 the client may see only a closed connection.
//!
//! [`proxy_from_env`](ClientBuilder::proxy_from_env) uses the proxy in `HTTP_PROXY` and similar variables.
//!
//! # What happened to a request
//!
//! Every response carries the [`History`] of its attempts as an extension, and the [`Error`] of a call has it too: the
//! outcome of each attempt, its times and its endpoint, the waits, and why there was no further attempt ([`EndReason`]). It
//! displays as one line, for a log. For metrics, an [observer](ClientBuilder::observer) gets each attempt when it ends.
//!
//! # In a tower stack
//!
//! [`RetryLayer`] adds the same retries to any HTTP service: hyper-util's client, [`reqwest`'s](RetryLayer#over-reqwest),
//! or a stack that an application has already. It finds in their errors whether a request was sent. The layer lacks what
//! needs connections of its own: several servers, the idle timeout, buffered and resumed responses.
//!
//! [`Client`] is a tower service itself.
//!
//! # What it does not do
//!
//! The client does not follow redirects, keep cookies, cache or decompress. These belong in a layer above the retries.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod activity;
mod base_url;
mod builder;
mod client;
mod connection;
mod decimal;
mod end_reason;
mod endpoint;
mod error;
mod error_chain;
mod error_kind;
mod exchange_observer;
mod grpc;
mod hedge;
mod history;
mod layer;
mod lock;
mod media_type;
mod request;
mod request_builder;
mod response;
mod retry;
mod transport;

pub use {bytes, http, http_body};

pub use base_url::origin_form;
pub use builder::ClientBuilder;
pub use client::Client;
pub use end_reason::EndReason;
pub use endpoint::status::{EndpointState, EndpointStatus};
pub use error::Error;
pub use error_kind::ErrorKind;
pub use exchange_observer::{ExchangeEnd, ExchangeObserver, ExchangeStart, ObservedExchange};
pub use grpc::code::{GrpcCode, ParseGrpcCodeError};
pub use hedge::after::HedgeAfter;
pub use history::{Hedge, History, Outcome, PastAttempt};
pub use layer::{RetryLayer, RetryService};
pub use media_type::has_grpc_status;
pub use request::{
    body::Body,
    deadline_header::DeadlineHeader,
    hop_by_hop::{remove_hop_by_hop, trim_values},
};
pub use request_builder::RequestBuilder;
pub use response::{
    body::ResponseBody,
    framing::{FramingError, check_framing},
};
pub use retry::{
    attempt_event::AttemptEvent, call_options::CallOptions, config::RetryConfig, methods::RetryMethods,
    server_hints::ServerHint,
};
pub use retry_core::{self, RetryBudget, RetryPolicy};
#[cfg(feature = "tls-no-provider")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use rustls;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
