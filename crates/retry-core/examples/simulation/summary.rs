//! What a run comes to.

use crate::{
    model::{ARRIVALS, CALLS, OUTAGE, Run},
    policies::Contender,
};

/// A run and its figures.
pub(crate) struct Summary<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) run: Run,
    /// The most attempts in a second, over the calls in a second.
    pub(crate) peak_load: f64,
    /// Attempts over calls.
    pub(crate) attempts_per_call: f64,
    /// Seconds from the end of the outage until calls went well at once again and kept doing so; none
    /// if they never did while calls came in.
    pub(crate) recovery: Option<usize>,
    /// The share of calls that failed in the end.
    pub(crate) lost: f64,
    /// Of the calls whose first attempt failed, the share that a retry saved.
    pub(crate) saved: f64,
    /// The share lost where turning away is cheap, and where it is dear.
    pub(crate) lost_elsewhere: [f64; 2],
}

impl<'a> Summary<'a> {
    pub(crate) fn new(contender: &'a Contender, run: Run, lost_elsewhere: [u32; 2]) -> Self {
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
            lost_elsewhere: lost_elsewhere.map(|lost| of_calls(lost.into())),
            run,
        }
    }
}

/// A second is good when 95 % of the calls that begin in it go well at once; chance alone leaves 99 %.
fn recovery(run: &Run) -> Option<usize> {
    let [outage_end, arrivals_end] = [OUTAGE.end, ARRIVALS].map(|time| time as usize / 1000);
    let after = run.seconds.get(outage_end..arrivals_end)?;
    let last_bad = after.iter().rposition(|second| second.at_once * 100 < second.calls * 95);
    let seconds = last_bad.map_or(0, |second| second + 1);
    (seconds < after.len()).then_some(seconds)
}
