//! The executor: the future of one call. It runs the operation, asks the session what to do next, and waits.

use core::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    attempt::{Attempt, poll_attempt},
    classify::Classify,
    journal::{EarlierRecords, Journal, Record, Timing},
    logging,
    nanos::Nanos,
    observe::{Event, Observe},
    reason::Reason,
    report::Report,
    retry::Config,
    runtime::Runtime,
    session::Progress,
    verdict::Verdict,
};

pin_project! {
    /// A call. Nothing happens before the first poll. Dropping it cancels the call. Polled again after it has completed,
    /// it stays pending.
    ///
    /// Not an `async` block, because it takes less memory: there may be a million calls in backoff.
    pub(crate) struct Call<S: Config, F, Fut, D, Finish> {
        config: S,
        operation: F,
        finish: Finish,
        progress: Progress,
        earlier: EarlierRecords,
        attempt_start: Nanos,
        // The timeout of the attempt, or the wait before the next one.
        #[pin]
        timer: Option<<S::Runtime as Runtime>::Sleep>,
        #[pin]
        state: State<Fut, D>,
    }

    impl<S: Config, F, Fut, D, Finish> PinnedDrop for Call<S, F, Fut, D, Finish> {
        fn drop(this: Pin<&mut Self>) {
            if !matches!(this.state, State::NotStarted | State::Done) {
                this.progress.end(this.config.retry().budget.as_ref());
            }
        }
    }
}

pin_project! {
    /// `NotStarted`, then `Attempt`, `Discard` and `Wait` in turn, and after the last `Attempt` `Done`.
    #[project = StateProj]
    enum State<Fut, D> {
        NotStarted,
        Attempt { #[pin] future: Fut },
        // Disposes of the failed outcome. The timer of the wait runs already.
        Discard { #[pin] future: D },
        Wait,
        Done,
    }
}

impl<S: Config, F, Fut, D, Finish> Call<S, F, Fut, D, Finish> {
    #[inline]
    pub(crate) fn new(config: S, operation: F, finish: Finish) -> Self {
        Self {
            config,
            operation,
            finish,
            progress: Progress::new(),
            earlier: EarlierRecords::default(),
            attempt_start: Nanos::ZERO,
            timer: None,
            state: State::NotStarted,
        }
    }
}

impl<S, F, Fut, D, Finish, T, E, Output> Future for Call<S, F, Fut, D, Finish>
where
    S: Config<Classify: Classify<T, E, Discard = D>, Observe: Observe<T, E>>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    D: Future<Output = ()>,
    Finish: Fn(Report<T, E>) -> Output,
{
    type Output = Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        if let State::NotStarted = self.state {
            self.as_mut().start_attempt();
        }
        // Each state falls through to the next.
        loop {
            let mut this = self.as_mut().project();
            if let StateProj::Attempt { future } = this.state.as_mut().project() {
                let outcome = ready!(poll_attempt(future, this.timer.as_pin_mut(), cx));
                if let Some(output) = self.as_mut().end_attempt(outcome) {
                    return Poll::Ready(output);
                }
            }
            let mut this = self.as_mut().project();
            if let StateProj::Discard { future } = this.state.as_mut().project() {
                ready!(future.poll(cx));
                this.state.set(State::Wait);
            }
            if let State::Done = *this.state {
                return Poll::Pending;
            }
            if let Some(wait) = this.timer.as_mut().as_pin_mut() {
                ready!(wait.poll(cx));
                this.timer.set(None);
            }
            self.as_mut().start_attempt();
        }
    }
}

impl<S, F, Fut, D, Finish, T, E, Output> Call<S, F, Fut, D, Finish>
where
    S: Config<Classify: Classify<T, E, Discard = D>, Observe: Observe<T, E>>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    Finish: Fn(Report<T, E>) -> Output,
{
    #[inline]
    fn start_attempt(self: Pin<&mut Self>) {
        let mut this = self.project();
        let retry = this.config.retry();
        let remaining = retry.now().and_then(|now| {
            if let State::NotStarted = *this.state {
                this.progress.start(retry.budget.as_ref(), now);
                this.state.set(State::Wait);
            }
            *this.attempt_start = now;
            this.progress.remaining(&retry.policy, now)
        });
        let timeout = remaining.unwrap_or(Nanos::MAX).min(retry.attempt_timeout);
        if timeout != Nanos::MAX {
            this.timer.set(Some(retry.runtime.sleep(timeout.get())));
        }
        let attempt = Attempt { number: this.progress.attempt(), remaining: remaining.map(Nanos::get) };
        this.state.set(State::Attempt { future: (this.operation)(attempt) });
    }

    /// Returns the output of the call, or `None` if another attempt follows. `outcome` is `None` after a timeout.
    #[inline]
    fn end_attempt(mut self: Pin<&mut Self>, outcome: Option<Result<T, E>>) -> Option<Output> {
        let mut this = self.as_mut().project();
        let retry = this.config.retry();
        this.state.set(State::Wait);
        if this.timer.is_some() {
            this.timer.set(None);
        }
        let verdict = outcome.as_ref().map_or(Verdict::RetryTimeout, |outcome| retry.classify.classify(outcome));
        let now = retry.now();
        let attempt = this.progress.attempt();
        let random = || retry.runtime.random();
        let next = this.progress.decide(&retry.policy, retry.budget.as_ref(), verdict, now.unwrap_or_default(), random);
        let timing = now.filter(|_| retry.timed).map(|now| Timing {
            start: this.attempt_start.since(this.progress.start),
            duration: now.since(*this.attempt_start),
        });
        let record = |wait| Record { attempt, verdict, wait, timing };
        match next {
            Ok(wait) => {
                self.start_wait(outcome, record(Some(wait.get())));
                None
            }
            Err(reason) => Some(self.finish(outcome, record(None), reason)),
        }
    }

    fn start_wait(self: Pin<&mut Self>, outcome: Option<Result<T, E>>, record: Record) {
        let mut this = self.project();
        let retry = this.config.retry();
        logging::retry(&record);
        retry.observe.observe(Event::Retry { record: &record, outcome: outcome.as_ref() });
        this.earlier.push(&record, retry.journal_limit);
        if let Some(wait) = record.wait.filter(|wait| !wait.is_zero()) {
            this.timer.set(Some(retry.runtime.sleep(wait)));
        }
        // Before the wait, so that a failed outcome does not hold a connection or memory meanwhile.
        if let Some(outcome) = outcome {
            this.state.set(State::Discard { future: retry.classify.discard(outcome) });
        }
    }

    #[inline]
    fn finish(self: Pin<&mut Self>, outcome: Option<Result<T, E>>, record: Record, reason: Reason) -> Output {
        let mut this = self.project();
        let retry = this.config.retry();
        this.state.set(State::Done);
        this.progress.end(retry.budget.as_ref());
        logging::end(&record, reason);
        retry.observe.observe(Event::End { record: &record, outcome: outcome.as_ref(), reason });
        (this.finish)(Report { outcome, reason, journal: Journal::new(mem::take(this.earlier), record) })
    }
}
