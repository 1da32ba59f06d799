//! [`Retry::run_blocking`]: operations that are not async.

use core::{
    future::{Ready, ready},
    time::Duration,
};
use std::thread;

use crate::{
    attempt::Attempt,
    call_state::{CallState, Next},
    classify::Classify,
    clock,
    error::RetryError,
    observe::Observe,
    retry::Retry,
    runtime::Runtime,
};

impl<R: Clone, C, O> Retry<R, C, O> {
    /// Runs `operation` on the current thread until its outcome is accepted or no further attempt is allowed. Between
    /// attempts, the thread sleeps; in async code, use [`run`](Self::run) instead.
    ///
    /// ```
    /// use std::{fs::File, io};
    /// use retry_core::{Retry, RetryPolicy};
    ///
    /// # let path = std::env::temp_dir().join(format!("run-blocking-{}.lock", std::process::id()));
    /// let retry = Retry::new(RetryPolicy::default())
    ///     .retry_if(|error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists);
    /// let lock = retry.run_blocking(|_attempt| File::create_new(&path))?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Nothing can interrupt an attempt: [`attempt_timeout`](Self::attempt_timeout) is ignored, and the deadline only
    /// prevents waits that would not end before it. An operation can limit its own time to
    /// [`Attempt::remaining`], for example with `TcpStream::set_read_timeout`.
    ///
    /// Needs no runtime: whatever the runtime of the `Retry`, the clock is that of the standard library. Async calls on
    /// tokio may share the budget.
    ///
    /// # Errors
    ///
    /// Returns an error if the last attempt failed.
    pub fn run_blocking<T, E>(&self, mut operation: impl FnMut(Attempt) -> Result<T, E>) -> Result<T, RetryError<E>>
    where
        C: Classify<T, E> + Clone,
        O: Observe<T, E> + Clone,
    {
        let Self { settings, budget } = self.clone();
        let mut call = CallState::new(settings.with_runtime(Blocking), budget);
        loop {
            let (attempt, _cannot_be_interrupted) = call.start_attempt();
            let outcome = operation(attempt);
            match call.end_attempt(Some(&outcome)) {
                Next::Wait(wait) => {
                    drop(outcome);
                    let () = Blocking.sleep(wait.get()).into_inner();
                }
                Next::End(end) => return call.result(Some(outcome), end),
            }
        }
    }
}

/// The clock of the standard library, and waits that block the thread.
#[derive(Clone, Copy)]
struct Blocking;

impl Runtime for Blocking {
    type Sleep = Ready<()>;

    fn now(&self) -> Duration {
        clock::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
    fn sleep(&self, wait: Duration) -> Ready<()> {
        thread::sleep(wait);
        ready(())
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
