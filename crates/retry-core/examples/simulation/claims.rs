//! What the guide says of the runs in words, so that it cannot go stale unnoticed.

use crate::summary::Summary;

/// Fails with the first sentence of `docs/choosing-a-policy.md` that does not hold.
pub(crate) fn check(summaries: &[Summary<'_>]) -> Result<(), String> {
    let [none, immediate, fixed, exponential, jittered, short, few, budgeted] = summaries else {
        return Err(format!("{} policies, where the guide speaks of 8", summaries.len()));
    };
    let about = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
    let swing = |summary: &Summary<'_>| {
        let [cheap, dear] = summary.lost_elsewhere;
        (dear - cheap).abs()
    };
    for (claim, holds) in [
        (
            "immediate retries multiply the load and save next to nothing",
            immediate.peak_load > 10.0 && immediate.saved < 0.05,
        ),
        ("after a fixed wait the outage stays", fixed.recovery.is_none()),
        ("it is several times worse than not retrying", fixed.lost > 3.0 * none.lost),
        (
            "exponential waits let the server recover within about a minute",
            exponential.recovery.is_some_and(|s| s < 70),
        ),
        ("jitter: about half the peak", (0.4..0.6).contains(&(jittered.peak_load / exponential.peak_load))),
        ("jitter: the same load otherwise", about(jittered.attempts_per_call, exponential.attempts_per_call)),
        ("jitter cannot save waits that are too short", short.recovery.is_none()),
        ("a small count limits the storm", few.recovery.is_some_and(|s| s < 5)),
        ("its load is still a multiple", few.attempts_per_call > 1.5),
        ("with a budget the server is well at once", budgeted.recovery == Some(0)),
        ("most calls of the outage fail nevertheless", budgeted.saved < 0.1),
        ("the failures of every day are saved", budgeted.lost < none.lost),
        ("without a bound the outcome swings", [fixed, exponential, jittered, short].iter().all(|s| swing(s) > 0.5)),
        ("with a bound it stays the same", [none, immediate, few, budgeted].iter().all(|s| swing(s) < 0.01)),
    ] {
        if !holds {
            return Err(format!("the guide is wrong: {claim}"));
        }
    }
    Ok(())
}
