//! What becomes of a request during an outage of the upstream, computed with the state machine of retries.

use std::{collections::BTreeSet, fmt, time::Duration};

use retry_client::{
    RetryPolicy,
    retry_core::{Decision, Reason, Session, Verdict},
};

/// How the upstream fails. Afterwards, it responds to every request immediately and with 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It refuses connections, as when its process is gone.
    Refuses,
    /// It accepts requests, but never responds to them.
    NeverResponds,
    /// It responds to each request with 503.
    Responds503,
}

/// A request that arrives at the beginning of an outage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) fault: Fault,
    /// Whether it may be sent again after the upstream may have processed it.
    pub(super) is_repeatable: bool,
    /// How long the outage lasts.
    pub(super) lasts: Duration,
}

/// What becomes of requests depends on these settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutageRules {
    pub(super) policy: RetryPolicy,
    /// How long a request is parked while it cannot be sent. `None` if it is not.
    pub(super) outage_wait: Option<Duration>,
    /// How long an attempt without a response takes, and the flag that says so. `None` if it is not limited.
    pub(super) attempt_limit: Option<(Duration, &'static str)>,
    /// Whether a 503 is retried.
    pub(super) retries_503: bool,
    /// Whether there may be another endpoint, which the first retry goes to without a wait.
    pub(super) has_alternative: bool,
}

/// How one request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// The status that the client gets.
    status: u16,
    after: Duration,
    retries: u32,
    /// The flag that ended it, if that is not one of the policy's.
    flag: &'static str,
}

const NO_LIMIT: &str = "nothing: --timeout, --attempt-timeout and --deadline are off";

/// An attempt during the outage.
struct Attempt {
    /// The status that the client gets if it is the last one.
    status: u16,
    /// `None` if its time is not limited.
    takes: Option<Duration>,
    /// The flag that limits its time.
    flag: &'static str,
    is_retried: bool,
}

/// The time within which a probe finds that the upstream is back.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// How many requests are computed if their waits are random.
const SAMPLES: usize = 1000;

/// A request with more attempts is not computed to its end. Its retries are not used up during the outage.
const MAX_ATTEMPTS: u32 = 1000;

const SUCCESS: u16 = 200;

impl OutageRules {
    /// Returns what the client gets, in words. Requests whose waits are random are computed many times, always with the
    /// same random numbers.
    pub(super) fn outcome(&self, request: Request) -> String {
        let mut random = fastrand::Rng::with_seed(1);
        let ends: Option<Vec<_>> = (0..SAMPLES).map(|_| self.end(request, || random.u64(..))).collect();
        let outcome = ends.map_or_else(|| NO_LIMIT.to_owned(), |ends| describe(&ends));
        if self.parked(request.fault).is_some() { format!("parked, then {outcome}") } else { outcome }
    }

    /// Returns how a request ends; `None` if it never does.
    fn end(&self, request: Request, mut random: impl FnMut() -> u64) -> Option<End> {
        if let Some(limit) = self.parked(request.fault) {
            return Some(park(limit, request.lasts, random()));
        }
        let Attempt { status, takes, flag, is_retried } = self.attempt(request);
        let verdict = if is_retried { Verdict::Retry } else { Verdict::Stop };
        let (mut session, mut now) = (Session::start(&self.policy, None, Duration::ZERO), Duration::ZERO);
        loop {
            let retries = session.attempt() - 1;
            let end = |status, after, flag| Some(End { status, after, retries, flag });
            if now >= request.lasts || retries == MAX_ATTEMPTS {
                return end(SUCCESS, now.max(request.lasts), "");
            }
            if let Some(remaining) =
                session.remaining(now).filter(|remaining| *remaining <= takes.unwrap_or(Duration::MAX))
            {
                return end(504, now.saturating_add(remaining), "--deadline");
            }
            now = now.saturating_add(takes?);
            match session.decide(verdict, now, &mut random) {
                Decision::Wait(_) if self.has_alternative && retries == 0 => {}
                Decision::Wait(wait) => now = now.saturating_add(wait),
                Decision::Finish(Reason::Deadline) => return end(status, now, "--deadline"),
                Decision::Finish(_) => return end(status, now, flag),
            }
        }
    }

