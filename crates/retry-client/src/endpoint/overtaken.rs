//! Requests that are canceled because another endpoint has responded first. One says nothing about its endpoint; but an
//! endpoint that responds to none would never be noticed, as none waits for a timeout.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::lock;

/// The requests that were overtaken since the last response of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Overtaken {
    count: AtomicU32,
    /// Also locked while the count changes.
    since: Mutex<Option<Instant>>,
}

/// For how long an endpoint has to be overtaken before that counts: longer than a server pauses to collect garbage.
const MIN_TIME: Duration = Duration::from_secs(1);

impl Overtaken {
    /// Counts a request. Returns how many there were, if that is for long enough.
    pub(crate) fn add(&self) -> Option<u32> {
        let mut since = lock(&self.since);
        let is_long = since.get_or_insert_with(Instant::now).elapsed() >= MIN_TIME;
        let count = self.count.fetch_add(1, Relaxed) + 1;
        is_long.then_some(count)
    }

    /// Notes a response.
    pub(crate) fn reset(&self) {
        if self.count.load(Relaxed) > 0 {
            let mut since = lock(&self.since);
            *since = None;
            self.count.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_in_a_row_count_if_there_is_no_response_for_a_second() {
        let overtaken = Overtaken::default();
        for _ in 0..2 {
            assert_eq!(overtaken.add(), None);
            advance(MIN_TIME * 9 / 10).await;
            assert_eq!(overtaken.add(), None);
            advance(MIN_TIME / 10).await;
            assert_eq!((overtaken.add(), overtaken.add()), (Some(3), Some(4)));
            overtaken.reset();
        }
    }
}
