//! Retries for any operation that may fail: HTTP or not, async or not.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use retry_core::{Jitter, RetryPolicy, retry};
//! # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("Hello World!!!") }
//!
//! let policy = RetryPolicy::builder()
//!     .interval(Duration::from_millis(100))
//!     .backoff_factor(2.0)
//!     .jitter(Jitter::Full)
//!     .build()?;
//! let greeting = retry(policy, || fetch()).await?;
//! # assert_eq!(greeting, "Hello World!!!");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Overview
//!
//! | type | purpose |
//! |---|---|
//! | [`RetryPolicy`] | how often to retry and how long to wait; checked when it is built |
//! | [`Plan`] | the attempts, waits and worst case of a policy, also as a table |
//! | [`Session`] | the state machine of one call: turns a [`Verdict`] into a [`Decision`], without clock, randomness or IO |
//! | [`Retry`] | the async executor: runs an operation, asks a session what to do, and waits |
//! | [`RetryBudget`] | a limit on retries, shared by many calls |
//! | [`Runtime`] | the source of time, timers and randomness |
//! | [`RetryError`] | the last error, the [`Reason`] for giving up, and the [`Journal`] |
//! | [`Journal`] | the attempts of a call: by default the last one only, see [`Retry::journal_limit`] |
//!
//! # More control
//!
//! [`Retry`] is a reusable value that classifies outcomes, limits the time of each attempt, charges a budget and calls
//! observers.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use retry_core::{Jitter, Retry, RetryBudget, RetryPolicy, Verdict};
//!
//! # #[derive(Debug)] enum Fault { Busy, NotFound }
//! # async fn lookup() -> Result<u32, Fault> { Ok(7) }
//! let policy = RetryPolicy::builder()
//!     .count(5)
//!     .interval(Duration::from_millis(100))
//!     .backoff_factor(2.0)
//!     .max_wait_interval(Duration::from_secs(5))
//!     .jitter(Jitter::Full)
//!     .deadline(Duration::from_secs(30))
//!     .build()?;
//! let retry = Retry::new(policy)
//!     .budget(RetryBudget::share(0.2, 10)?)
//!     .attempt_timeout(Duration::from_secs(2))
//!     .classify(|outcome: &Result<u32, Fault>| match outcome {
//!         Ok(_) => Verdict::Accept,
//!         Err(Fault::Busy) => Verdict::Retry,
//!         Err(Fault::NotFound) => Verdict::Stop,
//!     });
//!
//! let value = retry.run(|_attempt| lookup()).await.unwrap();
//! # assert_eq!(value, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//!
//! * `tokio` (default): [`TokioRuntime`], [`retry`] and [`Retry::new`].
//! * `serde`: policies in configuration files, validated when they are read: `interval = "200ms"`, `count = 5`,
//!   `jitter = "full"`. Times are numbers of seconds or text with units; unknown fields are errors.
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
#![warn(clippy::disallowed_types, reason = "some targets lack 64-bit atomics")]

extern crate alloc;
#[cfg(any(feature = "tokio", test))]
extern crate std;

mod attempt;
mod backoff;
mod budget;
mod classify;
mod deadline;
mod entry_points;
mod error;
mod executor;
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
#[cfg(feature = "tokio")]
mod tokio_runtime;
mod verdict;

pub use attempt::Attempt;
pub use backoff::Waits;
pub use budget::{BudgetCharge, BudgetError, RetryBudget, TokenCosts};
pub use classify::{Classify, RetryAnyError};
#[cfg(feature = "tokio")]
pub use entry_points::retry;
pub use error::RetryError;
pub use jitter::Jitter;
pub use journal::{Journal, Record, Timing};
pub use observe::{Event, NoObserver, Observe};
pub use plan::{Plan, Step};
pub use policy::{PolicyError, RetryPolicy, RetryPolicyBuilder};
pub use reason::Reason;
pub use report::Report;
pub use retry::Retry;
pub use runtime::Runtime;
pub use session::{Decision, Session};
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;
pub use verdict::Verdict;

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
