//! The timeouts for getting a connection: a new one, or one that another request has finished with.

use std::{pin::Pin, time::Duration};

use tokio::time::timeout;

use crate::error_chain::BoxError;

pub(crate) type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Adds a timeout to a future that makes a connection or waits for one.
pub(crate) fn connect_timeout<T: Send>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, BoxError>> + Send + 'static,
) -> Connecting<T> {
    // Boxed separately, as the `async` block would contain it twice.
    let connecting = Box::pin(connecting);
    Box::pin(async move { timeout(limit, connecting).await.map_err(|_| ConnectTimeout(limit))? })
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct ConnectTimeout(Duration);

/// The limit on connections allowed no other one in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}: all are in use")]
pub(crate) struct NoPermit(pub(crate) Duration);
