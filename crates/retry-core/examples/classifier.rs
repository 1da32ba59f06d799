//! Classifies outcomes: which are retried, even if they are `Ok`.
//!
//! Shows that a classifier takes the `Result` and returns a `Verdict`, that a server can ask for its own wait, that a
//! permanent failure ends the call at once, and that the last `Ok` is returned if the retries are exhausted.

use std::{
    error::Error,
    future::{Ready, ready},
    time::Duration,
};

use retry_core::{Attempt, Jitter, Reason, Retry, RetryPolicy, Verdict};

/// The response of a job queue.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Response {
    Job(u32),
    Empty,
    Slower(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Disconnected,
    Forbidden,
}

fn classify(outcome: &Result<Response, Fault>) -> Verdict {
    match outcome {
        Ok(Response::Job(_)) => Verdict::Accept,
        Ok(Response::Empty) | Err(Fault::Disconnected) => Verdict::Retry,
        Ok(Response::Slower(wait)) => Verdict::RetryAfter(*wait),
        Err(Fault::Forbidden) => Verdict::Stop,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder().interval(Duration::from_millis(10)).jitter(Jitter::None).build()?;
    let retry = Retry::new(policy).classify(classify).journal_limit(4);

    let wait = Duration::from_millis(30);
    let script = [Err(Fault::Disconnected), Ok(Response::Slower(wait)), Ok(Response::Job(7))];
    let report = retry.run(|attempt| ask(&script, attempt)).report().await;
    let waits: Vec<_> = report.journal.iter().filter_map(|record| record.wait).collect();
    assert_eq!(report.outcome, Some(Ok(Response::Job(7))));
    assert_eq!(waits, [policy.interval(), wait], "the policy's wait, then the requested one");

    let script = [Err(Fault::Forbidden), Ok(Response::Job(8))];
    let report = retry.run(|attempt| ask(&script, attempt)).report().await;
    assert_eq!(report.outcome, Some(Err(Fault::Forbidden)));
    assert_eq!((report.reason, report.journal.attempts()), (Reason::Permanent, 1));

    let script = [Ok(Response::Empty); 4];
    let report = retry.run(|attempt| ask(&script, attempt)).report().await;
    assert_eq!(report.outcome, Some(Ok(Response::Empty)), "not an error, although the retries are exhausted");
    assert_eq!(report.reason, Reason::Exhausted);
    Ok(())
}

/// Returns the response that the script has for an attempt.
fn ask(script: &[Result<Response, Fault>], attempt: Attempt) -> Ready<Result<Response, Fault>> {
    let response = script.get(attempt.number as usize - 1);
    ready(response.copied().unwrap_or(Err(Fault::Disconnected)))
}