    /// Returns the limit on the time for which a request is parked, and its flag; `None` if it is not parked.
    fn parked(&self, fault: Fault) -> Option<(Duration, &'static str)> {
        let wait = self.outage_wait.filter(|_| fault == Fault::Refuses)?;
        Some(match self.policy.deadline().filter(|deadline| *deadline < wait) {
            Some(deadline) => (deadline, "--deadline"),
            None => (wait, "--outage-wait"),
        })
    }

    fn attempt(&self, Request { fault, is_repeatable, .. }: Request) -> Attempt {
        let (limit, flag) = self.attempt_limit.unzip();
        match fault {
            Fault::Refuses => Attempt { status: 502, takes: Some(Duration::ZERO), flag: "", is_retried: true },
            Fault::NeverResponds => {
                Attempt { status: 504, takes: limit, flag: flag.unwrap_or_default(), is_retried: is_repeatable }
            }
            Fault::Responds503 => {
                let is_retried = is_repeatable && self.retries_503;
                Attempt { status: 503, takes: Some(Duration::ZERO), flag: "", is_retried }
            }
        }
    }
}

/// Returns how a parked request ends.
fn park((limit, flag): (Duration, &'static str), lasts: Duration, random: u64) -> End {
    let released = lasts.saturating_add(PROBE_WAIT.mul_f64(random as f64 / u64::MAX as f64));
    let (status, after, flag) = if released < limit { (SUCCESS, released, "") } else { (503, limit, flag) };
    End { status, after, retries: 0, flag }
}

/// Describes how requests end, those that succeed first.
fn describe(ends: &[End]) -> String {
    const ALL: usize = 100 * SAMPLES;
    let statuses: BTreeSet<_> = ends.iter().map(|end| end.status).collect();
    let describe = |status: &u16| {
        let ends = || ends.iter().filter(|end| end.status == *status);
        let share = match ends().count() * 100 {
            ALL => String::new(),
            // Rounded against the settings.
            share if *status == SUCCESS => format!(" ({} %)", share / SAMPLES),
            share => format!(" ({} %)", share.div_ceil(SAMPLES)),
        };
        let (after, retries) = (range(ends().map(|end| end.after)), range(ends().map(|end| end.retries)));
        let flags: BTreeSet<_> = ends().map(|end| end.flag).collect();
        let flag = flags.first().filter(|flag| flags.len() == 1 && !flag.is_empty());
        let flag = flag.map_or_else(String::new, |flag| format!(" ({flag})"));
        format!("{status}{share} {}{}{flag}", describe_time(after), describe_retries(retries))
    };
    statuses.iter().map(describe).collect::<Vec<_>>().join(", or ")
}

/// Returns the least and the greatest value.
fn range<T: Copy + Default + Ord>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    (values.clone().min().unwrap_or_default(), values.max().unwrap_or_default())
}

/// Describes a range of times. Random ones are rounded to a tenth of a second.
fn describe_time((from, to): (Duration, Duration)) -> String {
    const TENTH: u128 = 100;
    let shown = |milliseconds: u128| match milliseconds {
        0 => "0s".to_owned(),
        milliseconds => format!("{:?}", Duration::from_millis(milliseconds.try_into().unwrap_or(u64::MAX))),
    };
    if from == to {
        return if to.is_zero() { "at once".to_owned() } else { format!("after {}", shown(to.as_millis())) };
    }
    let (from, to) = (from.as_millis() / TENTH, to.as_millis() / TENTH + 1);
    format!("after {} to {}", shown(from * TENTH), shown(to * TENTH))
}

fn describe_retries((from, to): (u32, u32)) -> String {
    match (from, to) {
        (_, 0) => String::new(),
        (1, 1) => ", 1 retry".to_owned(),
        (from, to) if from == to => format!(", {to} retries"),
        (from, to) => format!(", {from} to {to} retries"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuses => "refuses connections",
            Self::NeverResponds => "never responds",
            Self::Responds503 => "responds with 503",
        })
    }
}

#[cfg(test)]
mod tests {
    use retry_client::retry_core::Jitter;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The gateway's defaults, without jitter.
    fn rules() -> OutageRules {
        let policy = RetryPolicy::builder().jitter(Jitter::None).max_wait_interval(millis(2000));
        OutageRules {
            policy: policy.build().unwrap(),
            outage_wait: Some(millis(10_000)),
            attempt_limit: Some((millis(30_000), "--timeout")),
            retries_503: true,
            has_alternative: false,
        }
    }

