//! The race of two attempts.

use std::pin::pin;

/// Which attempt an outcome is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Winner {
    First,
    Second,
}

/// What a response is worth beside another one, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Failed,
    /// It has failed, and the server forbids a retry, whatever the other response is.
    RetryForbidden,
    Accepted,
}

/// Runs an attempt, and a second one beside it when `late` returns one, before the first has ended. The first outcome that
/// is accepted wins, and the other attempt is canceled. If neither is accepted, the outcome is that of the first attempt,
/// unless that of the second has a higher rank. The lowest one is that of an error.
pub(crate) async fn race<T, E, S>(
    first: impl Future<Output = Result<T, E>>,
    late: impl Future<Output = Option<S>>,
    rank: impl Fn(&T) -> Rank,
) -> (Result<T, E>, Winner)
where
    S: Future<Output = Result<T, E>>,
{
    let mut first = pin!(first);
    let second = tokio::select! {
        biased;
        outcome = &mut first => return (outcome, Winner::First),
        second = late => second,
    };
    let Some(second) = second else { return (first.await, Winner::First) };
    let mut second = pin!(second);
    let rank = |outcome: &Result<T, E>| outcome.as_ref().ok().map(&rank);
    let is_accepted = |outcome: &Result<T, E>| rank(outcome) == Some(Rank::Accepted);
    let (first, second) = tokio::select! {
        biased;
        outcome = &mut first => {
            if is_accepted(&outcome) {
                return (outcome, Winner::First);
            }
            (outcome, second.await)
        }
        outcome = &mut second => {
            if is_accepted(&outcome) {
                return (outcome, Winner::Second);
            }
            (first.await, outcome)
        }
    };
    if rank(&second) > rank(&first) { (second, Winner::Second) } else { (first, Winner::First) }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        time::Duration,
    };

    use proptest::prelude::*;
    use tokio::{
        runtime,
        time::{Instant, sleep},
    };

    use super::*;
    use Winner::{First, Second};

    /// A status that is accepted, one that is not, one whose retry is forbidden, or no response.
    type Outcome = Result<u16, &'static str>;

    const OK: Outcome = Ok(200);
    const BUSY: Outcome = Ok(503);
    const FORBIDDEN: Outcome = Ok(403);
    const CLOSED: Outcome = Err("closed");

    /// Notes whether its attempt was dropped before its end.
    struct Canceled<'a> {
        by: &'a RefCell<Vec<Winner>>,
        attempt: Winner,
        ended: Cell<bool>,
    }

    impl Drop for Canceled<'_> {
        fn drop(&mut self) {
            if !self.ended.get() {
                self.by.borrow_mut().push(self.attempt);
            }
        }
    }

    /// Runs a race of attempts that take these milliseconds; the second begins after `late`. Returns its outcome, when it
    /// ended, and which attempts were canceled.
    fn run(first: (u64, Outcome), late: Option<u64>, second: (u64, Outcome)) -> ((Outcome, Winner), u64, Vec<Winner>) {
        let canceled = RefCell::default();
        let attempt = |attempt, (millis, outcome): (u64, Outcome)| {
            let guard = Canceled { by: &canceled, attempt, ended: Cell::new(false) };
            async move {
                sleep(Duration::from_millis(millis)).await;
                guard.ended.set(true);
                outcome
            }
        };
        let second = async {
            sleep(Duration::from_millis(late.unwrap_or(3))).await;
            late.map(|_| attempt(Second, second))
        };
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (raced, millis) = runtime.block_on(async {
            let begin = Instant::now();
            let raced = race(attempt(First, first), second, |status| match status {
                200 => Rank::Accepted,
                403 => Rank::RetryForbidden,
                _ => Rank::Failed,
            })
            .await;
            (raced, begin.elapsed().as_millis() as u64)
        });
        (raced, millis, canceled.into_inner())
    }

    #[test]
    fn the_first_accepted_outcome_wins() {
        let check = |first, late, second, expected, millis, canceled: &[Winner]| {
            let result = run(first, late, second);
            assert_eq!(result, (expected, millis, canceled.to_vec()), "{first:?} {late:?} {second:?}");
        };
        check((20, OK), Some(50), (9, OK), (OK, First), 20, &[]);
        check((20, CLOSED), Some(50), (9, OK), (CLOSED, First), 20, &[]);
        check((20, BUSY), Some(50), (9, OK), (BUSY, First), 20, &[]);
        check((100, OK), None, (9, OK), (OK, First), 100, &[]);
        check((100, OK), Some(50), (9, OK), (OK, Second), 59, &[First]);
        check((100, OK), Some(50), (90, OK), (OK, First), 100, &[Second]);
        // What fails does not win while the other is in flight.
        check((100, OK), Some(50), (9, BUSY), (OK, First), 100, &[]);
        check((100, OK), Some(50), (9, CLOSED), (OK, First), 100, &[]);
        check((60, BUSY), Some(50), (90, OK), (OK, Second), 140, &[]);
        check((60, CLOSED), Some(50), (90, OK), (OK, Second), 140, &[]);
        // Both fail: a response is better than none.
        check((60, BUSY), Some(50), (90, CLOSED), (BUSY, First), 140, &[]);
        check((60, CLOSED), Some(50), (90, BUSY), (BUSY, Second), 140, &[]);
        check((100, CLOSED), Some(50), (9, BUSY), (BUSY, Second), 100, &[]);
        check((100, CLOSED), Some(50), (9, CLOSED), (CLOSED, First), 100, &[]);
        check((100, BUSY), Some(50), (9, BUSY), (BUSY, First), 100, &[]);
        // If one of them forbids the retry, there is none.
        check((100, OK), Some(50), (9, FORBIDDEN), (OK, First), 100, &[]);
        check((100, BUSY), Some(50), (9, FORBIDDEN), (FORBIDDEN, Second), 100, &[]);
        check((60, BUSY), Some(50), (90, FORBIDDEN), (FORBIDDEN, Second), 140, &[]);
        check((60, FORBIDDEN), Some(50), (90, BUSY), (FORBIDDEN, First), 140, &[]);
        check((60, FORBIDDEN), Some(50), (90, OK), (OK, Second), 140, &[]);
        check((60, FORBIDDEN), Some(50), (90, CLOSED), (FORBIDDEN, First), 140, &[]);
    }

    proptest! {
        #[test]
        fn a_race_ends_no_later_than_its_first_accepted_outcome(
            first in (1..200_u64, prop::sample::select(vec![OK, BUSY, FORBIDDEN, CLOSED])),
            late in prop::option::of(1..200_u64),
            second in (1..200_u64, prop::sample::select(vec![OK, BUSY, FORBIDDEN, CLOSED])),
        ) {
            let ((outcome, winner), millis, canceled) = run(first, late, second);
            // The second attempt begins only while the first is in flight.
            let second_end = late.filter(|late| *late < first.0).map(|late| (late + second.0, second.1));
            let ends = [Some(first), second_end].into_iter().flatten();
            let accepted = ends.clone().filter(|(_, outcome)| *outcome == OK).map(|(end, _)| end).min();
            prop_assert_eq!(Some(millis), accepted.or(ends.map(|(end, _)| end).max()));
            prop_assert_eq!(outcome == OK, accepted.is_some());
            prop_assert!(!canceled.contains(&winner) && (canceled.is_empty() || outcome == OK));
            prop_assert!(winner == First || second_end.is_some());
        }
    }
}
