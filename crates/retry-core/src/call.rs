//! One call under way: attempts, asks the session, waits. The only file that is polled.
//!
//! A future written out rather than an `async fn`, because an `async fn` keeps its arguments twice:
//! a service may have a great many calls waiting, and what each of them holds is what that costs.

use core::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::{
    Attempt, Classify, Event, Observe, Report, RetryBudget, RetryError, RetryPolicy,
    journal::{Draft, Journal, Record, Timing},
    logging,
    policy::Nanos,
    runtime::Runtime,
    session::{Progress, Reason, Verdict},
};

/// What a call goes by: a [`Retry`], or a policy alone.
pub(crate) trait Settings {
    type Runtime: Runtime;
    type Classify;
    type Observe;

    fn policy(&self) -> &RetryPolicy;
    fn runtime(&self) -> &Self::Runtime;
    fn classify(&self) -> &Self::Classify;
    fn observe(&self) -> &Self::Observe;
    fn budget(&self) -> Option<&RetryBudget>;
    /// `Nanos::MAX` stands for none.
    fn attempt_timeout(&self) -> Nanos;
    fn journal_limit(&self) -> u16;
    fn timed(&self) -> bool;
    /// Whether a deadline, a budget or the timing of attempts needs it.
    fn reads_clock(&self) -> bool;
}

pin_project! {
    /// A call of `F` as `S` says, with `Out` for its outcome. Nothing happens before the first poll;
    /// dropped at any point, it cancels the attempt or the wait.
    pub(crate) struct Call<S: Settings, F, Fut, D, Out> {
        settings: S,
        operation: F,
        phase: Phase,
        progress: Progress,
        journal: Draft,
        start: Nanos,
        // Set while an attempt is under way; then `sleep`, if set, is what limits it.
        #[pin]
        attempt: Option<Fut>,
        // Set without an attempt: what gets rid of the outcome of the last.
        #[pin]
        discard: Option<D>,
        // Set without an attempt: the wait before the next one.
        #[pin]
        sleep: Option<<S::Runtime as Runtime>::Sleep>,
        out: PhantomData<fn() -> Out>,
    }

    impl<S: Settings, F, Fut, D, Out> PinnedDrop for Call<S, F, Fut, D, Out> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.phase == Phase::UnderWay {
                this.progress.end(this.settings.budget());
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    NotYet,
    UnderWay,
    Over,
}

impl<S: Settings, F, Fut, D, Out> Call<S, F, Fut, D, Out> {
    #[inline]
    pub(crate) fn new(settings: S, operation: F) -> Self {
        Self {
            progress: Progress::new(),
            settings,
            operation,
            phase: Phase::NotYet,
            journal: Draft::default(),
            start: Nanos::ZERO,
            attempt: None,
            discard: None,
            sleep: None,
            out: PhantomData,
        }
    }
}

impl<S, F, Fut, D, Out, T, E> Future for Call<S, F, Fut, D, Out>
where
    S: Settings<Classify: Classify<T, E, Discard = D>, Observe: Observe<T, E>>,
    D: Future<Output = ()>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    Out: Conclude<T, E>,
{
    type Output = Out;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        if self.phase == Phase::Over {
            return Poll::Pending;
        }
        loop {
            if self.attempt.is_none() {
                ready!(self.as_mut().poll_wait(cx));
                self.as_mut().begin_attempt();
            }
            let outcome = ready!(self.as_mut().poll_attempt(cx));
            if let Some(out) = self.as_mut().judge(outcome) {
                return Poll::Ready(out);
            }
        }
    }
}

