//! Allocations of a call. A single test, because allocations are counted per process.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{
    alloc::System,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use retry_core::{Retry, RetryBudget, RetryPolicy};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Counts the allocations of a call whose operation succeeds at attempt `succeeds_at`.
fn allocations(retry: &Retry, succeeds_at: u32) -> usize {
    let region = Region::new(ALLOCATOR);
    let call = retry.run(|attempt| async move { if attempt.number < succeeds_at { Err("busy") } else { Ok(()) } });
    let polled = pin!(call).poll(&mut Context::from_waker(Waker::noop()));
    let count = region.change().allocations;
    assert!(matches!(polled, Poll::Ready(result) if result.is_ok() == (succeeds_at <= 10)));
    count
}

#[test]
fn a_call_allocates_only_a_journal_of_several_attempts_and_its_error() {
    let policy = RetryPolicy::builder().count(9).interval(Duration::ZERO).build().unwrap();
    let plain = Retry::new(policy);
    // Initializes what is allocated once per process.
    allocations(&plain.clone().timed(), 2);

    assert_eq!(allocations(&plain, 1), 0, "a success at the first attempt");
    assert_eq!(allocations(&plain, 10), 0, "nine retries");
    assert_eq!(allocations(&plain, 11), 1, "nine retries and an error");
    let measured = plain.clone().timed().budget(RetryBudget::share(1.0, 100).unwrap());
    assert_eq!(allocations(&measured, 10), 0, "nine retries with timing and a budget");
    let recorded = plain.journal_limit(16);
    assert_eq!(allocations(&recorded, 1), 0, "a success at the first attempt, with a journal");
    assert!(allocations(&recorded, 10) > 0, "nine retries with a journal");
}
