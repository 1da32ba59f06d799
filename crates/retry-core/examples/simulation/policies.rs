//! The policies that are compared. All have the same deadline. If a policy limits the number of retries, its terms say so.

use std::time::Duration;

use retry_core::{BudgetError, Jitter, PolicyError, RetryBudget, RetryPolicy, RetryPolicyBuilder};

use crate::event_queue::Millis;

/// The deadline of each call.
pub(crate) const DEADLINE: Millis = 60_000;

/// A policy with its name.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Its numbers as text.
    pub(crate) terms: &'static str,
    pub(crate) policy: RetryPolicy,
    budgeted: bool,
    /// Whether and how calls are parked while the server is away.
    pub(crate) parking: Option<Parking>,
    /// Whether the picture has a panel for it.
    pub(crate) pictured: bool,
}

/// How a gateway parks calls.
pub(crate) struct Parking {
    /// The longest time that a call is parked, in total.
    pub(crate) wait: Millis,
    /// The waits between probes.
    pub(crate) probes: RetryPolicy,
}

impl Parking {
    /// The probes are those of `retry-service`.
    fn new(wait: Millis) -> Result<Self, PolicyError> {
        let millis = Duration::from_millis;
        let probes = RetryPolicy::builder().count(u32::MAX).interval(millis(50)).backoff_factor(2.0);
        let probes = probes.max_wait_interval(millis(1_000)).jitter(Jitter::Equal);
        Ok(Self { wait, probes: probes.build()? })
    }
}

impl Contender {
    /// Creates a budget for one process, if the policy has one.
    pub(crate) fn budget(&self) -> Result<Option<RetryBudget>, BudgetError> {
        self.budgeted.then(|| RetryBudget::share(0.2, 10)).transpose()
    }
}

pub(crate) fn all() -> Result<Vec<Contender>, PolicyError> {
    let millis = Duration::from_millis;
    let unlimited = RetryPolicy::builder().count(u32::MAX).deadline(millis(DEADLINE.into()));
    let unlimited = unlimited.backoff_factor(1.0).jitter(Jitter::None);
    let doubling = |first, cap| unlimited.interval(millis(first)).backoff_factor(2.0).max_wait_interval(millis(cap));
    let short = doubling(100, 5_000).jitter(Jitter::Full);
    let parking = |wait| Parking::new(wait).map(Some);
    let contender = |name, terms, policy: RetryPolicyBuilder| {
        Ok(Contender { name, terms, policy: policy.build()?, budgeted: false, parking: None, pictured: true })
    };
    Ok(vec![
        // The base load, which the other policies multiply.
        Contender { pictured: false, ..contender("no retries", "one attempt", unlimited.count(0))? },
        Contender {
            pictured: false,
            ..contender("immediate", "3 retries without a wait", unlimited.count(3).interval(Duration::ZERO))?
        },
        contender("every 3 seconds", "3 s", unlimited.interval(millis(3_000)))?,
        contender("exponential", "1 s × 2, at most 20 s", doubling(1_000, 20_000))?,
        // Full jitter halves the mean wait, so the numbers are doubled.
        contender(
            "exponential + jitter",
            "2 s × 2, at most 40 s, full jitter",
            doubling(2_000, 40_000).jitter(Jitter::Full),
        )?,
        contender("short waits + jitter", "100 ms × 2, at most 5 s, full jitter", short)?,
        Contender {
            pictured: false,
            ..contender("4 short waits + jitter", "the same, at most 4 retries", short.count(4))?
        },
        Contender {
            budgeted: true,
            ..contender("short waits + jitter + budget", "100 ms × 2, at most 5 s, full jitter; 20 % + 10/s", short)?
        },
        Contender {
            budgeted: true,
            parking: parking(10_000)?,
            ..contender("budget + parking", "the same; parked for at most 10 s", short)?
        },
        Contender {
            budgeted: true,
            parking: parking(DEADLINE)?,
            pictured: false,
            ..contender("budget + long parking", "the same; parked for at most 60 s", short)?
        },
    ])
}
