//! The runs as text: two CSV files, and the table that the guide shows.

use crate::{
    model::{ARRIVALS, CALLS, CAPACITY, FREEZE, OUTAGE, PATIENCE, PROCESSES, TURN_AWAY_PERCENT},
    summary::Summary,
};

/// Attempts that set out in each second and, of these, the ones that succeeded.
pub(crate) fn seconds_csv(summaries: &[Summary<'_>]) -> String {
    let mut csv = String::from("policy,second,attempts,answered\n");
    for Summary { contender, run, .. } in summaries {
        for (number, second) in run.seconds.iter().enumerate() {
            csv += &format!("{},{number},{},{}\n", contender.name, second.attempts, second.answered);
        }
    }
    csv
}

/// One row for each policy; an empty recovery stands for never.
pub(crate) fn summary_csv(summaries: &[Summary<'_>]) -> String {
    let [cheap, _, dear] = TURN_AWAY_PERCENT;
    let mut csv = format!(
        "policy,peak_load,attempts_per_call,recovery_seconds,saved_share,lost_share,\
         lost_share_turn_away_{cheap}_percent,lost_share_turn_away_{dear}_percent\n"
    );
    for summary in summaries {
        let Summary { contender, peak_load, attempts_per_call, recovery, lost, saved, lost_elsewhere, .. } = summary;
        let recovery = recovery.map(|seconds| seconds.to_string()).unwrap_or_default();
        let [cheap, dear] = lost_elsewhere;
        csv += &format!(
            "{},{peak_load:.2},{attempts_per_call:.3},{recovery},{saved:.4},{lost:.4},{cheap:.4},{dear:.4}\n",
            contender.name
        );
    }
    csv
}

/// The model in a paragraph and the summary as a table.
pub(crate) fn markdown(summaries: &[Summary<'_>]) -> String {
    let seconds = |millis: u32| millis / 1000;
    let [cheap, usual, dear] = TURN_AWAY_PERCENT;
    let mut text = format!(
        "{} million calls begin at random moments within {} s, from {PROCESSES} processes. The server can serve {CAPACITY} \
         attempts a second, {:.1} times what the calls need. At {} s it freezes, {} s later it is killed, and at \
         {} s it is back. A caller gives up after {} s. Turning an attempt away costs the server {usual} % of serving \
         one; the last two columns show what becomes of the calls where that is {cheap} % and {dear} %.\n\n",
        CALLS / 1_000_000,
        seconds(ARRIVALS),
        f64::from(CAPACITY * seconds(ARRIVALS)) / f64::from(CALLS),
        seconds(OUTAGE.start),
        seconds(FREEZE.end - FREEZE.start),
        seconds(OUTAGE.end),
        seconds(PATIENCE),
    );
    text += &format!(
        "| policy | its numbers | peak load | attempts per call | server well again after | failed calls saved by a \
         retry | calls lost | lost at {cheap} % | lost at {dear} % |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for summary in summaries {
        let Summary { contender, peak_load, attempts_per_call, lost, saved, lost_elsewhere, .. } = summary;
        let [saved, lost] = [*saved, *lost].map(percent);
        let [cheap, dear] = lost_elsewhere.map(percent);
        text += &format!(
            "| {} | {} | {peak_load:.1} × | {attempts_per_call:.2} | {} | {saved} | {lost} | {cheap} | {dear} |\n",
            contender.name,
            contender.terms,
            recovery(summary),
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
