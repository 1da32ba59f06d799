//! The log of requests that the service itself rejects, limited in rate.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::rejection::Rejection;

/// The minimum time between log lines about one kind of rejection.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Logs rejections. If there are many of one kind, their number is logged once a second.
#[derive(Debug, Default)]
pub(crate) struct RejectionLog(Mutex<HashMap<Rejection, RateLimit>>);

/// The log lines about one kind of rejection.
#[derive(Debug, Default)]
struct RateLimit {
    /// When the next line may be logged.
    next: Option<Instant>,
    /// The number of rejections that have not been logged.
    unlogged: u64,
}

/// What to do about a rejection.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Log,
    /// Log the number of rejections at this time.
    LogNumberAt(Instant),
    /// Nothing: the number will be logged.
    Nothing,
}

impl RateLimit {
    fn count(&mut self, now: Instant) -> Action {
        match self.next {
            Some(next) if now < next || self.unlogged > 0 => {
                self.unlogged += 1;
                if self.unlogged == 1 { Action::LogNumberAt(next) } else { Action::Nothing }
            }
            _ => {
                self.next = Some(now + LOG_INTERVAL);
                Action::Log
            }
        }
    }

    /// Returns the number of rejections to log now, if there are any.
    fn take_number(&mut self, now: Instant) -> Option<u64> {
        let number = std::mem::take(&mut self.unlogged);
        (number > 0).then(|| {
            self.next = Some(now + LOG_INTERVAL);
            number
        })
    }
}

impl RejectionLog {
    /// Logs the rejection of `request`, or counts it if another of its kind was logged within the last second.
    pub(crate) fn log(self: &Arc<Self>, rejection: Rejection, request: &dyn Display) {
        let action = self.lock().entry(rejection).or_default().count(Instant::now());
        match action {
            Action::Log => {
                let (outcome, status) = (rejection.label(), rejection.status().as_u16());
                log::warn!(target: "rejected", status, outcome; "responded {status}, {rejection}: {request}");
            }
            Action::LogNumberAt(time) => {
                let log = Arc::clone(self);
                tokio::spawn(async move {
                    sleep_until(time).await;
                    log.log_number(rejection);
                });
            }
            Action::Nothing => {}
        }
    }

    fn log_number(&self, rejection: Rejection) {
        let number = self.lock().entry(rejection).or_default().take_number(Instant::now());
        let Some(number) = number else { return };
        let (outcome, status) = (rejection.label(), rejection.status().as_u16());
        log::warn!(
            target: "rejected", status, outcome, number;
            "responded {status}, {rejection}: {number} more requests"
        );
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Rejection, RateLimit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the rejections of the last second.
impl Drop for RejectionLog {
    fn drop(&mut self) {
        for rejection in Rejection::ALL {
            self.log_number(rejection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_line_per_second_and_every_rejection_is_counted() {
        let (begin, mut limit) = (Instant::now(), RateLimit::default());
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert_eq!(limit.count(at(0)), Action::Log);
        assert_eq!(limit.count(at(1)), Action::LogNumberAt(at(1000)));
        assert_eq!(limit.count(at(2)), Action::Nothing);
        // The task that logs the number may be late.
        assert_eq!(limit.count(at(1001)), Action::Nothing);
        assert_eq!(limit.take_number(at(1002)), Some(3));
        assert_eq!(limit.take_number(at(1002)), None);
        assert_eq!(limit.count(at(1500)), Action::LogNumberAt(at(2002)));
        assert_eq!(limit.take_number(at(2002)), Some(1));
        assert_eq!(limit.count(at(3002)), Action::Log);
    }
}
