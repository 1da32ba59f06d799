//! The attempts of a call, and their outcomes.

use std::{fmt, iter::once, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{end_reason::EndReason, error_kind::ErrorKind, grpc::code::GrpcCode};

/// The attempts of a call, their outcomes, and why there was no further attempt. Every response has it as an extension, and
/// every [`Error`](crate::Error) of a call that made an attempt returns it.
///
/// At most the last 16 attempts are kept; [`attempts`](Self::attempts) counts all of them. A history of one attempt that
/// got a response allocates no memory.
///
/// It displays as one line, for a log:
///
/// ```text
/// attempt 1 returned 503 Service Unavailable (2.1ms); waited 80ms; attempt 2 returned 200 OK (1.4ms)
/// ```
///
/// ```no_run
/// # async fn run(client: retry_client::Client) -> Result<(), retry_client::Error> {
/// use retry_client::{History, Outcome};
///
/// let response = client.get("/hello").await?;
/// if let Some(history) = response.extensions().get::<History>() {
///     println!("{} attempts: {history}", history.attempts());
///     for attempt in history.iter() {
///         match &attempt.outcome {
///             Outcome::Response(status) => println!("{} after {:?}", status.as_u16(), attempt.duration),
///             Outcome::Failed { kind, message } => println!("{kind:?}: {message}"),
///             other => println!("{other}"),
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    earlier: EarlierAttempts,
    last: PastAttempt,
    reason: EndReason,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastAttempt {
    /// The number of the attempt, starting at 1.
    pub number: u32,
    /// The outcome of the attempt.
    pub outcome: Outcome,
    /// The time from the start of the call to the start of the attempt.
    pub start: Duration,
    /// How long the attempt took until its outcome was known: until the head of the response had arrived, or its body if
    /// that is buffered.
    pub duration: Duration,
    /// How long the attempt waited until an endpoint was up, as part of its duration.
    pub parked: Duration,
    /// The endpoint that the outcome is of, named as in [`EndpointStatus`](crate::EndpointStatus). `None` if there is only
    /// one, and if the request was not sent.
    pub endpoint: Option<Arc<str>>,
    /// The second request that was sent because the first took long. `None` if there was none.
    pub hedge: Option<Hedge>,
    /// The wait that followed; `None` after the last attempt.
    pub wait: Option<Duration>,
}

/// A second request of an attempt, to another endpoint; see
/// [`ClientBuilder::hedge_after`](crate::ClientBuilder::hedge_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hedge {
    /// How long the first request had taken by then.
    pub after: Duration,
    /// Whether the outcome of the attempt is that of the second request.
    pub won: bool,
}

/// The outcome of an attempt. It displays as a verb phrase, such as `returned 503 Service Unavailable`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A response with this status.
    Response(StatusCode),
    /// A response to a gRPC call that failed with this code. Only if the code was known before the response was returned,
    /// and [`grpc_status_codes`](crate::RetryConfig::grpc_status_codes) has any.
    GrpcStatus(GrpcCode),
    /// No response.
    Failed {
        /// What went wrong. [`ErrorKind::Timeout`] if the attempt was aborted by the attempt timeout or the idle timeout.
        kind: ErrorKind,
        /// The message of the error.
        message: String,
    },
    /// No response: the deadline passed, and the attempt was aborted.
    DeadlineExceeded,
    /// A response whose body ended early after it had been returned. The rest is requested by a call of its own. Only an
    /// [`AttemptEvent`](crate::AttemptEvent) has this outcome.
    Resumed {
        /// What went wrong.
        kind: ErrorKind,
        /// The message of the error.
        message: String,
    },
}

/// How many attempts a history keeps.
const MAX_ATTEMPTS: usize = 16;

/// The attempts before the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlierAttempts(Vec<PastAttempt>);

impl EarlierAttempts {
    /// Adds an attempt. Drops the first if the history would have too many.
    pub(crate) fn push(&mut self, attempt: PastAttempt) {
        let Self(attempts) = self;
        if attempts.len() == MAX_ATTEMPTS - 1 {
            attempts.remove(0);
        }
        if attempts.is_empty() {
            // Many calls may be waiting for their second attempt: no spare capacity.
            attempts.reserve_exact(1);
        }
        attempts.push(attempt);
    }
}

impl History {
    pub(crate) fn new(earlier: EarlierAttempts, last: PastAttempt, reason: EndReason) -> Self {
        Self { earlier, last, reason }
    }

