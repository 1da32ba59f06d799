//! `CallState`: a call between its attempts. Every executor has one.

use core::{mem, time::Duration};

use crate::{
    attempt::Attempt,
    budget::RetryBudget,
    classify::Classify,
    journal::{EarlierRecords, Journal, Record, Timing},
    logging,
    nanos::Nanos,
    observe::{Event, Observe},
    reason::Reason,
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
    End(Reason, Journal),
}

impl<R, C, O> CallState<R, C, O> {
    #[inline]
    pub(crate) fn new(settings: Settings<R, C, O>, budget: Option<RetryBudget>) -> Self {
        let (progress, earlier) = (Progress::new(budget), EarlierRecords::default());
        Self { settings, progress, earlier, attempt_start: Nanos::ZERO }
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
        let Settings { policy, runtime, classify, observe, journal_limit, timed, .. } = &self.settings;
        let verdict = outcome.map_or(Verdict::RetryTimeout, |outcome| classify.classify(outcome));
        let now = self.now();
        let attempt = self.progress.attempt();
        let next = self.progress.decide(policy, verdict, now.unwrap_or_default(), || runtime.random());
        let timing = now.filter(|_| *timed).map(|now| Timing {
            start: self.attempt_start.since(self.progress.start),
            duration: now.since(self.attempt_start),
        });
        let record = Record { attempt, verdict, wait: next.ok().map(Nanos::get), timing };
        match next {
            Ok(wait) => {
                logging::retry(&record);
                observe.observe(Event { record: &record, outcome, ended: None });
                self.earlier.push(&record, *journal_limit);
                Next::Wait(wait)
            }
            Err(reason) => {
                self.progress.end();
                logging::end(&record, reason);
                observe.observe(Event { record: &record, outcome, ended: Some(reason) });
                Next::End(reason, Journal::new(mem::take(&mut self.earlier), record))
            }
        }
    }

    /// Returns the time; `None` if nothing needs it.
    #[inline]
    fn now(&self) -> Option<Nanos> {
        let Settings { policy, runtime, timed, .. } = &self.settings;
        let needed = *timed || self.progress.has_budget() || policy.deadline != Nanos::MAX;
        needed.then(|| Nanos::new(runtime.now()))
    }
}
