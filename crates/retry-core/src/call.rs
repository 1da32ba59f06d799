//! [`Call`]: the future of one call. It runs the operation, and waits between attempts.

use core::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    attempt::{Attempt, poll_attempt},
    call_state::{CallState, End, Next},
    classify::{Classify, Discard, RetryIf},
    cold_path::cold_path,
    error::RetryError,
    observe::{Event, Observe},
    report::Report,
    runtime::Runtime,
    verdict::Verdict,
};

pin_project! {
    /// A call: a future that runs an operation until its outcome is accepted or no further attempt is allowed. Created by
    /// [`retry`](crate::retry()) and [`Retry::run`](crate::Retry::run).
    ///
    /// Its methods set what happens in this call only. They know the types of the operation, so that closures need no
    /// annotations:
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::io;
    /// use retry_core::{RetryPolicy, retry};
    ///
    /// # async fn fetch() -> io::Result<&'static str> { Ok("Hello World!!!") }
    /// let greeting = retry(RetryPolicy::default(), || fetch())
    ///     .retry_if(|error| error.kind() == io::ErrorKind::TimedOut)
    ///     .observe(|event| println!("attempt {} ended", event.record.attempt))
    ///     .await?;
    /// # assert_eq!(greeting, "Hello World!!!");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Nothing happens before the first poll. The call has a copy of its settings, so it is `'static` if the operation is,
    /// and `Send` if the operation and its future are: `tokio::spawn(retry(policy, operation))`.
    ///
    /// # Errors
    ///
    /// The output is an error if the last attempt failed or timed out.
    ///
    /// # Cancel safety
    ///
    /// Dropping a call cancels it: the attempt in flight is dropped, a wait ends, and the call ends for its budget. The
    /// number of attempts so far is lost. To use a call in a branch of `tokio::select!` in a loop, pin it outside of the
    /// loop and poll it by reference. The attempt in flight is also dropped at its timeout and at the deadline, so an
    /// operation that must not be cut off should run in a task of its own.
    ///
    /// # Panics
    ///
    /// Panics if polled again after it has completed, as an `async fn` does.
    //
    // Not an `async` block, because it takes less memory: there may be a million calls in backoff.
    #[must_use = "a call does nothing unless it is awaited"]
    pub struct Call<F, Fut, C, O, R>
    where
        R: Runtime,
    {
        call: CallState<R, C, O>,
        operation: F,
        // The timeout of the attempt, or the wait before the next one.
        #[pin]
        timer: Option<R::Sleep>,
        // Disposes of the failed outcome during the wait.
        discard: Option<Discard>,
        #[pin]
        state: State<Fut>,
    }
}

