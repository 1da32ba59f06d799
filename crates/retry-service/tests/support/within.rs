//! The timeout of every wait in the tests.

use std::{fmt::Display, panic::Location, time::Duration};

use tokio::time::timeout;

/// The timeout of every wait, far longer than anything takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `future`. After [`LIMIT`] the test fails, with `what` in its message.
#[track_caller]
pub(crate) fn within<F: IntoFuture>(what: impl Display, future: F) -> impl Future<Output = F::Output> {
    let at = Location::caller();
    async move { timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{at}: timed out waiting for {what}")) }
}