    fn jittered() -> OutageRules {
        OutageRules { policy: RetryPolicy::default(), ..rules() }
    }

    fn with_deadline(deadline: u64) -> OutageRules {
        let policy = RetryPolicy::builder().jitter(Jitter::None).deadline(millis(deadline));
        OutageRules { policy: policy.build().unwrap(), ..rules() }
    }

    /// Compares the outcomes of a GET and a POST, for outages of 1, 5 and 30 seconds.
    #[track_caller]
    fn check(rules: &OutageRules, fault: Fault, get: [&str; 3], post: [&str; 3]) {
        for (is_repeatable, expected) in [(true, get), (false, post)] {
            let outcome = |lasts| rules.outcome(Request { fault, is_repeatable, lasts: millis(lasts) });
            assert_eq!([1000, 5000, 30_000].map(outcome), expected, "{fault} {is_repeatable}");
        }
    }

    #[test]
    fn a_request_that_cannot_be_sent_is_parked() {
        let check = |rules: &OutageRules, expected| check(rules, Fault::Refuses, expected, expected);
        let (one, five) = ("parked, then 200 after 1s to 2s", "parked, then 200 after 5s to 6s");
        check(&rules(), [one, five, "parked, then 503 after 10s (--outage-wait)"]);
        let late = "parked, then 503 after 4s (--deadline)";
        check(&with_deadline(4000), [one, late, late]);
        let short = OutageRules { outage_wait: Some(millis(5500)), ..rules() };
        let either = "parked, then 200 (50 %) after 5s to 5.5s, or 503 (50 %) after 5.5s (--outage-wait)";
        check(&short, [one, either, "parked, then 503 after 5.5s (--outage-wait)"]);
        let off = OutageRules { outage_wait: None, ..rules() };
        check(&off, ["502 after 700ms, 3 retries"; 3]);
    }

    #[test]
    fn a_request_without_a_response_is_retried_if_that_is_safe() {
        let check = |rules: &OutageRules, get, post| check(rules, Fault::NeverResponds, get, post);
        check(&rules(), ["200 after 30.1s, 1 retry"; 3], ["504 after 30s (--timeout)"; 3]);
        let limited = OutageRules { attempt_limit: Some((millis(2000), "--attempt-timeout")), ..rules() };
        check(
            &limited,
            ["200 after 2.1s, 1 retry", "200 after 6.7s, 3 retries", "504 after 8.7s, 3 retries (--attempt-timeout)"],
            ["504 after 2s (--attempt-timeout)"; 3],
        );
        check(&with_deadline(10_000), ["504 after 10s (--deadline)"; 3], ["504 after 10s (--deadline)"; 3]);
        let unlimited = OutageRules { attempt_limit: None, ..rules() };
        check(&unlimited, [NO_LIMIT; 3], [NO_LIMIT; 3]);
    }

    #[test]
    fn a_503_is_retried_if_that_is_safe() {
        let check = |rules: &OutageRules, get, post| check(rules, Fault::Responds503, get, post);
        check(&rules(), ["503 after 700ms, 3 retries"; 3], ["503 at once"; 3]);
        check(&jittered(), ["503 after 0s to 700ms, 3 retries"; 3], ["503 at once"; 3]);
        check(&with_deadline(500), ["503 after 300ms, 2 retries (--deadline)"; 3], ["503 at once"; 3]);
        check(&OutageRules { retries_503: false, ..rules() }, ["503 at once"; 3], ["503 at once"; 3]);
        check(&OutageRules { has_alternative: true, ..rules() }, ["503 after 600ms, 3 retries"; 3], ["503 at once"; 3]);
    }

    #[test]
    fn endless_retries_outlast_an_outage() {
        let policy = RetryPolicy::builder().interval(Duration::ZERO).count(u32::MAX).build().unwrap();
        let endless = OutageRules { policy, ..rules() };
        let outcome = |lasts| endless.outcome(Request { fault: Fault::Responds503, is_repeatable: true, lasts });
        assert_eq!(outcome(millis(1000)), "200 after 1s, 1000 retries");
    }
}
