//! The executor with tokio's paused clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's message")]

use std::{
    cell::{Cell, RefCell},
    future::{Ready, pending},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use retry_core::{
    Attempt, Classify, Discard, Event, Jitter, Reason, Retry, RetryBudget, RetryPolicy, RetryPolicyBuilder, Verdict,
    retry,
};
use tokio::time::{Instant, sleep, timeout};

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn sample() -> RetryPolicyBuilder {
    RetryPolicy::BALLERINA.to_builder()
}

/// Runs a call whose attempts take `taken` seconds each and always fail. Returns when each started, how long the call
/// took, and why it ended.
async fn starts(retry: Retry, taken: f64) -> (Vec<f64>, f64, Reason) {
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
async fn attempts_start_when_the_policy_says() {
    let check = async |name, policy: RetryPolicyBuilder, taken, expected: &[f64], end, reason| {
        let (starts, took, why) = starts(Retry::new(policy.build().unwrap()), taken).await;
        assert_eq!(starts, expected, "{name}");
        assert_eq!((took, why), (end, reason), "{name}");
    };
    check("the sample, backend hanging", sample(), 2.0, &[0.0, 5.0, 13.0, 27.0], 29.0, Reason::Exhausted).await;
    check("the sample, backend down", sample(), 0.0, &[0.0, 3.0, 9.0, 21.0], 21.0, Reason::Exhausted).await;
    check("count 0", sample().count(0), 2.0, &[0.0], 2.0, Reason::Exhausted).await;
    check("2 retries", sample().count(2).backoff_factor(1.0), 0.0, &[0.0, 3.0, 6.0], 6.0, Reason::Exhausted).await;
    let instant = sample().interval(Duration::ZERO);
    check(
        "the second attempt times out at the deadline",
        instant.deadline(secs(3.0)),
        2.7,
        &[0.0, 2.7],
        3.0,
        Reason::Deadline,
    )
    .await;
    check("gives up before the deadline", sample().deadline(secs(12.0)), 2.0, &[0.0, 5.0], 7.0, Reason::Deadline).await;
}

#[tokio::test(start_paused = true)]
async fn the_free_function_retries_until_success() {
    let begin = Instant::now();
    let attempts = Cell::new(0);
    let greeting = retry(RetryPolicy::BALLERINA, || {
        attempts.set(attempts.get() + 1);
        let outcome = if attempts.get() < 4 { Err("slow") } else { Ok("Hello World!!!") };
        async move { outcome }
    });
    assert_eq!(greeting.await.unwrap(), "Hello World!!!");
    assert_eq!((attempts.get(), begin.elapsed()), (4, secs(21.0)));
}

#[tokio::test(start_paused = true)]
async fn the_error_has_the_attempts_the_reason_and_the_last_error() {
    let give_up = async |count| {
        let refused = || async { Err::<(), _>(std::io::Error::other("refused")) };
        retry(sample().count(count).build().unwrap(), refused).await.unwrap_err()
    };
    assert_eq!(give_up(0).await.to_string(), "gave up after 1 attempt, no retries left: refused");
    let error = give_up(2).await;
    assert_eq!(error.to_string(), "gave up after 3 attempts, no retries left: refused");
    assert_eq!((error.attempts(), error.journal().last().timing), (3, None));
    assert_eq!(error.into_last().unwrap().to_string(), "refused");
}

#[tokio::test(start_paused = true)]
async fn the_free_function_has_the_deadline_of_the_policy() {
    let begin = Instant::now();
    let never = || pending::<Result<(), ()>>();
    let gave_up = retry(sample().deadline(secs(5.0)).build().unwrap(), never).await.unwrap_err();
    assert_eq!((begin.elapsed(), gave_up.reason()), (secs(5.0), Reason::Deadline));
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_attempts_take_any_time_and_are_not_timed() {
    let slow = || async {
        sleep(secs(3600.0)).await;
        Ok::<_, ()>("done")
    };
    assert_eq!(retry(RetryPolicy::BALLERINA, slow).await.unwrap(), "done");
    for policy in [RetryPolicy::BALLERINA, sample().deadline(secs(7200.0)).build().unwrap()] {
        let report = Retry::new(policy).run(|_| slow()).report().await;
        assert_eq!(report.journal.last().timing, None);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_call_as_permanent() {
    let retry = Retry::new(RetryPolicy::BALLERINA).classify(|_| Verdict::Stop);
    let gave_up = retry.run(|_| async { Err::<(), _>("no such user") }).await.unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Permanent, 1));
    assert_eq!(gave_up.into_last(), Some("no such user"));
}

#[tokio::test(start_paused = true)]
async fn a_retryable_success_is_returned_unchanged_when_attempts_run_out() {
    let retry = Retry::new(RetryPolicy::BALLERINA).classify(|status| match status {
        Ok((503, _)) => Verdict::Retry,
        _ => Verdict::Accept,
    });
    let report = retry.run(|attempt| async move { Ok::<_, ()>((503, attempt.number)) }).report().await;
    assert_eq!(report.reason, Reason::Exhausted);
    assert_eq!(report.into_result().unwrap(), (503, 4), "the last attempt's");
}

#[tokio::test(start_paused = true)]
async fn a_requested_wait_is_taken_or_ends_the_call() {
    let check = async |asked, expected, reason| {
        let begin = Instant::now();
        let retry = Retry::new(sample().count(1).max_retry_after(secs(5.0)).build().unwrap())
            .classify(move |_| Verdict::RetryAfter(asked));
        let gave_up = retry.run(|_| async { Err::<(), _>(()) }).await.unwrap_err();
        assert_eq!((begin.elapsed(), gave_up.reason()), (expected, reason), "{asked:?}");
    };
    check(secs(5.0), secs(5.0), Reason::Exhausted).await;
    check(secs(5.1), Duration::ZERO, Reason::RetryAfterTooLong).await;
    check(Duration::MAX, Duration::ZERO, Reason::RetryAfterTooLong).await;
    check(Duration::ZERO, Duration::ZERO, Reason::Exhausted).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_is_retried() {
    let begin = Instant::now();
    let retry = Retry::new(sample().count(1).build().unwrap()).attempt_timeout(secs(2.0));
    let gave_up = retry.run(|_| pending::<Result<(), ()>>()).await.unwrap_err();
    assert_eq!((begin.elapsed(), gave_up.attempts()), (secs(7.0), 2));
    assert_eq!(gave_up.last(), None);
    assert_eq!(gave_up.journal().last().verdict, Verdict::RetryTimeout);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_gets_the_time_left_until_the_deadline() {
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
async fn nothing_runs_before_the_first_poll() {
    let runs = Cell::new(0);
    let retry = Retry::new(RetryPolicy::BALLERINA);
    drop(retry.run(|_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(()) }
    }));
    assert_eq!(runs.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_during_a_wait_cancels_it_and_ends_it_for_its_budget() {
    let runs = Rc::new(Cell::new(0));
    let budget = RetryBudget::in_flight(1.0, 0).unwrap();
    let retry = Retry::new(RetryPolicy::BALLERINA).budget(budget.clone());
    let call = retry.run(|_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(()) }
    });
    assert!(timeout(secs(1.0), call).await.is_err());
    sleep(secs(100.0)).await;
    assert_eq!(runs.get(), 1);
    let other = retry.run(|_| async { Ok::<_, ()>(()) }).await;
    assert!(other.is_ok());
    assert_eq!(budget.available(), 0.0, "no call is in flight, so none may retry");
}

#[tokio::test]
#[should_panic(expected = "polled after it has completed")]
async fn a_completed_call_panics_if_polled_again() {
    let mut call = Box::pin(retry(RetryPolicy::default(), || async { Ok::<_, ()>(()) }));
    assert_eq!(call.as_mut().await.ok(), Some(()));
    let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

#[tokio::test]
async fn a_call_whose_operation_panics_ends_for_its_budget() {
    let budget = RetryBudget::in_flight(1.0, 0).unwrap();
    let retry = Retry::new(RetryPolicy::BALLERINA).budget(budget.clone());
    let operation = |_| -> Ready<Result<(), ()>> { panic!("expected") };
    assert!(tokio::spawn(async move { retry.run(operation).await }).await.unwrap_err().is_panic());
    assert_eq!(budget.available(), 0.0, "no call is in flight, so none may retry");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_dropped_before_its_outcome_is_classified_and_observed() {
    let held = Rc::new(());
    let seen = RefCell::new(Vec::new());
    let hold_for_ever = || {
        let held = Rc::clone(&held);
        async move {
            let _held = held;
            pending::<Result<(), &str>>().await
        }
    };
    let retry = Retry::new(sample().count(1).build().unwrap())
        .attempt_timeout(secs(1.0))
        .observe(|_: Event<'_, (), &str>| seen.borrow_mut().push(Rc::strong_count(&held)));
    retry.run(|_| hold_for_ever()).await.unwrap_err();
    retry.run_with(&mut (), async |(), _| hold_for_ever().await).await.unwrap_err();
    assert_eq!(seen.into_inner(), [1; 4], "of what the attempt held, when it is observed");
}

#[tokio::test(start_paused = true)]
async fn a_failed_outcome_is_dropped_before_the_wait() {
    let held = Rc::new(());
    let retry = Retry::new(RetryPolicy::BALLERINA);
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
    assert_eq!(Rc::strong_count(&held), 1, "the error is dropped");
}

/// A classifier that takes two seconds to dispose of a failed outcome.
#[derive(Clone)]
struct SlowDiscard;

impl Classify<(), ()> for SlowDiscard {
    fn classify(&self, _: &Result<(), ()>) -> Verdict {
        Verdict::Retry
    }

    fn discard(&self, _: Result<(), ()>) -> Option<Discard> {
        Some(Box::pin(sleep(secs(2.0))))
    }
}

#[tokio::test(start_paused = true)]
async fn discarding_an_outcome_is_part_of_the_wait_and_ends_before_the_next_attempt() {
    for (interval, expected) in [(3.0, [0.0, 3.0]), (1.0, [0.0, 2.0]), (0.0, [0.0, 2.0])] {
        let begin = Instant::now();
        let starts = RefCell::new(Vec::new());
        let policy = sample().count(1).interval(secs(interval)).build().unwrap();
        let call = Retry::new(policy).classify_with(SlowDiscard);
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
async fn an_empty_budget_allows_one_attempt() {
    let retry = Retry::new(RetryPolicy::BALLERINA).budget(RetryBudget::tokens(0, 5));
    let gave_up = retry.run(|_| async { Err::<(), _>(()) }).await.unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Budget, 1));
}

#[tokio::test(start_paused = true)]
async fn the_journal_has_each_attempt() {
    let retry = Retry::new(RetryPolicy::BALLERINA).journal_limit(3).timed();
    let report = retry
        .run(|attempt| async move {
            sleep(secs(2.0)).await;
            if attempt.number < 3 { Err(()) } else { Ok(()) }
        })
        .report()
        .await;
    let recorded: Vec<_> = report
        .journal
        .iter()
        .map(|record| {
            let timing = record.timing.unwrap();
            (record.attempt, record.verdict, record.wait, timing.start, timing.duration)
        })
        .collect();
    assert_eq!(
        recorded,
        [
            (1, Verdict::Retry, Some(secs(3.0)), secs(0.0), secs(2.0)),
            (2, Verdict::Retry, Some(secs(6.0)), secs(5.0), secs(2.0)),
            (3, Verdict::Accept, None, secs(13.0), secs(2.0)),
        ]
    );
    assert_eq!(report.journal.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_journal_keeps_the_latest_attempts_up_to_its_limit() {
    let default = Retry::new(sample().count(9).interval(Duration::ZERO).build().unwrap());
    let numbers = async |retry: Retry| {
        let gave_up = retry.run(|_| async { Err::<(), _>(()) }).await.unwrap_err();
        let journal = gave_up.journal();
        assert_eq!(journal.attempts(), 10);
        (journal.iter().map(|record| record.attempt).collect::<Vec<_>>(), journal.dropped())
    };
    assert_eq!(numbers(default.clone()).await, (vec![10], 9));
    assert_eq!(numbers(default.clone().journal_limit(0)).await, (vec![10], 9));
    assert_eq!(numbers(default.clone().journal_limit(1)).await, (vec![10], 9));
    assert_eq!(numbers(default.clone().journal_limit(3)).await, (vec![8, 9, 10], 7));
    assert_eq!(numbers(default.journal_limit(16)).await, ((1..=10).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_called_before_each_wait_and_at_the_end() {
    let begin = Instant::now();
    let events = RefCell::new(Vec::new());
    let retry = Retry::new(sample().count(1).build().unwrap()).observe(|event| {
        let Event { record, outcome, ended, .. } = event;
        let next = ended.map_or_else(|| format!("{:?}", record.wait), |reason| format!("{reason:?}"));
        events.borrow_mut().push(format!("{:?} {} {outcome:?} {next}", begin.elapsed(), record.attempt));
    });
    let _ = retry.run(|_| async { Err::<(), _>("down") }).await;
    assert_eq!(events.into_inner(), ["0ns 1 Some(Err(\"down\")) Some(3s)", "3s 2 Some(Err(\"down\")) Exhausted"]);
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_waits() {
    let begin = Instant::now();
    let policy = sample().jitter(Jitter::Full).build().unwrap();
    let _ = Retry::new(policy).run(|_| async { Err::<(), _>(()) }).await;
    assert!(begin.elapsed() < secs(21.0), "the waits without jitter take 21 s");
}

/// A runtime that counts sleeps, which end immediately, and has neither time nor randomness.
#[derive(Default)]
struct CountingRuntime(Cell<u32>);

impl retry_core::Runtime for &CountingRuntime {
    type Sleep = Ready<()>;

    fn now(&self) -> Duration {
        panic!("the clock is not needed")
    }

    fn sleep(&self, _wait: Duration) -> Self::Sleep {
        self.0.set(self.0.get() + 1);
        std::future::ready(())
    }

    fn random(&self) -> u64 {
        panic!("randomness is not needed")
    }
}

#[tokio::test]
async fn a_wait_of_zero_needs_no_timer_and_a_plain_call_no_clock() {
    let runtime = CountingRuntime::default();
    let zero = sample().interval(Duration::ZERO).build().unwrap();
    let _ = Retry::with_runtime(&runtime, zero).run(|_| async { Err::<(), _>(()) }).await;
    assert_eq!(runtime.0.get(), 0);
    let _ = Retry::with_runtime(&runtime, RetryPolicy::BALLERINA).run(|_| async { Err::<(), _>(()) }).await;
    assert_eq!(runtime.0.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_borrow_mutably() {
    let begin = Instant::now();
    let mut log = Vec::new();
    let retry = Retry::new(RetryPolicy::BALLERINA).attempt_timeout(secs(2.0));
    let call = retry.run_with(&mut log, async |log, attempt| {
        log.push(begin.elapsed().as_secs_f64());
        match attempt.number {
            1 => Err("busy"),
            2 => pending().await,
            _ => Ok(log.len()),
        }
    });
    assert_eq!(call.await.unwrap(), 3);
    assert_eq!(log, [0.0, 3.0, 11.0]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_borrows_mutably_discards_outcomes_and_ends_for_its_budget() {
    let begin = Instant::now();
    let budget = RetryBudget::in_flight(1.0, 0).unwrap();
    let policy = sample().count(1).interval(secs(1.0)).build().unwrap();
    let retry = Retry::new(policy).classify_with(SlowDiscard).budget(budget.clone());
    let gave_up = retry.run_with(&mut (), async |(), _| Err(())).await.unwrap_err();
    assert_eq!((begin.elapsed(), gave_up.reason()), (secs(2.0), Reason::Exhausted));
    assert!(timeout(secs(1.0), retry.run_with(&mut (), async |(), _| Err(()))).await.is_err());
    assert_eq!(budget.available(), 0.0, "no call is in flight, so none may retry");
}
