//! The limit on connections that incomplete uploads take.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use crate::{
    connection::acquire_timeout::connect_timeout, error_chain::BoxError, lock::lock, request::replay::StreamBuffer,
};

/// Keeps slow clients from taking all connections: request bodies are read for a while before they take one, and those
/// that are still incomplete take at most half of the connections.
#[derive(Clone, Debug)]
pub(crate) struct UploadLimit {
    /// How long a body is read before it takes a connection.
    prefetch_time: Duration,
    /// How long it may wait for its permit.
    wait_timeout: Duration,
    permits: Arc<Semaphore>,
}

impl UploadLimit {
    pub(crate) fn new(prefetch_time: Duration, wait_timeout: Duration, connections: usize) -> Self {
        Self { prefetch_time, wait_timeout, permits: Arc::new(Semaphore::new(connections.div_ceil(2))) }
    }

    /// Reads and buffers a body until it is complete, no more of it can be buffered, or the time is over.
    pub(crate) async fn prefetch(&self, stream: &Mutex<StreamBuffer>) {
        // What was read before the timeout is kept.
        let _ = timeout(self.prefetch_time, poll_fn(|cx| lock(stream).poll_prefetch(cx))).await;
    }

    /// Waits for a permit, which the body holds until it is complete.
    pub(crate) async fn acquire(&self, stream: &Mutex<StreamBuffer>) -> Result<(), BoxError> {
        if !lock(stream).needs_permit() {
            return Ok(());
        }
        let permits = Arc::clone(&self.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => connect_timeout(self.wait_timeout, async move { Ok(permits.acquire_owned().await?) }).await?,
        };
        lock(stream).hold_permit(permit);
        Ok(())
    }
}
