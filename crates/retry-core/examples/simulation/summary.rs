//! The results of a simulation.

use crate::{
    model::{ARRIVALS, CALLS, Run},
    policies::Contender,
    server::{FREEZE, OUTAGE},
};

/// A simulation and its key figures.
pub(crate) struct Summary<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) run: Run,
    /// The maximum of attempts per second, divided by the calls per second.
    pub(crate) peak_load: f64,
    /// The same from two seconds after the server was killed until it is back.
    pub(crate) load_while_away: f64,
    /// The same in the first ten seconds after it is back.
    pub(crate) load_at_return: f64,
    /// Attempts divided by calls.
    pub(crate) attempts_per_call: f64,
    /// Seconds from the end of the outage until new calls succeed at their first attempt for good. `None` if they never do.
    pub(crate) recovery: Option<usize>,
    /// The share of calls that failed.
    pub(crate) lost: f64,
    /// The share of failed calls if rejecting an attempt costs less, and if it costs more.
    pub(crate) lost_with_other_costs: [f64; 2],
}

impl<'a> Summary<'a> {
    pub(crate) fn new(contender: &'a Contender, run: Run, lost_with_other_costs: [u32; 2]) -> Self {
        let of_calls = |count: f64| count / f64::from(CALLS);
        let attempts = || run.seconds.iter().map(|second| f64::from(second.attempts));
        let calls_per_second = f64::from(CALLS) * 1000.0 / f64::from(ARRIVALS);
        let peak = |from, to| attempts().take(to).skip(from).fold(0.0, f64::max) / calls_per_second;
        let [killed, back] = [FREEZE.end, OUTAGE.end].map(|time| time as usize / 1000);
        Self {
            contender,
            peak_load: peak(0, usize::MAX),
            load_while_away: peak(killed + 2, back),
            load_at_return: peak(back, back + 10),
            attempts_per_call: of_calls(attempts().sum()),
            recovery: recovery(&run),
            lost: of_calls(run.lost().into()),
            lost_with_other_costs: lost_with_other_costs.map(|lost| of_calls(lost.into())),
            run,
        }
    }
}

/// A second counts as good if 95 % of the calls that start in it succeed at their first attempt. Normally it is 99 %.
fn recovery(run: &Run) -> Option<usize> {
    let [outage_end, arrivals_end] = [OUTAGE.end, ARRIVALS].map(|time| time as usize / 1000);
    let after = run.seconds.get(outage_end..arrivals_end)?;
    let last_bad = after.iter().rposition(|second| second.served_promptly * 100 < second.calls * 95);
    let seconds = last_bad.map_or(0, |second| second + 1);
    (seconds < after.len()).then_some(seconds)
}
