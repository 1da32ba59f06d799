//! One call under way: attempts, asks the session, waits. The only file that is polled.
//!
//! A future written out rather than an `async fn`, because an `async fn` keeps its arguments twice:
//! a service may have a great many calls waiting, and what each of them holds is what that costs.

use core::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
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
    /// Whether it reads no clock and limits no attempt.
    fn is_plain(&self) -> bool {
        !self.reads_clock() && self.attempt_timeout() == Nanos::MAX
    }
}

pin_project! {
    /// A call of `F` as `S` says, with `Out` for its outcome. Nothing happens before the first poll;
    /// dropped at any point, it cancels the attempt or the wait.
    // In this order a call is moved in one piece, and holds little padding.
    #[repr(C)]
    pub(crate) struct Call<S: Settings, F, Fut, D, Out> {
        settings: S,
        operation: F,
        start: Nanos,
        journal: Draft,
        progress: Progress,
        // Set without an attempt: the wait before the next one. With one under way: what limits it.
        #[pin]
        sleep: Option<<S::Runtime as Runtime>::Sleep>,
        #[pin]
        attempt: Option<Fut>,
        // Set without an attempt: what gets rid of the outcome of the last.
        #[pin]
        discard: Option<D>,
        phase: Phase,
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
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        if self.phase == Phase::Over {
            return Poll::Pending;
        }
        if self.settings.is_plain() { self.go_on::<true>(cx) } else { self.go_on_measured(cx) }
    }
}

