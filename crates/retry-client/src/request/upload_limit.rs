//! When a request whose body is still coming takes a connection, and how many of those there may be.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    connection::connect::within,
    error_chain::BoxError,
    request::replay::{Stream, lock},
};

/// So that slow senders do not take all connections, a body is read ahead for a while, and those that are still coming
/// then take half of the connections at most.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    /// How long a body is read ahead.
    time: Duration,
    /// How long one may wait for its place.
    patience: Duration,
    places: Arc<Semaphore>,
}

/// Held by a body that is still coming, and has a connection.
pub(crate) type Place = OwnedSemaphorePermit;

impl Uploads {
    pub(crate) fn new(time: Duration, patience: Duration, connections: usize) -> Self {
        Self { time, patience, places: Arc::new(Semaphore::new(connections.div_ceil(2))) }
    }

    /// Reads a body ahead, to its end, until no more of it can be kept, or until the time is over.
    pub(crate) async fn read_ahead(&self, stream: &Mutex<Stream>) {
        // What came in time is kept.
        let _ = timeout(self.time, poll_fn(|cx| lock(stream).poll_ahead(cx))).await;
    }

    /// Waits for a place, which the body holds for as long as it is coming.
    pub(crate) async fn enter(&self, stream: &Mutex<Stream>) -> Result<(), BoxError> {
        if !lock(stream).needs_place() {
            return Ok(());
        }
        let places = Arc::clone(&self.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => within(self.patience, async move { Ok(places.acquire_owned().await?) }).await?,
        };
        lock(stream).hold(place);
        Ok(())
    }
}
