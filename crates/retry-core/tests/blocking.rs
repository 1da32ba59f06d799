//! Blocking calls, on the clock of the standard library.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use retry_core::{Reason, Retry, RetryBudget, RetryPolicy, RetryPolicyBuilder, Verdict};

const WAIT: Duration = Duration::from_millis(20);

fn policy() -> RetryPolicyBuilder {
    RetryPolicy::builder().count(2).interval(WAIT).backoff_factor(1.0).jitter(retry_core::Jitter::None)
}

#[test]
fn a_blocking_call_waits_between_attempts_and_returns_the_success() {
    let retry = Retry::new(policy().build().unwrap()).timed().journal_limit(3);
    let starts = RefCell::new(Vec::new());
    let retry = retry.observe(|event| starts.borrow_mut().push(event.record.timing.unwrap().start));
    let value = retry.run_blocking(|attempt| if attempt.number < 3 { Err("busy") } else { Ok("done") });
    assert_eq!(value.unwrap(), "done");
    let starts = starts.into_inner();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= WAIT), "{starts:?}");
    assert_eq!(starts.len(), 3);
}

#[test]
fn a_blocking_call_has_a_classifier_and_returns_the_last_error() {
    let retry =
        Retry::new(policy().build().unwrap()).retry_if(|error: &io::Error| error.kind() == io::ErrorKind::WouldBlock);
    let attempts = Cell::new(0);
    let gave_up = retry
        .run_blocking(|_| {
            attempts.set(attempts.get() + 1);
            let kind = if attempts.get() == 1 { io::ErrorKind::WouldBlock } else { io::ErrorKind::NotFound };
            Err::<(), _>(io::Error::from(kind))
        })
        .unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Permanent, 2));
    assert_eq!(gave_up.into_last().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_blocking_call_ends_before_a_wait_that_would_exceed_its_deadline() {
    let retry = Retry::new(policy().deadline(WAIT).build().unwrap());
    let gave_up = retry
        .run_blocking(|attempt| {
            assert!(attempt.remaining.unwrap() <= WAIT);
            Err::<(), _>("busy")
        })
        .unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Deadline, 1));
}

#[test]
fn a_blocking_call_charges_its_budget() {
    let budget = RetryBudget::tokens(5, 5);
    let retry = Retry::new(policy().interval(Duration::ZERO).build().unwrap()).budget(budget.clone());
    let gave_up = retry.run_blocking(|_| Err::<(), _>("busy")).unwrap_err();
    assert_eq!((gave_up.reason(), gave_up.attempts(), budget.available()), (Reason::Budget, 2, 0.0));
}

#[test]
fn a_blocking_operation_may_borrow_mutably_and_drops_failed_outcomes_before_the_wait() {
    let held = Rc::new(());
    let mut counts = Vec::new();
    let retry = Retry::new(policy().interval(Duration::ZERO).build().unwrap()).classify(|_| Verdict::Retry);
    let value = retry.run_blocking(|_| {
        counts.push(Rc::strong_count(&held));
        Ok::<_, ()>(held.clone())
    });
    assert!(value.is_ok(), "the last outcome, although it should have been retried");
    assert_eq!(counts, [1, 1, 1]);
}