/// A call is `PLAIN` where nobody asks for the time: the compiler makes a loop of its own for those.
impl<S, F, Fut, D, Out, T, E> Call<S, F, Fut, D, Out>
where
    S: Settings<Classify: Classify<T, E, Discard = D>, Observe: Observe<T, E>>,
    D: Future<Output = ()>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    Out: Conclude<T, E>,
{
    #[inline(never)]
    fn go_on_measured(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        self.go_on::<false>(cx)
    }

    /// Attempts and waits until the call is over, or there is something to wait for.
    #[inline(always)]
    fn go_on<const PLAIN: bool>(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Out> {
        // Nothing is waited for before the first attempt.
        if self.phase == Phase::NotYet {
            self.as_mut().begin_attempt::<PLAIN>();
        } else if self.attempt.is_none() {
            ready!(self.as_mut().poll_wait(cx));
            self.as_mut().begin_attempt::<PLAIN>();
        }
        loop {
            let outcome = ready!(self.as_mut().poll_attempt::<PLAIN>(cx));
            let verdict =
                outcome.as_ref().map_or(Verdict::RetryTimeout, |outcome| self.settings.classify().classify(outcome));
            // Told apart before it is decided: then little is left to decide of a success.
            let out = match verdict {
                Verdict::Accept => self.as_mut().decide::<PLAIN>(outcome, Verdict::Accept),
                verdict => self.as_mut().decide::<PLAIN>(outcome, verdict),
            };
            if let Some(out) = out {
                return Poll::Ready(out);
            }
            ready!(self.as_mut().poll_wait(cx));
            self.as_mut().begin_attempt::<PLAIN>();
        }
    }

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
    fn begin_attempt<const PLAIN: bool>(self: Pin<&mut Self>) {
        let mut this = self.project();
        let settings = this.settings;
        let remaining = now::<PLAIN>(settings).and_then(|now| {
            *this.start = now;
            if *this.phase == Phase::NotYet {
                this.progress.begin(settings.budget(), now);
            }
            this.progress.remaining(settings.policy(), now)
        });
        *this.phase = Phase::UnderWay;
        let attempt = Attempt { number: this.progress.attempt(), remaining: remaining.map(Nanos::get) };
        this.attempt.set(Some((this.operation)(attempt)));
        if PLAIN {
            return;
        }
        let limit = remaining.map_or(settings.attempt_timeout(), |remaining| remaining.min(settings.attempt_timeout()));
        if limit != Nanos::MAX {
            this.sleep.set(Some(settings.runtime().sleep(limit.get())));
        }
    }

    /// What came of the attempt, or of its limit if that comes first.
    #[inline]
    fn poll_attempt<const PLAIN: bool>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        let mut this = self.project();
        let Some(attempt) = this.attempt.as_mut().as_pin_mut() else { return Poll::Pending };
        let outcome = match attempt.poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => {
                let Some(limit) = this.sleep.as_mut().as_pin_mut().filter(|_| !PLAIN) else { return Poll::Pending };
                ready!(limit.poll(cx));
                None
            }
        };
        this.attempt.set(None);
        if !PLAIN && this.sleep.is_some() {
            this.sleep.set(None);
        }
        Poll::Ready(outcome)
    }

    /// The end of the call, or none once the next attempt or the wait for it is due.
    #[inline(always)]
    fn decide<const PLAIN: bool>(
        mut self: Pin<&mut Self>,
        outcome: Option<Result<T, E>>,
        verdict: Verdict,
    ) -> Option<Out> {
        let mut this = self.as_mut().project();
        let settings = this.settings;
        let now = now::<PLAIN>(settings);
        let (attempt, random) = (this.progress.attempt(), || settings.runtime().random());
        match this.progress.decide(settings.policy(), budget::<PLAIN>(settings), verdict, now, random) {
            Ok(wait) => {
                let timing = timing(settings, this.progress.begin, *this.start, now);
                let record = Record { attempt, verdict, wait: Some(wait.get()), timing };
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
            Err(reason) => Some(self.finish::<PLAIN>(outcome, verdict, reason, now)),
        }
    }

    #[inline(always)]
    fn finish<const PLAIN: bool>(
        self: Pin<&mut Self>,
        outcome: Option<Result<T, E>>,
        verdict: Verdict,
        reason: Reason,
        now: Option<Nanos>,
    ) -> Out {
        let this = self.project();
        let settings = this.settings;
        *this.phase = Phase::Over;
        this.progress.end(budget::<PLAIN>(settings));
        let timing = timing(settings, this.progress.begin, *this.start, now);
        // Written only where someone reads it.
        let record = || Record { attempt: this.progress.attempt(), verdict, wait: None, timing };
        logging::end(&record(), reason);
        settings.observe().observe(Event::End { record: &record(), outcome: outcome.as_ref(), reason });
        Out::conclude(outcome, reason, || this.journal.finish(record()))
    }
}

/// The time, where somebody asks for it.
#[inline]
fn now<const PLAIN: bool>(settings: &impl Settings) -> Option<Nanos> {
    if PLAIN {
        return None;
    }
    settings.reads_clock().then(|| Nanos::new(settings.runtime().now()))
}

#[inline]
fn budget<const PLAIN: bool>(settings: &impl Settings) -> Option<&RetryBudget> {
    if PLAIN { None } else { settings.budget() }
}

/// When an attempt ran that ended `now`.
#[inline]
fn timing(settings: &impl Settings, begin: Nanos, start: Nanos, now: Option<Nanos>) -> Option<Timing> {
    let end = now.filter(|_| settings.timed())?;
    Some(Timing { start: start.since(begin), duration: end.since(start) })
}

/// What a call hands back.
pub(crate) trait Conclude<T, E> {
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self;
}

impl<T, E> Conclude<T, E> for Report<T, E> {
    #[inline(always)]
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self {
        Self { outcome, reason, journal: journal() }
    }
}

/// A success needs no journal, so none is made.
impl<T, E> Conclude<T, E> for Result<T, RetryError<E>> {
    #[inline(always)]
    fn conclude(outcome: Option<Result<T, E>>, reason: Reason, journal: impl FnOnce() -> Journal) -> Self {
        let last = match outcome {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => Some(error),
            None => None,
        };
        Err(RetryError::new(last, reason, journal()))
    }
}
