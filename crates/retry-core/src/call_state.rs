//! `CallState`: a call between its attempts. Every executor has one.

use core::{mem, time::Duration};

use crate::{
    attempt::Attempt,
    budget::RetryBudget,
    classify::Classify,
    cold_path::cold_path,
    error::RetryError,
    journal::{EarlierRecords, Journal, Record, Timing},
    logging,
    nanos::Nanos,
    observe::{Event, Observe},
    reason::Reason,
    report::Report,
    runtime::Runtime,
    session::Progress,
    settings::Settings,
    verdict::Verdict,
};

/// The settings of a call and its attempts so far.
///
/// [`start_attempt`](Self::start_attempt), run the operation, pass the outcome to [`end_attempt`](Self::end_attempt),
/// and wait; then start over.
pub(crate) struct CallState<R, C, O> {
    pub(crate) settings: Settings<R, C, O>,
    progress: Progress<RetryBudget>,
    earlier: EarlierRecords,
    attempt_start: Nanos,
}

/// What follows an attempt.
pub(crate) enum Next {
    Wait(Nanos),
    End(End),
}

/// The last attempt of a call, and why it was the last.
#[derive(Clone, Copy)]
pub(crate) struct End {
    reason: Reason,
    record: Record,
}

impl<R, C, O> CallState<R, C, O> {
    #[inline]
    pub(crate) fn new(settings: Settings<R, C, O>, budget: Option<RetryBudget>) -> Self {
        Self {
            settings,
            progress: Progress::new(budget),
            earlier: EarlierRecords::default(),
            attempt_start: Nanos::ZERO,
        }
    }

    /// Returns the result of a call that has ended.
    #[inline]
    pub(crate) fn result<T, E>(&mut self, outcome: Option<Result<T, E>>, end: End) -> Result<T, RetryError<E>> {
        match outcome {
            Some(Ok(value)) => Ok(value),
            failed => self.report(failed, end).into_result(),
        }
    }

    /// Returns the report on a call that has ended.
    #[inline]
    pub(crate) fn report<T, E>(&mut self, outcome: Option<Result<T, E>>, end: End) -> Report<T, E> {
        let End { reason, record } = end;
        Report { outcome, reason, journal: Journal::new(mem::take(&mut self.earlier), record) }
    }

    /// Returns the number of the current attempt, starting at 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.progress.attempt()
    }

    /// Replaces settings by others of other types.
    #[inline]
    pub(crate) fn map<C2, O2>(
        self,
        map: impl FnOnce(Settings<R, C, O>) -> Settings<R, C2, O2>,
    ) -> CallState<R, C2, O2> {
        let Self { settings, progress, earlier, attempt_start } = self;
        CallState { settings: map(settings), progress, earlier, attempt_start }
    }
}

impl<R: Runtime, C, O> CallState<R, C, O> {
    /// Starts an attempt. Returns it, and how much time it has; `None` means any time.
    #[inline(always)]
    pub(crate) fn start_attempt(&mut self) -> (Attempt, Option<Duration>) {
        let number = self.progress.attempt();
        let remaining = self.now().and_then(|now| {
            if number == 1 {
                self.progress.start(now);
            }
            self.attempt_start = now;
            self.progress.remaining(&self.settings.policy, now)
        });
        let timeout = remaining.unwrap_or(Nanos::MAX).min(self.settings.attempt_timeout);
        let attempt = Attempt { number, remaining: remaining.map(Nanos::get) };
        (attempt, (timeout != Nanos::MAX).then(|| timeout.get()))
    }

    /// Ends an attempt. `outcome` is `None` if it timed out.
    #[inline(always)]
    pub(crate) fn end_attempt<T, E>(&mut self, outcome: Option<&Result<T, E>>) -> Next
    where
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        let Settings { policy, runtime, classify, observe, journal_limit, .. } = &self.settings;
        let verdict = outcome.map_or(Verdict::RetryTimeout, |outcome| classify.classify(outcome));
        let now = self.now();
        let attempt = self.progress.attempt();
        match self.progress.decide(policy, verdict, now.unwrap_or_default(), || runtime.random()) {
            Ok(wait) => {
                let record = Record { attempt, verdict, wait: Some(wait.get()), timing: self.timing(now) };
                logging::retry(&record);
                observe.observe(Event { record: &record, outcome, ended: None });
                self.earlier.push(&record, *journal_limit);
                Next::Wait(wait)
            }
            Err(reason) => {
                self.progress.end();
                let record = Record { attempt, verdict, wait: None, timing: self.timing(now) };
                logging::end(&record, reason);
                observe.observe(Event { record: &record, outcome, ended: Some(reason) });
                Next::End(End { reason, record })
            }
        }
    }

    /// Returns when an attempt that ends at `now` ran; `None` if the journal does not contain it.
    #[inline]
    fn timing(&self, now: Option<Nanos>) -> Option<Timing> {
        now.filter(|_| self.settings.timed).map(|now| Timing {
            start: self.attempt_start.since(self.progress.start),
            duration: now.since(self.attempt_start),
        })
    }

    /// Returns the time; `None` if nothing needs it.
    #[inline]
    fn now(&self) -> Option<Nanos> {
        let Settings { runtime, reads_clock, .. } = &self.settings;
        reads_clock.then(|| {
            cold_path();
            Nanos::new(runtime.now())
        })
    }
}
