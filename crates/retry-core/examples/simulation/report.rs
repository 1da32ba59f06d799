//! The results as text: two CSV files, and the table in the guide.

use crate::{
    model::{ARRIVALS, CALLS, PROCESSES},
    policies::DEADLINE,
    restart::{self, AWAY, FLOOR, KILLS, RATIO, RESPONSE, Restart, STORM},
    server::{CAPACITY, FREEZE, OUTAGE, REJECTION_PERCENT},
    summary::Summary,
};

/// Returns the number of attempts in each second, and how many of them succeeded.
pub(crate) fn seconds_csv(summaries: &[Summary<'_>]) -> String {
    let mut csv = String::from("policy,second,attempts,served\n");
    for Summary { contender, run, .. } in summaries {
        for (number, second) in run.seconds.iter().enumerate() {
            csv += &format!("{},{number},{},{}\n", contender.name, second.attempts, second.served);
        }
    }
    csv
}

/// Returns one row for each policy. An empty recovery time means never.
pub(crate) fn summary_csv(summaries: &[Summary<'_>]) -> String {
    let [low, _, high] = REJECTION_PERCENT;
    let mut csv = format!(
        "policy,peak_load,load_at_return,attempts_per_call,recovery_seconds,lost_share,\
         lost_share_rejection_{low}_percent,lost_share_rejection_{high}_percent\n"
    );
    for summary in summaries {
        let Summary {
            contender,
            peak_load,
            load_at_return,
            attempts_per_call,
            recovery,
            lost,
            lost_with_other_costs,
            ..
        } = summary;
        let recovery = recovery.map(|seconds| seconds.to_string()).unwrap_or_default();
        let [low, high] = lost_with_other_costs;
        csv += &format!(
            "{},{peak_load:.2},{load_at_return:.2},{attempts_per_call:.3},{recovery},{lost:.4},{low:.4},{high:.4}\n",
            contender.name
        );
    }
    csv
}

/// Returns a paragraph about the model and a table of the results, in Markdown.
pub(crate) fn markdown(summaries: &[Summary<'_>]) -> String {
    let seconds = |millis: u32| millis / 1000;
    let [low, usual, high] = REJECTION_PERCENT;
    let mut text = format!(
        "{} million calls start at random times within {} s, in {PROCESSES} processes. The server can serve {CAPACITY} attempts \
         per second, {:.1} times what the calls need. At {} s it hangs, {} s later it is killed, and at {} s it is back. Each \
         call has a deadline of {} s. Rejecting an attempt costs the server {usual} % of serving one; the last two columns \
         show the results if it costs {low} % and {high} %.\n\n",
        CALLS / 1_000_000,
        seconds(ARRIVALS),
        f64::from(CAPACITY * seconds(ARRIVALS)) / f64::from(CALLS),
        seconds(OUTAGE.start),
        seconds(FREEZE.end - FREEZE.start),
        seconds(OUTAGE.end),
        seconds(DEADLINE),
    );
    text += &format!(
        "| policy | its numbers | peak load | load at the return | attempts per call | server recovers after | \
         failed calls | failed if rejecting costs {low} % | failed if rejecting costs {high} % |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for summary in summaries {
        let Summary { contender, peak_load, load_at_return, attempts_per_call, lost, lost_with_other_costs, .. } =
            summary;
        let lost = percent(*lost);
        let [low, high] = lost_with_other_costs.map(percent);
        text += &format!(
            "| {} | {} | {peak_load:.1} × | {load_at_return:.1} × | {attempts_per_call:.2} | {} | {lost} | {low} | {high} |\n",
            contender.name,
            contender.terms,
            recovery(summary),
        );
    }
    text
}

/// Returns a paragraph about the second simulation and a table of its results, in Markdown.
pub(crate) fn restart_markdown(gone: &[restart::Run], stays: &[restart::Run]) -> String {
    let seconds = |millis: u32| f64::from(millis) / 1000.0;
    let kills = KILLS.map(|kill| format!("{} s", seconds(kill)));
    let mut text = format!(
        "A gateway has the default waits and the budget {:.0} % + {FLOOR}/s. A response takes {RESPONSE} ms. The server is killed \
         {} after the gateway's start, and is away for {} s each time. From {} s on, it fails every request for {} s.\n\n",
        RATIO * 100.0,
        kills.join(", "),
        seconds(AWAY),
        seconds(STORM.start),
        seconds(STORM.end - STORM.start),
    );
    text += &format!(
        "| calls per second | in flight | saved without charge | saved at {} | retries per call while all fails | \
         most of them in a second |\n|--:|--:|--:|{}--:|--:|\n",
        kills.join(" | at "),
        "--:|".repeat(KILLS.len()),
    );
    for (gone, stays) in gone.iter().zip(stays) {
        let saved = |restart: &Restart| format!("{} of {}", restart.saved, restart.cut_off);
        let rate = stays.calls_per_second;
        text += &format!(
            "| {rate} | {} | {} | {} | {:.2} | {} |\n",
            (rate * RESPONSE + 500) / 1000,
            saved(&gone.all_restarts()),
            stays.restarts.each_ref().map(saved).join(" | "),
            stays.storm_retries_per_call(),
            stays.storm().max().unwrap_or_default(),
        );
    }
    text
}

fn recovery(summary: &Summary<'_>) -> String {
    summary.recovery.map_or_else(|| "never".into(), |seconds| format!("{seconds} s"))
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