impl<S, F, Fut, D, Out, T, E> Call<S, F, Fut, D, Out>
where
    S: Settings<Classify: Classify<T, E, Discard = D>, Observe: Observe<T, E>>,
    D: Future<Output = ()>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    Out: Conclude<T, E>,
{
    #[inline]
    fn poll_wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(discard) = this.discard.as_mut().as_pin_mut() {
            ready!(discard.poll(cx));
            this.discard.set(None);
        }
        if let Some(wait) = this.sleep.as_mut().as_pin_mut() {
            ready!(wait.poll(cx));
            this.sleep.set(None);
        }
        Poll::Ready(())
    }

    #[inline]
    fn begin_attempt(self: Pin<&mut Self>) {
        let mut this = self.project();
        let settings = this.settings;
        let mut remaining = None;
        if settings.reads_clock() {
            let now = Nanos::new(settings.runtime().now());
            *this.start = now;
            if *this.phase == Phase::NotYet {
                this.progress.begin(settings.budget(), now);
            }
            remaining = this.progress.remaining(settings.policy(), now);
        }
        *this.phase = Phase::UnderWay;
        let attempt = Attempt { number: this.progress.attempt(), remaining: remaining.map(Nanos::get) };
        this.attempt.set(Some((this.operation)(attempt)));
        let limit = remaining.map_or(settings.attempt_timeout(), |remaining| remaining.min(settings.attempt_timeout()));
        if limit != Nanos::MAX {
            this.sleep.set(Some(settings.runtime().sleep(limit.get())));
        }
    }

    /// Its outcome, or none where the limit came first.
    #[inline]
    fn poll_attempt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        let mut this = self.project();
        let Some(attempt) = this.attempt.as_mut().as_pin_mut() else { return Poll::Pending };
        let outcome = match attempt.poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => {
                let Some(limit) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
                ready!(limit.poll(cx));
                None
            }
        };
        this.attempt.set(None);
        if this.sleep.is_some() {
            this.sleep.set(None);
        }
        Poll::Ready(outcome)
    }

    /// The end of the call, or none once the next attempt or the wait for it is due.
    #[inline]
    fn judge(self: Pin<&mut Self>, outcome: Option<Result<T, E>>) -> Option<Out> {
        match outcome.as_ref().map_or(Verdict::RetryTimeout, |outcome| self.settings.classify().classify(outcome)) {
            Verdict::Accept => self.decide(outcome, Verdict::Accept),
            verdict => self.decide(outcome, verdict),
        }
    }

    #[inline(always)]
    fn decide(self: Pin<&mut Self>, outcome: Option<Result<T, E>>, verdict: Verdict) -> Option<Out> {
        let mut this = self.project();
        let settings = this.settings;
        let budget = settings.budget();
        let now = if settings.reads_clock() { Nanos::new(settings.runtime().now()) } else { Nanos::ZERO };
        let made = Made {
            number: this.progress.attempt(),
            verdict,
            times: settings.timed().then_some((this.progress.begin, *this.start, now)),
        };
        match this.progress.decide(settings.policy(), budget, verdict, now, || settings.runtime().random()) {
            Ok(wait) => {
                let record = made.record(Some(wait.get()));
                logging::wait(&record);
                settings.observe().observe(Event::Retry { record: &record, outcome: outcome.as_ref() });
                this.journal.push(record, settings.journal_limit());
                // Now, lest it pin what it holds (a connection, memory) for as long as the wait.
                if let Some(outcome) = outcome {
                    this.discard.set(Some(settings.classify().discard(outcome)));
                }
                if !wait.is_zero() {
                    this.sleep.set(Some(settings.runtime().sleep(wait.get())));
                }
                None
            }
            Err(reason) => {
                *this.phase = Phase::Over;
                this.progress.end(budget);
                logging::end(&made.record(None), reason);
                settings.observe().observe(Event::End {
                    record: &made.record(None),
                    outcome: outcome.as_ref(),
                    reason,
                });
                Some(Out::conclude(outcome, reason, move || this.journal.finish(made.record(None))))
            }
        }
    }
}

/// An attempt that was made. Its record is written only where someone reads it.
#[derive(Clone, Copy)]
struct Made {
    number: u32,
    verdict: Verdict,
    /// When the call began, when the attempt did, and when it ended.
    times: Option<(Nanos, Nanos, Nanos)>,
}

impl Made {
    #[inline(always)]
    fn record(self, wait: Option<Duration>) -> Record {
        let timing =
            self.times.map(|(begin, start, end)| Timing { start: start.since(begin), duration: end.since(start) });
        Record { attempt: self.number, verdict: self.verdict, wait, timing }
    }
}

/// What a call hands back.
pub(crate) trait Conclude<T, E> {
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self;
}

impl<T, E> Conclude<T, E> for Report<T, E> {
    #[inline]
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self {
        Self { outcome, reason, journal: journal() }
    }
}

/// A success needs no journal, so none is made.
impl<T, E> Conclude<T, E> for Result<T, RetryError<E>> {
    #[inline]
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self {
        match outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(RetryError { last: Some(error), reason, journal: journal() }),
            None => Err(RetryError { last: None, reason, journal: journal() }),
        }
    }
}
