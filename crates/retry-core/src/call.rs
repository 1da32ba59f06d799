//! One call under way: attempts, asks the session, waits. The only file that is polled.
//!
//! A future written out rather than an `async fn`, because an `async fn` keeps its arguments twice:
//! a service may have a great many calls waiting, and what each of them holds is what that costs.

use core::{
    borrow::Borrow,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    Attempt, Classify, Event, Observe, Report, Retry, RetryBudget, RetryError,
    journal::{Draft, Journal, Record, Timing},
    logging,
    policy::Nanos,
    runtime::Runtime,
    session::{Decision, Progress, Reason, Verdict},
};

pin_project! {
    /// A call of `F` as `S` says (a [`Retry`], owned or borrowed), with `Out` for its outcome. Nothing
    /// happens before the first poll; dropped at any point, it cancels the attempt or the wait.
    pub(crate) struct Call<S, R, C, O, F, Fut, D, Out>
    where
        S: Borrow<Retry<R, C, O>>,
        R: Runtime,
    {
        settings: S,
        operation: F,
        state: State,
        journal: Draft,
        begin: Nanos,
        start: Nanos,
        // Set while an attempt is under way; then `sleep`, if set, is what limits it.
        #[pin]
        attempt: Option<Fut>,
        // Set without an attempt: what gets rid of the outcome of the last.
        #[pin]
        discard: Option<D>,
        // Set without an attempt: the wait before the next one.
        #[pin]
        sleep: Option<R::Sleep>,
        types: PhantomData<fn() -> (C, O, Out)>,
    }

    impl<S, R, C, O, F, Fut, D, Out> PinnedDrop for Call<S, R, C, O, F, Fut, D, Out>
    where
        S: Borrow<Retry<R, C, O>>,
        R: Runtime,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let retry: &Retry<R, C, O> = (*this.settings).borrow();
            this.state.end(retry.budget.as_ref());
        }
    }
}

#[derive(Debug)]
enum State {
    NotYet,
    UnderWay(Progress),
    Over,
}

impl State {
    /// Ends the call for its budget, if it is under way.
    #[inline]
    fn end(&mut self, budget: Option<&RetryBudget>) {
        if let Self::UnderWay(progress) = self {
            progress.end(budget);
        }
        *self = Self::Over;
    }
}

impl<S, R, C, O, F, Fut, D, Out> Call<S, R, C, O, F, Fut, D, Out>
where
    S: Borrow<Retry<R, C, O>>,
    R: Runtime,
{
    #[inline]
    pub(crate) fn new(settings: S, operation: F) -> Self {
        Self {
            settings,
            operation,
            state: State::NotYet,
            journal: Draft::default(),
            begin: Nanos::ZERO,
            start: Nanos::ZERO,
            attempt: None,
            discard: None,
            sleep: None,
            types: PhantomData,
        }
    }
}

impl<S, R, C, O, F, Fut, D, Out, T, E> Future for Call<S, R, C, O, F, Fut, D, Out>
where
    S: Borrow<Retry<R, C, O>>,
    R: Runtime,
    C: Classify<T, E, Discard = D>,
    D: Future<Output = ()>,
    O: Observe<T, E>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    Out: Conclude<T, E>,
{
    type Output = Out;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        let mut this = self.project();
        let retry: &Retry<R, C, O> = (*this.settings).borrow();
        let budget = retry.budget.as_ref();
        loop {
            if this.attempt.is_none() {
                if let Some(discard) = this.discard.as_mut().as_pin_mut() {
                    ready!(discard.poll(cx));
                    this.discard.set(None);
                }
                if let Some(wait) = this.sleep.as_mut().as_pin_mut() {
                    ready!(wait.poll(cx));
                    this.sleep.set(None);
                }
                let start = retry.now();
                let progress = match this.state {
                    State::NotYet => {
                        *this.begin = start;
                        *this.state = State::UnderWay(Progress::start(&retry.policy, budget, start));
                        continue;
                    }
                    State::UnderWay(progress) => progress,
                    State::Over => return Poll::Pending,
                };
                *this.start = start;
                let remaining = progress.remaining(start).map(Nanos::get);
                this.attempt.set(Some((this.operation)(Attempt { number: progress.attempt(), remaining })));
                if let Some(limit) = retry.limit(remaining) {
                    this.sleep.set(Some(limit));
                }
            }
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
            let State::UnderWay(progress) = this.state else { return Poll::Pending };

            let verdict = outcome.as_ref().map_or(Verdict::RetryTimeout, |outcome| retry.classify.classify(outcome));
            let end = retry.now();
            let number = progress.attempt();
            let record = |wait| {
                let timing = retry.timed.then(|| Timing {
                    start: this.start.saturating_sub(*this.begin).get(),
                    duration: end.saturating_sub(*this.start).get(),
                });
                Record { attempt: number, verdict, wait, timing }
            };
            match progress.decide(&retry.policy, budget, verdict, end, || retry.runtime.random()) {
                Decision::Wait(wait) => {
                    let record = record(Some(wait));
                    logging::wait(&record);
                    retry.observe.observe(Event::Retry { record: &record, outcome: outcome.as_ref() });
                    this.journal.push(record, retry.journal_limit);
                    // Now, lest it pin what it holds (a connection, memory) for as long as the wait.
                    if let Some(outcome) = outcome {
                        this.discard.set(Some(retry.classify.discard(outcome)));
                    }
                    if !wait.is_zero() {
                        this.sleep.set(Some(retry.runtime.sleep(wait)));
                    }
                }
                Decision::Finish(reason) => {
                    let record = record(None);
                    logging::end(&record, reason);
                    this.state.end(budget);
                    retry.observe.observe(Event::End { record: &record, outcome: outcome.as_ref(), reason });
                    return Poll::Ready(Out::conclude(outcome, reason, || this.journal.finish(record)));
                }
            }
        }
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
