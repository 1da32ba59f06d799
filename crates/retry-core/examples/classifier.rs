//! Says which outcomes are worth another attempt, successes among them.
//!
//! What a reader learns: a classifier sees the whole `Result` and answers with a `Verdict`; a server may
//! ask for its own wait; a failure that will not pass ends the call at once; and an `Ok` that stayed bad
//! is handed back as the `Ok` it is.

use std::{
    error::Error,
    future::{Ready, ready},
    time::Duration,
};

use retry_core::{Attempt, Reason, Retry, RetryPolicy, Verdict};

/// What a job queue answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Job(u32),
    Empty,
    Slower(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Disconnected,
    Forbidden,
}

fn classify(outcome: &Result<Answer, Fault>) -> Verdict {
    match outcome {
        Ok(Answer::Job(_)) => Verdict::Accept,
        Ok(Answer::Empty) | Err(Fault::Disconnected) => Verdict::Retry,
        Ok(Answer::Slower(wait)) => Verdict::RetryAfter(*wait),
        Err(Fault::Forbidden) => Verdict::Stop,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder().count(3).interval(Duration::from_millis(10)).build()?;
    let retry = Retry::new(policy).classify(classify);

    let wait = Duration::from_millis(30);
    let script = [Err(Fault::Disconnected), Ok(Answer::Slower(wait)), Ok(Answer::Job(7))];
    let report = retry.report(|attempt| ask(&script, attempt)).await;
    let waits: Vec<_> = report.journal.iter().filter_map(|record| record.wait).collect();
    assert_eq!(report.outcome, Some(Ok(Answer::Job(7))));
    assert_eq!(waits, [policy.interval(), wait], "the policy's wait, then the one that was asked for");

    let script = [Err(Fault::Forbidden), Ok(Answer::Job(8))];
    let report = retry.report(|attempt| ask(&script, attempt)).await;
    assert_eq!(report.outcome, Some(Err(Fault::Forbidden)));
    assert_eq!((report.reason, report.journal.attempts()), (Reason::Permanent, 1));

    let script = [Ok(Answer::Empty); 4];
    let report = retry.report(|attempt| ask(&script, attempt)).await;
    assert_eq!(report.outcome, Some(Ok(Answer::Empty)), "no error, although it gave up");
    assert_eq!(report.reason, Reason::Exhausted);
    Ok(())
}

/// The queue, as scripted.
fn ask(script: &[Result<Answer, Fault>], attempt: Attempt) -> Ready<Result<Answer, Fault>> {
    let answer = script.get(attempt.number as usize - 1);
    ready(answer.copied().unwrap_or(Err(Fault::Disconnected)))
}
