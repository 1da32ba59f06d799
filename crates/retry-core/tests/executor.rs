//! The executor under tokio's paused clock: what runs, when, and what comes out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's message")]

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use retry_core::{
    Attempt, Classify, Event, Jitter, Reason, Retry, RetryBudget, RetryPolicy, RetryPolicyBuilder, Verdict, retry,
};
use tokio::time::{Instant, sleep, timeout};

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn sample() -> RetryPolicyBuilder {
    RetryPolicy::builder().interval(secs(3.0)).backoff_factor(2.0).max_wait_interval(secs(20.0))
}

/// Runs a call whose attempts take `taken` seconds each and always fail; returns when each began.
async fn starts(retry: Retry<retry_core::TokioRuntime>, taken: f64) -> (Vec<f64>, f64, Reason) {
    let begin = Instant::now();
    let starts = RefCell::new(Vec::new());
    let gave_up = retry
        .run(|_| {
            starts.borrow_mut().push(begin.elapsed().as_secs_f64());
            fail_after(taken)
        })
        .await
        .unwrap_err();
    (starts.into_inner(), begin.elapsed().as_secs_f64(), gave_up.reason())
}

async fn fail_after(taken: f64) -> Result<(), &'static str> {
    sleep(secs(taken)).await;
    Err("down")
}

#[tokio::test(start_paused = true)]
async fn attempts_and_waits_happen_when_the_policy_says() {
    let check = async |name, policy: RetryPolicyBuilder, taken, expected: &[f64], end, reason| {
        let (starts, took, why) = starts(Retry::new(policy.build().unwrap()), taken).await;
        assert_eq!(starts, expected, "{name}");
        assert_eq!((took, why), (end, reason), "{name}");
    };
    check("the sample, backend hanging", sample(), 2.0, &[0.0, 5.0, 13.0, 27.0], 29.0, Reason::Exhausted).await;
    check("the sample, backend down", sample(), 0.0, &[0.0, 3.0, 9.0, 21.0], 21.0, Reason::Exhausted).await;
    check("count 0", sample().count(0), 2.0, &[0.0], 2.0, Reason::Exhausted).await;
    check("limit of 2 retries", sample().count(2).backoff_factor(1.0), 0.0, &[0.0, 3.0, 6.0], 6.0, Reason::Exhausted)
        .await;
    let instant = sample().interval(Duration::ZERO);
    check("deadline cuts the second attempt", instant.deadline(secs(3.0)), 2.7, &[0.0, 2.7], 3.0, Reason::Deadline)
        .await;
    check("gives up now, not at the deadline", sample().deadline(secs(12.0)), 2.0, &[0.0, 5.0], 7.0, Reason::Deadline)
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_free_function_is_the_short_form() {
    let begin = Instant::now();
    let attempts = Cell::new(0);
    let answer = retry(RetryPolicy::SAMPLE, || {
        attempts.set(attempts.get() + 1);
        let outcome = if attempts.get() < 4 { Err("slow") } else { Ok("Hello World!!!") };
        async move { outcome }
    });
    assert_eq!(answer.await.unwrap(), "Hello World!!!");
    assert_eq!((attempts.get(), begin.elapsed()), (4, secs(21.0)));
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_call_tells_the_attempts_the_reason_and_the_last_error() {
    let give_up = async |count| {
        let refused = || async { Err::<(), _>(std::io::Error::other("refused")) };
        retry(sample().count(count).build().unwrap(), refused).await.unwrap_err()
    };
    assert_eq!(give_up(0).await.to_string(), "gave up after 1 attempt: no retries left");
    let error = give_up(2).await;
    assert_eq!(error.to_string(), "gave up after 3 attempts: no retries left");
    assert_eq!(error.last().unwrap().to_string(), "refused");
    assert_eq!(error.journal().iter().count(), 3);
    assert!(error.journal().iter().all(|record| record.timing.is_none()), "nobody asked for the time");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "refused");
}

#[tokio::test(start_paused = true)]
async fn the_short_form_keeps_to_the_policys_deadline() {
    let begin = Instant::now();
    let never = || pending::<Result<(), ()>>();
    let gave_up = retry(sample().deadline(secs(5.0)).build().unwrap(), never).await.unwrap_err();
    assert_eq!((begin.elapsed(), gave_up.reason()), (secs(5.0), Reason::Deadline));
}

#[tokio::test(start_paused = true)]
async fn nothing_cuts_an_attempt_or_reads_the_clock_unless_asked() {
    let slow = || async {
        sleep(secs(3600.0)).await;
        Ok::<_, ()>("at last")
    };
    assert_eq!(retry(RetryPolicy::SAMPLE, slow).await.unwrap(), "at last");
    for policy in [RetryPolicy::SAMPLE, sample().deadline(secs(7200.0)).build().unwrap()] {
        let report = Retry::new(policy).report(|_| slow()).await;
        assert_eq!(report.journal.last().timing, None);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_on_the_first_error_is_permanent() {
    let retry = Retry::new(RetryPolicy::SAMPLE).classify(|_: &Result<(), &str>| Verdict::Stop);
    let gave_up = retry.run(|_| async { Err("no such user") }).await.unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Permanent, 1));
    assert_eq!(gave_up.into_last(), Some("no such user"));
}

#[tokio::test(start_paused = true)]
async fn a_retryable_success_is_handed_back_unchanged_when_attempts_run_out() {
    let retry = Retry::new(RetryPolicy::SAMPLE).classify(|status: &Result<(u16, u32), ()>| match status {
        Ok((503, _)) => Verdict::Retry,
        _ => Verdict::Accept,
    });
    let report = retry.report(|attempt| async move { Ok((503, attempt.number)) }).await;
    assert_eq!(report.reason, Reason::Exhausted);
    assert_eq!(report.into_result().unwrap(), (503, 4), "the last one");
}

#[tokio::test(start_paused = true)]
async fn a_wait_asked_for_is_honoured_or_ends_the_call() {
    let check = async |asked, expected, reason| {
        let begin = Instant::now();
        let retry = Retry::new(sample().count(1).max_retry_after(secs(5.0)).build().unwrap())
            .classify(move |_: &Result<(), ()>| Verdict::RetryAfter(asked));
        let gave_up = retry.run(|_| async { Err(()) }).await.unwrap_err();
        assert_eq!((begin.elapsed(), gave_up.reason()), (expected, reason), "{asked:?}");
    };
    check(secs(5.0), secs(5.0), Reason::Exhausted).await;
    check(secs(5.1), Duration::ZERO, Reason::RetryAfterTooLong).await;
    check(Duration::MAX, Duration::ZERO, Reason::RetryAfterTooLong).await;
    check(Duration::ZERO, Duration::ZERO, Reason::Exhausted).await;
}

#[tokio::test(start_paused = true)]
async fn attempt_timeout_cuts_an_attempt_and_retries_it() {
    let begin = Instant::now();
    let retry = Retry::new(sample().count(1).build().unwrap()).attempt_timeout(secs(2.0));
    let gave_up = retry.run(|_| pending::<Result<(), ()>>()).await.unwrap_err();
    assert_eq!((begin.elapsed(), gave_up.attempts()), (secs(7.0), 2));
    assert_eq!(gave_up.last(), None);
    assert_eq!(gave_up.journal().last().verdict, Verdict::RetryTimeout);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_what_the_deadline_leaves() {
    let seen = RefCell::new(Vec::new());
    let retry = Retry::new(sample().deadline(secs(10.0)).build().unwrap());
    let _ = retry
        .run(|Attempt { number, remaining, .. }| {
            seen.borrow_mut().push((number, remaining.unwrap().as_secs_f64()));
            fail_after(1.0)
        })
        .await;
    assert_eq!(seen.into_inner(), [(1, 10.0), (2, 6.0)]);
}

#[tokio::test(start_paused = true)]
async fn dropped_before_the_first_poll_nothing_runs() {
    let runs = Cell::new(0);
    let retry = Retry::new(RetryPolicy::SAMPLE);
    drop(retry.run(|_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(()) }
    }));
    assert_eq!(runs.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_during_a_wait_nothing_more_runs_and_places_are_given_back() {
    let runs = Rc::new(Cell::new(0));
    let budget = RetryBudget::in_flight(1.0, 0).unwrap();
    let retry = Retry::new(RetryPolicy::SAMPLE).budget(budget.clone());
    let call = retry.run(|_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(()) }
    });
    assert!(timeout(secs(1.0), call).await.is_err());
    sleep(secs(100.0)).await;
    assert_eq!(runs.get(), 1);
    let other = retry.run(|_| async { Ok::<_, ()>(()) }).await;
    assert!(other.is_ok());
    assert_eq!(budget.available(), 0.0, "no call is in flight, so none may be in retry");
}

