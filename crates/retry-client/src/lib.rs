//! A thin hyper client that knows which requests are safe to send again.
//!
//! ```no_run
//! # async fn run() -> Result<(), retry_client::Error> {
//! use std::time::Duration;
//! use retry_client::{Client, RetryPolicy};
//!
//! let client = Client::builder("http://localhost:8080")
//!     .retry(RetryPolicy::SAMPLE)
//!     .timeout(Duration::from_secs(2))
//!     .build()?;
//! let answer = client.get_text("/hello").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! An attempt that got no answer is repeated when that is safe:
//!
//! | what is known of the request | repeated |
//! |---|---|
//! | it never left: no connection, or one that had closed before a byte was written | for every method |
//! | the server refused it unprocessed: HTTP/2 `REFUSED_STREAM`, or `GOAWAY` below its stream | for every method |
//! | it may have been processed: sent, and no whole answer came | for the idempotent methods of RFC 9110, section 9.2.2; for every method with [`RetryMethods::All`] |
//! | it was answered with a status listed in [`status_codes`](ClientBuilder::status_codes) | as the row above |
//! | it was answered otherwise | never: the answer is the caller's |
//!
//! A request with an `Idempotency-Key` counts as idempotent, whatever its method. `Retry-After` of a
//! status that is retried takes the place of the policy's wait, within the policy's cap and deadline.
//! When attempts run out on a listed status, the last response is returned as it is.
//!
//! A pooled connection that turns out to be closed before anything was written on it is replaced
//! silently: nothing was sent, so it is no attempt.
//!
//! # https and proxies
//!
//! | feature | default | |
//! |---|---|---|
//! | `tls` | off | `https://`, over rustls; without it such a URL is refused |
//!
//! The client trusts the system's authorities (or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name) and
//! those in a file of your own (`ClientBuilder::ca_file`), shows a certificate to servers that ask for one
//! (`ClientBuilder::client_certificate`), and lets the server choose between HTTP/2 and HTTP/1.1. A handshake
//! is part of connecting: one that breaks off is repeated for every method. A certificate that is not
//! accepted, by either side, ends the call at once, as no other attempt could mend it; but over HTTP/2 a
//! server's refusal may come as a connection that broke.
//!
//! [`proxy_from_env`](ClientBuilder::proxy_from_env) goes through the proxy that the environment names.
//!
//! # In a tower stack
//!
//! [`RetryLayer`] gives the same rules to any HTTP service, and [`Client`] is a tower service itself.
//! Each response has the [`Journal`] of its attempts among its extensions, and their [`History`] where there
//! were several.
//!
//! # What it does not do
//!
//! It follows no redirects, keeps no cookies, caches nothing and decompresses nothing: each of these
//! changes what a request means, and belongs above a client that decides what may be sent again.

mod base_url;
mod builder;
mod client;
mod connection;
mod error;
mod error_chain;
mod layer;
mod media_type;
mod request;
mod response;
mod retry;
mod transport;

pub use base_url::origin_form;
pub use builder::ClientBuilder;
pub use client::Client;
pub use error::{Error, ErrorKind};
pub use layer::{RetryLayer, RetryService};
pub use request::{
    body::Body,
    hop_by_hop::{remove_hop_by_hop, trim_values},
    replay::RequestBody,
};
pub use response::{
    body::ResponseBody,
    framing::{FramingError, check_framing},
};
pub use retry::{
    attempt_event::{AttemptEvent, Outcome},
    config::RetryConfig,
    history::{History, HistoryEntry},
    methods::RetryMethods,
};
pub use retry_core::{self, Journal, Reason, RetryBudget, RetryPolicy};

/// The README's snippets, run as doctests here because they need both libraries.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