    /// Returns the number of attempts that the call made.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.last.number
    }

    /// Returns the last attempt.
    #[must_use]
    pub fn last(&self) -> &PastAttempt {
        &self.last
    }

    /// Returns the attempts in order: the last 16 if there were more.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PastAttempt> {
        self.earlier.0.iter().chain(once(&self.last))
    }

    /// Returns why there was no further attempt.
    #[must_use]
    pub fn reason(&self) -> EndReason {
        self.reason
    }

    /// Returns the reason, unless it adds nothing to the outcome of the last attempt.
    pub(crate) fn reason_to_display(&self) -> Option<EndReason> {
        match (self.reason, &self.last.outcome) {
            (EndReason::Accepted | EndReason::Outage, _) | (EndReason::Deadline, Outcome::DeadlineExceeded) => None,
            (reason, _) => Some(reason),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.attempts() as usize).saturating_sub(self.iter().count()) {
            0 => {}
            1 => f.write_str("1 earlier attempt; ")?,
            dropped => write!(f, "{dropped} earlier attempts; ")?,
        }
        for attempt in &self.earlier.0 {
            write!(f, "{attempt}; ")?;
            if let Some(wait) = attempt.wait.filter(|wait| !wait.is_zero()) {
                write!(f, "waited {:?}; ", rounded(wait))?;
            }
        }
        self.last.fmt(f)?;
        self.reason_to_display().map_or(Ok(()), |reason| write!(f, "; {reason}"))
    }
}

/// Displays the attempt as in the line of its [`History`], without the wait.
impl fmt::Display for PastAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, outcome, duration, parked, endpoint, hedge, .. } = self;
        write!(f, "attempt {number}")?;
        if let Some(endpoint) = endpoint {
            write!(f, " at {endpoint}")?;
        }
        write!(f, " {outcome} ({:?}", rounded(*duration))?;
        if !parked.is_zero() {
            write!(f, ", parked for {:?}", rounded(*parked))?;
        }
        f.write_str(")")?;
        if let Some(Hedge { after, won }) = hedge {
            let result = if *won { "won" } else { "lost" };
            write!(f, ", hedged after {:?}: {result}", rounded(*after))?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(status) => write!(f, "returned {status}"),
            Self::GrpcStatus(code) => write!(f, "returned gRPC status {code}"),
            Self::Failed { message, .. } => write!(f, "failed: {message}"),
            Self::DeadlineExceeded => f.write_str("exceeded the deadline"),
            Self::Resumed { message, .. } => write!(f, "was incomplete and is resumed: {message}"),
        }
    }
}

/// Rounds to tenths of a millisecond.
fn rounded(duration: Duration) -> Duration {
    const STEP: u128 = 100_000;
    let steps = (duration.as_nanos() + STEP / 2) / STEP;
    u64::try_from(steps * STEP).map_or(duration, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, outcome: Outcome) -> PastAttempt {
        PastAttempt {
            number,
            outcome,
            start: Duration::ZERO,
            duration: Duration::from_micros(2140),
            parked: Duration::ZERO,
            endpoint: None,
            hedge: None,
            wait: None,
        }
    }

    #[test]
    fn a_history_is_one_line() {
        let failed = || Outcome::Failed { kind: ErrorKind::ConnectionClosed, message: "reset".to_owned() };
        let check = |before: &[PastAttempt], last: PastAttempt, reason, line: &str| {
            let mut earlier = EarlierAttempts::default();
            before.iter().for_each(|attempt| earlier.push(attempt.clone()));
            assert_eq!(History::new(earlier, last, reason).to_string(), line);
        };
        let ok = || Outcome::Response(StatusCode::OK);
        check(&[], attempt(1, ok()), EndReason::Accepted, "attempt 1 returned 200 OK (2.1ms)");
        let wait = |wait| PastAttempt { wait: Some(Duration::from_millis(wait)), ..attempt(1, failed()) };
        let line = "attempt 1 failed: reset (2.1ms); waited 80ms; attempt 2 returned 200 OK (2.1ms)";
        check(&[wait(80)], attempt(2, ok()), EndReason::Accepted, line);
        let line = "attempt 1 failed: reset (2.1ms); attempt 2 failed: reset (2.1ms); no retries left";
        check(&[wait(0)], attempt(2, failed()), EndReason::Exhausted, line);
        let line = "1 earlier attempt; attempt 2 failed: reset (2.1ms); no retries left";
        check(&[], attempt(2, failed()), EndReason::Exhausted, line);
        let cut_off = attempt(1, Outcome::DeadlineExceeded);
        check(&[], cut_off, EndReason::Deadline, "attempt 1 exceeded the deadline (2.1ms)");
        let parked = PastAttempt { parked: Duration::from_millis(2), ..attempt(1, failed()) };
        check(&[], parked, EndReason::Outage, "attempt 1 failed: reset (2.1ms, parked for 2ms)");
        let hedge = Some(Hedge { after: Duration::from_millis(1), won: true });
        let hedged = PastAttempt { hedge, endpoint: Some("b:80".into()), ..attempt(1, ok()) };
        let line = "attempt 1 at b:80 returned 200 OK (2.1ms), hedged after 1ms: won";
        check(&[], hedged, EndReason::Accepted, line);
    }
}