#[tokio::test(start_paused = true)]
async fn a_failed_outcome_is_dropped_before_the_wait() {
    let held = Rc::new(());
    let retry = Retry::new(RetryPolicy::SAMPLE);
    let call = retry.run(|_| {
        let error = held.clone();
        async move { Err::<(), _>(error) }
    });
    assert!(timeout(secs(1.0), Box::pin(call)).await.is_err());
    let mut call = Box::pin(retry.run(|_| {
        let error = held.clone();
        async move { Err::<(), _>(error) }
    }));
    assert!(timeout(secs(1.0), &mut call).await.is_err());
    assert_eq!(Rc::strong_count(&held), 1, "the wait holds on to nothing");
}

/// Takes two seconds to dispose of a failed outcome.
struct Slowly;

impl Classify<(), ()> for Slowly {
    type Discard = tokio::time::Sleep;

    fn classify(&self, _: &Result<(), ()>) -> Verdict {
        Verdict::Retry
    }

    fn discard(&self, _: Result<(), ()>) -> Self::Discard {
        sleep(secs(2.0))
    }
}

#[tokio::test(start_paused = true)]
async fn disposing_of_a_failed_outcome_comes_before_the_next_attempt_and_is_part_of_the_wait() {
    for (interval, expected) in [(3.0, [0.0, 3.0]), (1.0, [0.0, 2.0]), (0.0, [0.0, 2.0])] {
        let begin = Instant::now();
        let starts = RefCell::new(Vec::new());
        let policy = sample().count(1).interval(secs(interval)).build().unwrap();
        let call = Retry::new(policy).classify(Slowly);
        let _ = call
            .run(|_| {
                starts.borrow_mut().push(begin.elapsed().as_secs_f64());
                async { Err(()) }
            })
            .await;
        assert_eq!(starts.into_inner(), expected, "interval {interval}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_leaves_one_attempt() {
    let retry = Retry::new(RetryPolicy::SAMPLE).budget(RetryBudget::tokens(0, 5, 10));
    let gave_up = retry.run(|_| async { Err::<(), _>(()) }).await.unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Budget, 1));
}

