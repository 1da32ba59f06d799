//! [`Retry::run_with`]: operations that borrow something mutably.

use core::{future::poll_fn, pin::pin};

use crate::{
    attempt::{Attempt, poll_attempt},
    call_state::{CallState, Next},
    classify::Classify,
    error::RetryError,
    observe::Observe,
    retry::Retry,
    runtime::Runtime,
};

impl<R: Runtime, C, O> Retry<R, C, O> {
    /// Runs an operation that borrows `context` mutably, such as a database connection. Otherwise the same as
    /// [`run`](Self::run).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::io;
    /// use retry_core::{Retry, RetryPolicy};
    ///
    /// # struct Db { queries: u32 }
    /// impl Db {
    ///     async fn query(&mut self, text: &str) -> io::Result<u32> {
    ///         self.queries += 1;
    ///         Ok(self.queries)
    ///     }
    /// }
    ///
    /// # let mut db = Db { queries: 0 };
    /// let retry = Retry::new(RetryPolicy::default());
    /// let count = retry.run_with(&mut db, async |db, _attempt| db.query("count").await).await?;
    /// # assert_eq!(count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// The closure may capture references to other values, but nothing that it changes: that belongs to the context. For
    /// several values, pass what owns them: `&mut *self`, or a tuple as in
    /// `run_with(&mut pair, async |(db, log), _attempt| …)`.
    ///
    /// The future is `Send` if those of the attempts are, unless the context contains references. To spawn it, move the
    /// context into the task: `tokio::spawn(async move { retry.run_with(&mut db, …).await })`.
    ///
    /// # Errors
    ///
    /// Returns an error if the last attempt failed or timed out.
    ///
    /// # Cancel safety
    ///
    /// The same as that of a [`Call`](crate::Call): dropping the future drops the attempt in flight, and so do the timeout
    /// of attempts and the deadline. A context that can be left in an unusable state by that, such as a connection in the
    /// middle of a response, has to be checked by the operation at the start of each attempt.
    ///
    /// # Panics
    ///
    /// Panics if polled again after it has completed.
    pub fn run_with<'a, X, T, E, F>(
        &self,
        context: &'a mut X,
        mut operation: F,
    ) -> impl Future<Output = Result<T, RetryError<E>>> + use<'a, R, C, O, X, T, E, F>
    where
        X: ?Sized,
        F: AsyncFnMut(&mut X, Attempt) -> Result<T, E> + for<'b> OperationWith<&'b mut X, T, E>,
        C: Classify<T, E> + Clone,
        O: Observe<T, E> + Clone,
    {
        let Self { settings, budget } = self.clone();
        let mut call = CallState::new(settings, budget);
        async move {
            loop {
                let (attempt, timeout) = call.start_attempt();
                let outcome = {
                    let mut timer = pin!(timeout.map(|timeout| call.settings.runtime.sleep(timeout)));
                    let mut attempt = pin!(operation.run(context, attempt));
                    poll_fn(|cx| poll_attempt(attempt.as_mut(), timer.as_mut().as_pin_mut(), cx)).await
                };
                let next = call.end_attempt(outcome.as_ref());
                match next {
                    Next::Wait(wait) => {
                        let wait = (!wait.is_zero()).then(|| call.settings.runtime.sleep(wait.get()));
                        if let Some(discard) = outcome.and_then(|outcome| call.settings.classify.discard(outcome)) {
                            discard.await;
                        }
                        if let Some(wait) = wait {
                            wait.await;
                        }
                    }
                    Next::End(end) => return call.result(outcome, end),
                }
            }
        }
    }
}

/// An async operation that borrows its context mutably: an `async |context: &mut X, attempt: Attempt| …`, or an
/// `async fn` with these arguments. For [`Retry::run_with`].
///
/// It is a trait because the compiler cannot find out yet whether the future of a bare [`AsyncFnMut`] is `Send`, if the
/// closure captures a reference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operation of `run_with`",
    note = "it has to be an `async |context, attempt| …` that returns a `Result`; \
            what it changes belongs to the context, not to its captures"
)]
pub trait OperationWith<X, T, E> {
    /// The future of an attempt.
    type Future: Future<Output = Result<T, E>>;

    /// Starts an attempt.
    fn run(&mut self, context: X, attempt: Attempt) -> Self::Future;
}

impl<F, Fut, X, T, E> OperationWith<X, T, E> for F
where
    F: FnMut(X, Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = Fut;

    fn run(&mut self, context: X, attempt: Attempt) -> Fut {
        self(context, attempt)
    }
}
