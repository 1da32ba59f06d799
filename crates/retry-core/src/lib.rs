//! A retry engine for any operation that may fail: HTTP or not, async or not.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use retry_core::{RetryPolicy, retry};
//! # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("Hello World!!!") }
//!
//! let policy = RetryPolicy::default();
//! let answer = retry(policy, || fetch()).await?;
//! # assert_eq!(answer, "Hello World!!!");
//! # Ok::<(), retry_core::RetryError<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # The pieces
//!
//! | piece | what it is |
//! |---|---|
//! | [`RetryPolicy`] | how often to retry and how long to wait: a value, checked once when it is built |
//! | [`Plan`] | what a policy will do, as a value and as a table: attempts, waits, the worst case |
//! | [`Session`] | one call's state machine: a [`Verdict`] goes in, a [`Decision`] comes out; no clock, no randomness, no IO |
//! | [`Retry`] | the async executor: runs an operation, asks the session, waits |
//! | [`RetryBudget`] | a limit on retries that many calls share |
//! | [`Runtime`] | the one seam to the outside: the time, a sleep, a random number |
//! | [`RetryError`] | the last error, the [`Reason`] for giving up and the [`Journal`] of attempts |
//!
//! # More than the two lines
//!
//! [`Retry`] is a reusable value: it says which outcomes are worth another attempt, limits each
//! attempt, draws on a budget, and tells what happens.
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
//! * `serde`: policies in config files, checked as they are read: `interval = "200ms"`, `count = 5`,
//!   `jitter = "full"`. Times are numbers of seconds or text with units; unknown fields are refused.
//! * `log`: each retry at level debug and each call that gives up at level warn, with the target
//!   `retry_core`; of the outcome only the verdict, as errors may hold secrets.
//!
//! Without features the crate is `no_std` (it needs `alloc`) and brings no runtime: [`Retry::with_runtime`]
//! takes any [`Runtime`], and [`Session`] needs none.
//!
//! # What it does not do
//!
//! It knows nothing of HTTP (see `retry-client`), spawns no task, opens no socket, and keeps no
//! global state. It is no circuit breaker and no rate limiter.

#![no_std]
#![warn(clippy::disallowed_types, reason = "some targets lack 64-bit atomics")]

extern crate alloc;
#[cfg(any(feature = "tokio", test))]
extern crate std;

mod budget;
mod call;
mod error;
mod jitter;
mod journal;
mod logging;
mod plan;
mod policy;
#[cfg(feature = "serde")]
mod policy_file;
mod retry;
mod runtime;
mod session;
mod waits;

pub use budget::{BudgetError, RetryBudget};
pub use error::RetryError;
pub use jitter::Jitter;
pub use journal::{Journal, Record, Timing};
pub use plan::{Plan, Step};
pub use policy::{PolicyError, RetryPolicy, RetryPolicyBuilder};
#[cfg(feature = "tokio")]
pub use retry::retry;
pub use retry::{Attempt, Classify, Event, NoObserver, Observe, Report, Retry, RetryAnyError};
pub use runtime::Runtime;
#[cfg(feature = "tokio")]
pub use runtime::TokioRuntime;
pub use session::{Decision, Reason, Session, Verdict};
pub use waits::Waits;

/// The guide's snippets, run as doctests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../docs/choosing-a-policy.md")]
struct Guide;
