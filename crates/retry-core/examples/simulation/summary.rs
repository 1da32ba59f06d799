//! The results of a simulation.

use crate::{
    model::{ARRIVALS, CALLS, OUTAGE, Run},
    policies::Contender,
};

/// A simulation and its key figures.
pub(crate) struct Summary<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) run: Run,
    /// The maximum of attempts per second, divided by the calls per second.
    pub(crate) peak_load: f64,
    /// Attempts divided by calls.
    pub(crate) attempts_per_call: f64,
    /// Seconds from the end of the outage until new calls succeed at their first attempt for good. `None` if they never do.
    pub(crate) recovery: Option<usize>,
    /// The share of calls that failed.
    pub(crate) lost: f64,
    /// Of the calls whose first attempt failed, the share that succeeded at a retry.
    pub(crate) saved: f64,
    /// The share of failed calls if rejecting an attempt costs less, and if it costs more.
    pub(crate) lost_with_other_costs: [f64; 2],
}

impl<'a> Summary<'a> {
    pub(crate) fn new(contender: &'a Contender, run: Run, lost_with_other_costs: [u32; 2]) -> Self {
        let of_calls = |count: f64| count / f64::from(CALLS);
        let attempts = || run.seconds.iter().map(|second| f64::from(second.attempts));
        let calls_per_second = f64::from(CALLS) * 1000.0 / f64::from(ARRIVALS);
        Self {
            contender,
            peak_load: attempts().fold(0.0, f64::max) / calls_per_second,
            attempts_per_call: of_calls(attempts().sum()),
            recovery: recovery(&run),
            lost: of_calls(run.lost().into()),
            saved: f64::from(run.saved) / f64::from(run.failed_first),
            lost_with_other_costs: lost_with_other_costs.map(|lost| of_calls(lost.into())),
            run,
        }
    }
}

/// A second counts as good if 95 % of the calls that start in it succeed at their first attempt. Normally it is 99 %.
fn recovery(run: &Run) -> Option<usize> {
    let [outage_end, arrivals_end] = [OUTAGE.end, ARRIVALS].map(|time| time as usize / 1000);
    let after = run.seconds.get(outage_end..arrivals_end)?;
    let last_bad = after.iter().rposition(|second| second.served_first * 100 < second.calls * 95);
    let seconds = last_bad.map_or(0, |second| second + 1);
    (seconds < after.len()).then_some(seconds)
}