#[tokio::test(start_paused = true)]
async fn the_journal_tells_each_attempt() {
    let retry = Retry::new(RetryPolicy::SAMPLE).timed();
    let report = retry
        .report(|attempt| async move {
            sleep(secs(2.0)).await;
            if attempt.number < 3 { Err(()) } else { Ok(()) }
        })
        .await;
    let told: Vec<_> = report
        .journal
        .iter()
        .map(|record| {
            let timing = record.timing.unwrap();
            (record.attempt, record.verdict, record.wait, timing.start, timing.duration)
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, Verdict::Retry, Some(secs(3.0)), secs(0.0), secs(2.0)),
            (2, Verdict::Retry, Some(secs(6.0)), secs(5.0), secs(2.0)),
            (3, Verdict::Accept, None, secs(13.0), secs(2.0)),
        ]
    );
    assert_eq!(report.journal.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_bounded_and_keeps_the_latest() {
    let numbers = async |limit| {
        let policy = sample().count(9).interval(Duration::ZERO).build().unwrap();
        let gave_up = Retry::new(policy).journal_limit(limit).run(|_| async { Err::<(), _>(()) }).await.unwrap_err();
        let journal = gave_up.journal();
        assert_eq!(journal.attempts(), 10);
        (journal.iter().map(|record| record.attempt).collect::<Vec<_>>(), journal.dropped())
    };
    assert_eq!(numbers(3).await, (vec![8, 9, 10], 7));
    assert_eq!(numbers(1).await, (vec![10], 9));
    assert_eq!(numbers(0).await, (vec![10], 9));
    assert_eq!(numbers(16).await, ((1..=10).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_each_wait_before_it_begins_and_of_the_end() {
    let begin = Instant::now();
    let heard = RefCell::new(Vec::new());
    let retry = Retry::new(sample().count(1).build().unwrap()).observe(|event: Event<'_, (), &str>| {
        heard.borrow_mut().push(match event {
            Event::Retry { record, outcome } => {
                format!("{:?} {} {outcome:?} {:?}", begin.elapsed(), record.attempt, record.wait)
            }
            Event::End { record, outcome, reason } => {
                format!("{:?} {} {outcome:?} {reason:?}", begin.elapsed(), record.attempt)
            }
        });
    });
    let _ = retry.run(|_| async { Err("down") }).await;
    assert_eq!(heard.into_inner(), ["0ns 1 Some(Err(\"down\")) Some(3s)", "3s 2 Some(Err(\"down\")) Exhausted"]);
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_waits_below_those_of_the_policy() {
    let begin = Instant::now();
    let policy = sample().jitter(Jitter::Full).build().unwrap();
    let _ = Retry::new(policy).run(|_| async { Err::<(), _>(()) }).await;
    assert!(begin.elapsed() < secs(21.0), "three waits that are all at their most are not jittered");
}

#[test]
fn a_call_can_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let retry = Retry::new(RetryPolicy::SAMPLE).budget(RetryBudget::tokens(1, 1, 1));
    drop(is_send(retry.run(|_| async { Ok::<_, std::io::Error>(String::new()) })));
    drop(is_send(retry_core::retry(RetryPolicy::SAMPLE, || async { Ok::<_, ()>(()) })));
}

/// A runtime whose sleeps are counted and end at once.
#[derive(Default)]
struct Counting(Cell<u32>);

impl retry_core::Runtime for &Counting {
    type Sleep = std::future::Ready<()>;

    fn now(&self) -> Duration {
        panic!("nothing asked for the time")
    }

    fn sleep(&self, _wait: Duration) -> Self::Sleep {
        self.0.set(self.0.get() + 1);
        std::future::ready(())
    }

    fn random(&self) -> u64 {
        panic!("nothing asked for chance")
    }
}

#[tokio::test]
async fn a_wait_of_zero_asks_for_no_timer_and_nothing_reads_the_clock_unasked() {
    let runtime = Counting::default();
    let zero = sample().interval(Duration::ZERO).build().unwrap();
    let _ = Retry::with_runtime(&runtime, zero).run(|_| async { Err::<(), _>(()) }).await;
    assert_eq!(runtime.0.get(), 0);
    let _ = Retry::with_runtime(&runtime, RetryPolicy::SAMPLE).run(|_| async { Err::<(), _>(()) }).await;
    assert_eq!(runtime.0.get(), 3);
}