pin_project! {
    /// `Wait` and `Attempt` in turn, and after the last `Attempt` `Done`.
    #[project = StateProj]
    enum State<Fut> {
        // At the start of a call, nothing is waited for.
        Wait,
        Attempt { #[pin] future: Fut },
        Done,
    }
}

impl<F, Fut, C, O, R: Runtime> Call<F, Fut, C, O, R> {
    #[inline]
    pub(crate) fn new(call: CallState<R, C, O>, operation: F) -> Self {
        Self { call, operation, timer: None, discard: None, state: State::Wait }
    }
}

impl<F, Fut, T, E, C, O, R> Call<F, Fut, C, O, R>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    R: Runtime,
{
    /// Retries only the errors for which `predicate` returns true; others end the call at once. Replaces the classifier.
    #[inline]
    pub fn retry_if<P: Fn(&E) -> bool>(self, predicate: P) -> Call<F, Fut, RetryIf<P>, O, R> {
        self.classify_with(RetryIf(predicate))
    }

    /// Sets the classifier: a closure that returns a [`Verdict`] on each outcome, successes included.
    #[inline]
    pub fn classify<F2: Fn(&Result<T, E>) -> Verdict>(self, classify: F2) -> Call<F, Fut, F2, O, R> {
        self.classify_with(classify)
    }

    /// Sets a classifier of any type that implements [`Classify`].
    #[inline]
    pub fn classify_with<C2: Classify<T, E>>(self, classify: C2) -> Call<F, Fut, C2, O, R> {
        let Self { call, operation, timer, discard, state } = self;
        Call { call: call.map(|settings| settings.with_classify(classify)), operation, timer, discard, state }
    }

    /// Registers an observer: a closure that takes an [`Event`]. It is called before each wait and once when the call
    /// ends. Replaces the observer of the [`Retry`](crate::Retry).
    #[inline]
    pub fn observe<F2: Fn(Event<'_, T, E>)>(self, observe: F2) -> Call<F, Fut, C, F2, R> {
        self.observe_with(observe)
    }

    /// Registers an observer of any type that implements [`Observe`].
    #[inline]
    pub fn observe_with<O2: Observe<T, E>>(self, observe: O2) -> Call<F, Fut, C, O2, R> {
        let Self { call, operation, timer, discard, state } = self;
        Call { call: call.map(|settings| settings.with_observe(observe)), operation, timer, discard, state }
    }

    /// Makes the call return a [`Report`]: the outcome of the last attempt, with the reason for the end and the journal
    /// even if it is a success.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use retry_core::{Reason, RetryPolicy, retry};
    ///
    /// let report = retry(RetryPolicy::default(), || async { Ok::<_, String>(7) }).report().await;
    /// assert_eq!((report.outcome, report.reason), (Some(Ok(7)), Reason::Accepted));
    /// assert_eq!(report.journal.attempts(), 1);
    /// # });
    /// ```
    #[inline]
    pub fn report(self) -> impl Future<Output = Report<T, E>>
    where
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        Reported { call: self }
    }

    /// Polls the call. At its end, `finish` makes the output from the outcome of the last attempt. Both are inlined, as to
    /// return the parts and put them together afterwards takes as long as the rest of a call.
    #[inline(always)]
    fn poll_until_end<Out>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        finish: impl FnOnce(&mut CallState<R, C, O>, Option<Result<T, E>>, End) -> Out,
    ) -> Poll<Out>
    where
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        // Each state falls through to the next.
        loop {
            let mut this = self.as_mut().project();
            if let State::Wait = *this.state {
                if let Some(discard) = this.discard {
                    cold_path();
                    ready!(discard.as_mut().poll(cx));
                    *this.discard = None;
                }
                if let Some(wait) = this.timer.as_mut().as_pin_mut() {
                    cold_path();
                    ready!(wait.poll(cx));
                    this.timer.set(None);
                }
                let (attempt, timeout) = this.call.start_attempt();
                if let Some(timeout) = timeout {
                    cold_path();
                    this.timer.set(Some(this.call.settings.runtime.sleep(timeout)));
                }
                this.state.set(State::Attempt { future: (this.operation)(attempt) });
            }
            let StateProj::Attempt { future } = this.state.as_mut().project() else { panic_completed() };
            let outcome = ready!(poll_attempt(future, this.timer.as_mut().as_pin_mut(), cx));
            // Drops the attempt before anything is decided or observed, with all that it holds.
            this.state.set(State::Wait);
            if this.timer.is_some() {
                cold_path();
                this.timer.set(None);
            }
            match this.call.end_attempt(outcome.as_ref()) {
                Next::Wait(wait) => {
                    if !wait.is_zero() {
                        cold_path();
                        this.timer.set(Some(this.call.settings.runtime.sleep(wait.get())));
                    }
                    // Before the wait, so that a failed outcome does not hold a connection or memory meanwhile.
                    let discard = outcome.and_then(|outcome| this.call.settings.classify.discard(outcome));
                    if discard.is_some() {
                        *this.discard = discard;
                    }
                }
                Next::End(end) => {
                    this.state.set(State::Done);
                    return Poll::Ready(finish(this.call, outcome, end));
                }
            }
        }
    }
}

#[cold]
#[inline(never)]
#[expect(clippy::panic, reason = "as the future of an async fn does")]
fn panic_completed() -> ! {
    panic!("`Call` polled after it has completed")
}

impl<F, Fut, T, E, C, O, R> Future for Call<F, Fut, C, O, R>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    O: Observe<T, E>,
    R: Runtime,
{
    type Output = Result<T, RetryError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_until_end(cx, CallState::result)
    }
}

impl<F, Fut, C, O, R: Runtime> fmt::Debug for Call<F, Fut, C, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.call.settings.policy;
        f.debug_struct("Call").field("policy", policy).field("attempt", &self.call.attempt()).finish_non_exhaustive()
    }
}

pin_project! {
    /// A call whose output is the report.
    struct Reported<F, Fut, C, O, R>
    where
        R: Runtime,
    {
        #[pin]
        call: Call<F, Fut, C, O, R>,
    }
}

impl<F, Fut, T, E, C, O, R> Future for Reported<F, Fut, C, O, R>
where
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    O: Observe<T, E>,
    R: Runtime,
{
    type Output = Report<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report<T, E>> {
        self.project().call.poll_until_end(cx, CallState::report)
    }
}
