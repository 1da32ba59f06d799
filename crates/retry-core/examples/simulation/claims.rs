//! Checks the guide's statements about the results.

use crate::summary::Summary;

/// Returns an error with the first statement of `docs/choosing-a-policy.md` that is not true.
pub(crate) fn check(summaries: &[Summary<'_>]) -> Result<(), String> {
    let [none, immediate, fixed, exponential, jittered, short, few, budgeted] = summaries else {
        return Err(format!("{} policies, but the guide describes 8", summaries.len()));
    };
    let about = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
    let swing = |summary: &Summary<'_>| {
        let [low, high] = summary.lost_with_other_costs;
        (high - low).abs()
    };
    for (claim, holds) in [
        (
            "immediate retries multiply the load and save almost nothing",
            immediate.peak_load > 10.0 && immediate.saved < 0.05,
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
        ("with a budget most calls during the outage fail", budgeted.saved < 0.1),
        ("a budget saves everyday failures", budgeted.lost < none.lost),
        (
            "without a limit the result depends on the cost of rejecting",
            [fixed, exponential, jittered, short].iter().all(|s| swing(s) > 0.5),
        ),
        ("with a limit the result stays the same", [none, immediate, few, budgeted].iter().all(|s| swing(s) < 0.01)),
    ] {
        if !holds {
            return Err(format!("a statement in the guide is wrong: {claim}"));
        }
    }
    Ok(())
}
