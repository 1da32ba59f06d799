//! Checks the guide's statements about the results.

use crate::{
    restart::{self, FLOOR, RATIO, STORM},
    summary::Summary,
};

/// Returns an error with the first statement of `docs/choosing-a-policy.md` about the policies that is not true.
pub(crate) fn check(summaries: &[Summary<'_>]) -> Result<(), String> {
    let [none, immediate, fixed, exponential, jittered, short, few, budgeted, parked, parked_long] = summaries else {
        return Err(format!("{} policies, but the guide describes 10", summaries.len()));
    };
    let about = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
    let swing = |summary: &Summary<'_>| {
        let [low, high] = summary.lost_with_other_costs;
        (high - low).abs()
    };
    check_all(&[
        (
            "immediate retries multiply the load and save almost nothing",
            immediate.peak_load > 10.0 && immediate.lost > 0.95 * none.lost,
        ),
        ("with a fixed wait the outage continues", fixed.recovery.is_none()),
        ("it is several times worse than without retries", fixed.lost > 3.0 * none.lost),
        (
            "with exponential backoff the server recovers within about a minute",
            exponential.recovery.is_some_and(|s| s < 70),
        ),
        ("jitter halves the peak", (0.4..0.6).contains(&(jittered.peak_load / exponential.peak_load))),
        ("jitter does not reduce the load otherwise", about(jittered.attempts_per_call, exponential.attempts_per_call)),
        ("jitter does not help if the waits are too short", short.recovery.is_none()),
        ("with a small count the server recovers", few.recovery.is_some_and(|s| s < 5)),
        ("its load is still several times the normal load", few.attempts_per_call > 1.5),
        ("with a budget the server recovers at once", budgeted.recovery == Some(0)),
        ("with a budget most calls during the outage fail", budgeted.lost > 0.95 * none.lost),
        ("a budget saves everyday failures", budgeted.lost < none.lost),
        (
            "with parking, the load during the outage is a few per cent",
            [parked, parked_long].iter().all(|s| s.load_while_away < 0.05),
        ),
        ("parking saves the calls of the last ten seconds", (0.025..0.04).contains(&(budgeted.lost - parked.lost))),
        ("long parking saves most calls", parked_long.lost < none.lost / 4.0),
        (
            "without a limit the result depends on the cost of rejecting",
            [fixed, exponential, jittered, short].iter().all(|s| swing(s) > 0.5),
        ),
        (
            "with a limit the result stays the same",
            [none, immediate, few, budgeted, parked].iter().all(|s| swing(s) < 0.01),
        ),
    ])
}

/// The same for what it says about restarts.
pub(crate) fn check_restarts(gone: &[restart::Run], stays: &[restart::Run]) -> Result<(), String> {
    let [.., busiest] = stays else { return Err("no services".to_owned()) };
    let seconds = f64::from((STORM.end - STORM.start) / 1000);
    let share = |run: &restart::Run| RATIO * f64::from(run.calls_per_second) + f64::from(FLOOR);
    check_all(&[
        (
            "without a charge, a restart costs no calls",
            gone.iter().flat_map(|run| &run.restarts).all(|restart| restart.saved == restart.cut_off),
        ),
        (
            "the budget pays for all calls that a restart cuts off, except at once after the start",
            stays.iter().flat_map(|run| &run.restarts[1..]).all(|restart| restart.saved == restart.cut_off),
        ),
        (
            "at once after the start, it pays for a hundred and a share of the calls",
            stays.iter().all(|run| run.restarts[0].saved >= run.restarts[0].cut_off.min(100))
                && busiest.restarts[0].saved > 300,
        ),
        (
            "the retries while everything fails are bounded",
            stays.iter().all(|run| f64::from(run.storm().sum::<u32>()) <= (seconds + 11.0) * share(run)),
        ),
    ])
}

fn check_all(claims: &[(&str, bool)]) -> Result<(), String> {
    match claims.iter().find(|(_, holds)| !holds) {
        Some((claim, _)) => Err(format!("a statement in the guide is wrong: {claim}")),
        None => Ok(()),
    }
}
