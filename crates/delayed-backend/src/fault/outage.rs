//! Outages: when one starts, and when it ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// tokio's timers do not reach much further than two years.
const MAX_LENGTH: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Starts outages.
#[derive(Debug, Clone)]
pub(crate) struct OutageStarter(watch::Sender<Instant>);

/// Notices outages.
#[derive(Debug)]
pub(crate) struct Outages(watch::Receiver<Instant>);

impl Default for OutageStarter {
    fn default() -> Self {
        Self(watch::Sender::new(Instant::now()))
    }
}

impl OutageStarter {
    /// Starts an outage of this length. If there is one already, it gets this length from now on; zero ends it.
    pub(crate) fn start(&self, length: Duration) {
        log::info!("Down for {length:?}");
        self.0.send_replace(Instant::now() + length.min(MAX_LENGTH));
    }

    /// Returns the outages from now on.
    pub(crate) fn subscribe(&self) -> Outages {
        Outages(self.0.subscribe())
    }
}

impl Outages {
    /// Waits until an outage starts that has not been waited for.
    pub(crate) async fn start(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody can start an outage any more.
            std::future::pending().await
        }
    }

    /// Waits until the current outage ends.
    pub(crate) async fn end(&mut self) {
        loop {
            let end = *self.0.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => return,
                () = self.start() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn length(outages: &mut Outages) -> u64 {
        let start = Instant::now();
        outages.start().await;
        outages.end().await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_after_its_length() {
        let starter = OutageStarter::default();
        let mut outages = starter.subscribe();
        for expected in [3, 0, 2] {
            starter.start(Duration::from_secs(expected));
            assert_eq!(length(&mut outages).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_length_can_be_changed_during_an_outage() {
        let starter = OutageStarter::default();
        let mut outages = starter.subscribe();
        for (second, expected) in [(2, 7), (0, 5)] {
            starter.start(Duration::MAX);
            let change = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                starter.start(Duration::from_secs(second));
            };
            let (length, ()) = tokio::join!(length(&mut outages), change);
            assert_eq!(length, expected);
        }
    }
}
