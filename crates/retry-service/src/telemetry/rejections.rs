//! Requests that the gateway itself refuses: a line in the log, but not for each of very many.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How far apart the lines about refusals of one kind are at least.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a request is refused, whatever its upstream would have said. Among the extensions of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are as many requests in flight as there may be.
    Busy,
    /// There are as many tunnels as there may be.
    Tunnels,
    /// The body is larger than it may be.
    TooLarge,
    /// It has come through here before.
    Loop,
}

/// What has been said of refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    busy: Told,
    tunnels: Told,
    too_large: Told,
    loops: Told,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Told(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// When there may be another.
    next: Option<Instant>,
    /// Refusals since the last one.
    untold: u64,
}

/// What to do about a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Log,
    /// Count it, and log the number at this time.
    Count(Instant),
    /// Count it, as others are already.
    Wait,
}

impl Lines {
    fn note(&mut self, now: Instant) -> Step {
        match self.next {
            Some(next) if now < next || self.untold > 0 => {
                self.untold += 1;
                if self.untold == 1 { Step::Count(next) } else { Step::Wait }
            }
            _ => {
                self.next = Some(now + PAUSE);
                Step::Log
            }
        }
    }

    /// How many were counted, if any; to be logged now.
    fn take_number(&mut self, now: Instant) -> Option<u64> {
        let number = std::mem::take(&mut self.untold);
        (number > 0).then(|| {
            self.next = Some(now + PAUSE);
            number
        })
    }
}

impl Refusal {
    pub(crate) const ALL: [Self; 4] = [Self::Busy, Self::Tunnels, Self::TooLarge, Self::Loop];

    /// Its label in the metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Busy => "max_in_flight",
            Self::Tunnels => "max_tunnels",
            Self::TooLarge => "max_body_size",
            Self::Loop => "loop",
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::Busy | Self::Tunnels => 503,
            Self::TooLarge => 413,
            Self::Loop => 508,
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Busy => "too many requests are in flight (--max-in-flight)",
            Self::Tunnels => "too many tunnels are open (--max-tunnels)",
            Self::TooLarge => "the body is too large (--max-body-size)",
            Self::Loop => "the request has come through here before",
        }
    }

    fn log(self, what: &dyn Display) {
        let (status, why) = (self.status(), self.why());
        log::warn!(target: "refusals", status, outcome = self.word(); "answered {status}, as {why}: {what}");
    }

    fn log_number(self, number: u64) {
        let (status, why) = (self.status(), self.why());
        log::warn!(
            target: "refusals", status, outcome = self.word(), number;
            "answered {status}, as {why}: {number} more requests"
        );
    }
}

impl Refusals {
    /// Logs a refusal, unless another of its kind was logged within a second. Those are counted, and their number is
    /// logged at the end of the second.
    pub(crate) fn note(refusals: &Arc<Self>, refusal: Refusal, request: &dyn Display) {
        let step = refusals.of(refusal).lock().note(Instant::now());
        match step {
            Step::Log => refusal.log(request),
            Step::Count(next) => {
                let refusals = Arc::clone(refusals);
                tokio::spawn(async move {
                    sleep_until(next).await;
                    refusals.tell_number(refusal);
                });
            }
            Step::Wait => {}
        }
    }

    fn tell_number(&self, refusal: Refusal) {
        let number = self.of(refusal).lock().take_number(Instant::now());
        if let Some(number) = number {
            refusal.log_number(number);
        }
    }

    fn of(&self, refusal: Refusal) -> &Told {
        match refusal {
            Refusal::Busy => &self.busy,
            Refusal::Tunnels => &self.tunnels,
            Refusal::TooLarge => &self.too_large,
            Refusal::Loop => &self.loops,
        }
    }
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last second's are told at the end of the process.
impl Drop for Refusals {
    fn drop(&mut self) {
        for refusal in Refusal::ALL {
            self.tell_number(refusal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_a_second_at_most_and_none_is_left_out() {
        let (begin, mut lines) = (Instant::now(), Lines::default());
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert_eq!(lines.note(at(0)), Step::Log);
        assert_eq!(lines.note(at(1)), Step::Count(at(1000)));
        assert_eq!(lines.note(at(2)), Step::Wait);
        // The one who is to log the number may be late.
        assert_eq!(lines.note(at(1001)), Step::Wait);
        assert_eq!(lines.take_number(at(1002)), Some(3));
        assert_eq!(lines.take_number(at(1002)), None);
        assert_eq!(lines.note(at(1500)), Step::Count(at(2002)));
        assert_eq!(lines.take_number(at(2002)), Some(1));
        assert_eq!(lines.note(at(3002)), Step::Log);
    }
}
