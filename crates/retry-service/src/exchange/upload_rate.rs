//! The minimum rate of an upload. Only the time counts during which the client is waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How long an upload may be slow at first. This is also the default of Apache's `RequestReadTimeout`.
const GRACE: Duration = Duration::from_secs(20);

/// How long an upload may be slow after the response. This is also the default of nginx's `lingering_timeout`.
const GRACE_AFTER_RESPONSE: Duration = Duration::from_secs(5);

/// Measures the rate of an upload.
#[derive(Debug)]
pub(super) struct UploadRate {
    /// Bytes per second; `None` if there is no minimum.
    minimum: Option<u64>,
    /// How much longer to wait for the client. Each received byte extends it.
    credit: Duration,
    /// The upper limit of the credit, so that a fast start does not allow a long pause.
    max_credit: Duration,
    waiting_since: Option<Instant>,
    response: ResponseProgress,
    is_after_response: bool,
}

impl UploadRate {
    /// `idle_timeout` is the longest pause that a fast start allows.
    pub(super) fn new(minimum: Option<u64>, idle_timeout: Duration, response: ResponseProgress) -> Self {
        let max_credit = idle_timeout.max(GRACE);
        Self { minimum, credit: GRACE, max_credit, waiting_since: None, response, is_after_response: false }
    }

    /// Starts to wait for the client. Returns when the wait began.
    pub(super) fn begin_wait(&mut self) -> Instant {
        *self.waiting_since.get_or_insert_with(Instant::now)
    }

    /// Counts bytes that have arrived.
    ///
    /// # Errors
    ///
    /// Returns the minimum rate if the upload is slower.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), u64> {
        let waiting_since = self.waiting_since.take();
        let Some(minimum) = self.minimum else { return Ok(()) };
        let waited = waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        match self.response.0.load(Relaxed) {
            IN_PROGRESS => return Ok(()),
            ENDED if !self.is_after_response => {
                self.is_after_response = true;
                (self.credit, self.max_credit) = (GRACE_AFTER_RESPONSE, GRACE_AFTER_RESPONSE);
                return Ok(());
            }
            _ => {}
        }
        let earned = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / minimum.max(1));
        let credit = self.credit.saturating_add(earned).checked_sub(waited).ok_or(minimum)?;
        self.credit = credit.min(self.max_credit);
        Ok(())
    }
}

/// The progress of the response to a request. While it is in progress, the client may have reasons to send slowly, such
/// as in a bidirectional stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseProgress(Arc<AtomicU8>);

const IN_PROGRESS: u8 = 1;
const ENDED: u8 = 2;

impl ResponseProgress {
    /// Marks the response as in progress until the guard is dropped.
    pub(crate) fn begin(self) -> ResponseGuard {
        self.0.store(IN_PROGRESS, Relaxed);
        ResponseGuard(self)
    }
}

/// A response that is in progress until this is dropped.
#[derive(Debug)]
pub(crate) struct ResponseGuard(ResponseProgress);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.0.store(ENDED, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_time_counts_during_which_the_client_is_waited_for() {
        let new = || UploadRate::new(Some(500), GRACE, ResponseProgress::default());
        // A byte per second. Returns when that is too slow.
        let drip = async |rate: &mut UploadRate| {
            for second in 0..120 {
                rate.begin_wait();
                sleep(Duration::from_secs(1)).await;
                if rate.count(1).is_err() {
                    return Some(second);
                }
            }
            None
        };
        assert_eq!(drip(&mut new()).await, Some(20));
        assert_eq!(drip(&mut UploadRate::new(None, GRACE, ResponseProgress::default())).await, None);
        // A fast start allows a pause of the idle timeout at most.
        for (idle_timeout, second) in [(GRACE, 20), (Duration::from_secs(60), 60)] {
            let mut rate = UploadRate::new(Some(500), idle_timeout, ResponseProgress::default());
            assert_eq!(rate.count(1_000_000), Ok(()));
            assert_eq!(drip(&mut rate).await, Some(second));
        }
        let mut rate = new();
        let response = rate.response.clone().begin();
        assert_eq!(drip(&mut rate).await, None);
        // The first byte after the response starts a new measurement.
        drop(response);
        assert_eq!(drip(&mut rate).await, Some(6));
        // The upstream is slow, not the client.
        let mut rate = new();
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(rate.count(1), Ok(()));
        }
        let mut rate = new();
        for _ in 0..60 {
            rate.begin_wait();
            sleep(Duration::from_secs(1)).await;
            assert_eq!(rate.count(500), Ok(()));
        }
    }
}
