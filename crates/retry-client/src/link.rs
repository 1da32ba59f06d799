//! Which exchange a connection carries.
//!
//! hyper tells neither. But the body of a request is asked for its length in the task of the connection, when that
//! takes the request up, and an HTTP/1.1 connection is written to next, in the same poll of that task. So the body
//! offers the exchange's activity there, and the connection takes it. An HTTP/2 connection is written to in another
//! task than takes requests up: its exchanges are never linked, as they have it among many.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

use crate::idle::Activity;

thread_local! {
    static OFFERED: Cell<Option<Activity>> = const { Cell::new(None) };
}

/// Offers an exchange to the connection that is about to send it.
pub(crate) fn offer(activity: Activity) {
    OFFERED.set(Some(activity));
}

/// The exchange that the connection is to send.
pub(crate) fn take() -> Option<Activity> {
    OFFERED.take()
}

/// Runs the tasks of connections. No offer outlasts the poll that it was made in: it would go to another connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkingExecutor(TokioExecutor);

impl<F: Future<Output: Send> + Send + Unpin + 'static> Executor<F> for LinkingExecutor {
    fn execute(&self, task: F) {
        self.0.execute(Linking(task));
    }
}

struct Linking<F>(F);

impl<F: Future + Unpin> Future for Linking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = Pin::new(&mut self.0).poll(cx);
        drop(take());
        polled
    }
}
