//! Retries for any operation that may fail: HTTP or not, async or not.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use retry_core::{RetryPolicy, retry};
//! # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("Hello World!!!") }
//!
//! let greeting = retry(RetryPolicy::default(), || fetch()).await?;
//! # assert_eq!(greeting, "Hello World!!!");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! | what | how |
//! |---|---|
//! | only some errors are retried | [`retry_if`](Call::retry_if), [`classify`](Call::classify) |
//! | other waits, a deadline | [`RetryPolicy::builder`] |
//! | timeouts of attempts, a budget that many calls share | [`Retry`], kept in a struct |
//! | the operation borrows something mutably | [`Retry::run_with`] |
//! | the operation is not async | [`Retry::run_blocking`] |
//! | logs and metrics | [`observe`](Call::observe), or the feature `log` |
//! | the last error | [`RetryError`], which `?` converts into any error type |
//! | tests without waiting | tokio's paused clock, see [`TokioRuntime`] |
//!
//! # A policy of one's own
//!
//! What is not set has a [default](RetryPolicy).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("Hello World!!!") }
//! use std::time::Duration;
//! use retry_core::{Jitter, RetryPolicy, retry};
//!
//! let policy = RetryPolicy::builder()
//!     .max_retries(5) // so at most 6 attempts; `count` is the same, by the name of the Ballerina sample
//!     .interval(Duration::from_millis(100)) // the first wait
//!     .backoff_factor(2.0) // then 200 ms, 400 ms …
//!     .max_wait_interval(Duration::from_secs(2)) // … but no wait is longer
//!     .jitter(Jitter::Full) // each is a random time up to that
//!     .deadline(Duration::from_secs(10)) // for all of it, attempts included
//!     .build()?;
//! let greeting = retry(policy, || fetch()).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Which errors are retried
//!
//! By default all of them. [`retry_if`](Call::retry_if) takes a condition; [`classify`](Call::classify) sees successes,
//! too, and returns a [`Verdict`], which may also contain a wait that the server requested.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # use std::io;
//! # use retry_core::{RetryPolicy, retry};
//! # async fn fetch() -> io::Result<&'static str> { Ok("Hello World!!!") }
//! let greeting = retry(RetryPolicy::default(), || fetch())
//!     .retry_if(|error| error.kind() == io::ErrorKind::ConnectionReset)
//!     .await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # One `Retry` for many calls
//!
//! A [`Retry`] is a policy with a classifier, a timeout for each attempt, a budget and an observer. Keep it where the
//! operation is:
//!
//! ```
//! use std::{io, time::Duration};
//! use retry_core::{BudgetError, Retry, RetryBudget, RetryError, RetryPolicy};
//!
//! struct Users {
//!     retry: Retry,
//! }
//!
//! impl Users {
//!     fn new() -> Result<Self, BudgetError> {
//!         let retry = Retry::new(RetryPolicy::default())
//!             .attempt_timeout(Duration::from_secs(2))
//!             .budget(RetryBudget::share(0.2, 10)?);
//!         Ok(Self { retry })
//!     }
//!
//!     async fn name(&self, id: u32) -> Result<String, RetryError<io::Error>> {
//!         self.retry.run(|_attempt| self.fetch(id)).await
//!     }
//!
//!     async fn fetch(&self, id: u32) -> io::Result<String> {
//!         Ok(format!("user {id}"))
//!     }
//! }
//! ```
//!
//! # Operations that borrow mutably
//!
//! `retry(policy, || db.query())` does not compile if `query` takes `&mut self`, since a closure cannot return a future
//! that borrows from its captures. [`Retry::run_with`] passes the value to each attempt:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # use retry_core::{Retry, RetryPolicy};
//! # struct Db;
//! # impl Db { async fn query(&mut self) -> std::io::Result<u32> { Ok(7) } }
//! # let mut db = Db;
//! let count = Retry::new(RetryPolicy::default()).run_with(&mut db, async |db, _attempt| db.query().await).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Blocking code
//!
//! ```
//! use std::fs::File;
//! use retry_core::{Retry, RetryPolicy};
//!
//! # let path = std::env::temp_dir();
//! let file = Retry::new(RetryPolicy::default()).run_blocking(|_attempt| File::open(&path))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! | type | purpose |
//! |---|---|
//! | [`RetryPolicy`] | how often to retry and how long to wait; checked when it is built |
//! | [`Plan`] | the attempts, waits and worst case of a policy, also as a table |
//! | [`Session`] | the state machine of one call: turns a [`Verdict`] into a [`Decision`], without clock, randomness or IO |
//! | [`Retry`], [`Call`] | the settings of calls, and the future of one: runs an operation, asks a session what to do, and waits |
//! | [`RetryBudget`] | a limit on retries, shared by many calls |
//! | [`Runtime`] | the source of time, timers and randomness |
//! | [`RetryError`] | the last error, the [`Reason`] for giving up, and the [`Journal`] |
//! | [`Journal`] | the attempts of a call: by default the last one only, see [`Retry::journal_limit`] |
//!
//! # Features
//!
//! * `tokio` (default, includes `std`): [`TokioRuntime`], which a [`Retry`] has by default, and [`retry()`].
//! * `std`: [`Retry::new`] and [`Retry::run_blocking`].
//! * `serde`: policies in configuration files, validated when they are read: `interval = "200ms"`, `count = 5`,
//!   `jitter = "full"`. Times are numbers of seconds or text with units. Missing fields have the values of
//!   [`RetryPolicy::default`]; unknown fields are errors.
//! * `log`: logs each retry at level debug and each call that gives up at level warn, with the target `retry_core`. Of
//!   the outcome only the verdict is logged, as errors may contain secrets.
//!
//! Without features the crate is `no_std` (it needs `alloc`) and has no runtime: [`Retry::with_runtime`] takes any
//! [`Runtime`], and [`Session`] needs none.
//!
//! # What it does not do
//!
//! This crate knows nothing of HTTP (see `retry-client`), spawns no tasks, opens no sockets, and has no global state. It
//! is neither a circuit breaker nor a rate limiter.

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "tokio"),
    allow(rustdoc::broken_intra_doc_links, reason = "links to what features add; they are checked with all features")
)]
#![warn(clippy::disallowed_types, reason = "some targets lack 64-bit atomics")]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod attempt;
mod backoff;
#[cfg(feature = "std")]
mod blocking;
mod borrowing;
mod budget;
mod call;
mod call_state;
mod classify;
#[cfg(feature = "std")]
mod clock;
mod cold_path;
mod deadline;
mod entry_points;
mod error;
mod jitter;
mod journal;
mod logging;
mod nanos;
mod observe;
mod plan;
mod policy;
#[cfg(feature = "serde")]
mod policy_serde;
mod reason;
mod report;
mod retry;
mod runtime;
mod session;
mod settings;
#[cfg(feature = "tokio")]
mod tokio_runtime;
mod verdict;

pub use attempt::Attempt;
pub use backoff::Waits;
pub use borrowing::OperationWith;
pub use budget::{BudgetCharge, BudgetError, RetryBudget, TokenCosts};
pub use call::Call;
pub use classify::{Classify, Discard, RetryAnyError, RetryIf};
#[cfg(feature = "tokio")]
pub use entry_points::retry;
pub use error::{RetryError, RetryErrorWithCauses};
pub use jitter::Jitter;
pub use journal::{Journal, Record, Timing};
pub use observe::{Event, NoObserver, Observe};
pub use plan::{Plan, Step};
pub use policy::{PolicyError, RetryPolicy, RetryPolicyBuilder};
pub use reason::Reason;
pub use report::Report;
pub use retry::Retry;
#[cfg(not(feature = "tokio"))]
pub use runtime::NoRuntime;
pub use runtime::Runtime;
pub use session::{Decision, Session};
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;
pub use verdict::Verdict;

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
