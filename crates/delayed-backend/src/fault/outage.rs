//! Outages: when one starts, and when it ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// tokio's timers do not reach much further than two years.
const MAX_LENGTH: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What happens to connections during an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// They are closed, and new ones are refused.
    Down,
    /// Nothing is read from them or sent on them, and new ones are not accepted.
    Blackhole,
}

/// Starts outages.
#[derive(Debug, Clone)]
pub(crate) struct OutageStarter(watch::Sender<(Outage, Instant)>);

/// Notices outages.
#[derive(Debug, Clone)]
pub(crate) struct Outages(watch::Receiver<(Outage, Instant)>);

impl Default for OutageStarter {
    fn default() -> Self {
        Self(watch::Sender::new((Outage::Down, Instant::now())))
    }
}

impl OutageStarter {
    /// Starts an outage of this length, instead of the one that there may be.
    pub(crate) fn start(&self, outage: Outage, length: Duration) {
        log::info!("{outage:?} for {length:?}");
        self.0.send_replace((outage, Instant::now() + length.min(MAX_LENGTH)));
    }

    /// Ends the outage that there may be, of whatever kind.
    pub(crate) fn end(&self) {
        self.0.send_if_modified(|(_, end)| {
            let is_lasting = *end > Instant::now();
            if is_lasting {
                *end = Instant::now();
            }
            is_lasting
        });
    }

    /// Whether all connections are being closed, or have been.
    pub(crate) fn is_down(&self) -> bool {
        let (outage, end) = *self.0.borrow();
        outage == Outage::Down && end > Instant::now()
    }

    /// Returns the outages from now on.
    pub(crate) fn subscribe(&self) -> Outages {
        Outages(self.0.subscribe())
    }

    /// Returns the outages from now on, after the one that has not ended yet, if there is one.
    pub(crate) fn subscribe_with_current(&self) -> Outages {
        let mut outages = self.subscribe();
        if !outages.is_over() {
            outages.0.mark_changed();
        }
        outages
    }
}

impl Outages {
    /// Waits until an outage starts that has not been waited for.
    pub(crate) async fn next(&mut self) -> Outage {
        if self.0.changed().await.is_err() {
            // Nobody can start an outage any more.
            std::future::pending::<()>().await;
        }
        self.0.borrow().0
    }

    /// Returns whether the latest outage has ended, or had no length.
    pub(crate) fn is_over(&self) -> bool {
        self.0.borrow().1 <= Instant::now()
    }

    /// Waits until an outage of this kind ends, or is replaced by one of another kind, which is then to be waited for.
    pub(crate) async fn end(&mut self, outage: Outage) {
        loop {
            let (current, end) = *self.0.borrow_and_update();
            if current != outage {
                return self.0.mark_changed();
            }
            tokio::select! {
                () = sleep_until(end) => return,
                _ = self.next() => {}
            }
        }
    }

    /// Returns the rest of a blackhole that has started since the last call.
    pub(crate) fn new_blackhole(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        // An error means that nobody can start an outage any more.
        if !self.0.has_changed().unwrap_or(false) {
            return None;
        }
        let (outage, end) = *self.0.borrow_and_update();
        let mut outages = self.clone();
        let is_lasting = outage == Outage::Blackhole && end > Instant::now();
        is_lasting.then_some(async move { outages.end(Outage::Blackhole).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn length(outages: &mut Outages) -> u64 {
        let start = Instant::now();
        assert_eq!(outages.next().await, Outage::Down);
        outages.end(Outage::Down).await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_after_its_length() {
        let starter = OutageStarter::default();
        let mut outages = starter.subscribe();
        for expected in [3, 0, 2] {
            starter.start(Outage::Down, Duration::from_secs(expected));
            assert_eq!(length(&mut outages).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_length_can_be_changed_during_an_outage() {
        let starter = OutageStarter::default();
        let mut outages = starter.subscribe();
        for (second, expected) in [(Some(2), 7), (None, 5)] {
            starter.start(Outage::Down, Duration::MAX);
            let change = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                match second {
                    Some(second) => starter.start(Outage::Down, Duration::from_secs(second)),
                    None => starter.end(),
                }
            };
            let (length, ()) = tokio::join!(length(&mut outages), change);
            assert_eq!(length, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_when_another_kind_replaces_it() {
        let starter = OutageStarter::default();
        let mut outages = starter.subscribe();
        starter.start(Outage::Blackhole, Duration::MAX);
        assert_eq!(outages.next().await, Outage::Blackhole);
        starter.start(Outage::Down, Duration::from_secs(3));
        outages.end(Outage::Blackhole).await;
        assert_eq!(length(&mut outages).await, 3);
    }
}
