//! [`Attempt`]: what an operation is passed, and the timeout of an attempt.

use core::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Passed to the operation at each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt, starting at 1.
    pub number: u32,
    /// The time left until the deadline when the attempt starts; `None` if the policy has no deadline.
    pub remaining: Option<Duration>,
}

/// Polls an attempt, and its timeout if it has one. Ready with `None` if it timed out.
#[inline]
pub(crate) fn poll_attempt<Fut: Future>(
    attempt: Pin<&mut Fut>,
    timeout: Option<Pin<&mut impl Future<Output = ()>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Fut::Output>> {
    match (attempt.poll(cx), timeout) {
        (Poll::Ready(outcome), _) => Poll::Ready(Some(outcome)),
        (Poll::Pending, Some(timeout)) => timeout.poll(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    }
}
