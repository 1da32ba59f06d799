//! What an upstream did to one request, and the script item that does the same to another.

use std::{fmt, time::Duration};

/// A response head that arrives earlier counts as immediate.
pub(super) const IMMEDIATE: Duration = Duration::from_millis(5);

/// A request that breaks this soon after it was sent starts an outage at once: a busy gateway may be that late to notice, and
/// with a delay, a replay would receive other requests before the outage.
const LATE: Duration = Duration::from_millis(50);

/// About the size of a response head of the backend, which counts in `stall-after`.
const HEAD_SIZE: u64 = 128;

/// A body that arrives within this time is not slow.
const SLOW_BODY: Duration = Duration::from_millis(100);

/// A request that was sent to an endpoint. Times are from the start of the recording.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) method: &'static str,
    pub(super) endpoint: String,
    /// Whether its connection carried a request before.
    pub(super) reused: bool,
    pub(super) start: Duration,
    pub(super) head: Option<Head>,
    /// `None` while it is in flight.
    pub(super) end: Option<Ended>,
    /// What an outage has to do with it.
    pub(super) outage: Option<OutagePart>,
}

/// What an exchange that broke has to do with an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutagePart {
    /// In a replay, it starts the outage, which is this long.
    Start(Duration),
    /// It was in flight at the start.
    Aborted,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) at: Duration,
    pub(super) status: u16,
    pub(super) retry_after: Option<RetryAfter>,
    /// Whether it announces the length of the body.
    pub(super) has_length: bool,
}

/// A `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAfter {
    Seconds(u64),
    /// A date this far in the future.
    DateIn(Duration),
}

/// The end of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) at: Duration,
    /// How many bytes of the body had arrived.
    pub(super) bytes: u64,
    pub(super) how: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// The connection was closed, or the stream was reset.
    Closed,
    /// The connection was reset.
    Reset,
    /// The server did not process the request (HTTP/2).
    Refused,
    /// Nothing arrived within the idle timeout.
    Stalled,
    /// What arrived was not HTTP.
    Invalid,
    /// The gateway canceled it: a timeout elapsed, or the client left.
    Canceled,
    /// Nothing was sent.
    NotSent,
}

/// An item of a script, without its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// All behaviors except the delay.
    parts: Vec<String>,
    pub(super) delay: Duration,
}

impl Exchange {
    /// Whether the connection broke before there was a response.
    pub(super) fn is_broken(&self) -> bool {
        let is_closed = |ended: Ended| matches!(ended.how, End::Closed | End::Reset);
        self.head.is_none() && self.end.is_some_and(is_closed)
    }

    /// Returns the script item for what is known by now.
    pub(super) fn item(&self) -> Item {
        let mut item = Item::default();
        match (&self.head, self.end) {
            (Some(head), end) => {
                item.delay = head.at.saturating_sub(self.start);
                item.add_status(head);
                if let Some(ended) = end {
                    item.add_body(head, ended);
                }
            }
            (None, Some(ended)) => {
                item.delay = ended.at.saturating_sub(self.start);
                match (ended.how, self.outage) {
                    (_, Some(OutagePart::Start(length))) => {
                        item.add(format_args!("down={}", Milliseconds(length)));
                        item.delay = if item.delay < LATE { Duration::ZERO } else { item.delay };
                    }
                    // Until the outage closes its connection.
                    (_, Some(OutagePart::Aborted)) => item = Item { parts: vec!["hang".to_owned()], ..Item::default() },
                    (End::Reset, None) => item.add("reset"),
                    (End::Closed, None) => item.add("close"),
                    (End::Invalid, None) => item.add("garbage"),
                    (End::Refused, None) => item.add("refused-stream"),
                    // How long it would have taken is not known; it would be canceled again.
                    (_, None) => item.delay = item.delay.saturating_mul(2),
                }
            }
            (None, None) => item.add("hang"),
        }
        if item.delay < IMMEDIATE {
            item.delay = Duration::ZERO;
        }
        item
    }

    /// Returns what a reader of the file should know beside the item.
    pub(super) fn note(&self) -> &'static str {
        match (&self.head, self.end.map(|ended| ended.how)) {
            _ if self.outage == Some(OutagePart::Aborted) => ", closed by the outage",
            (_, None) => ", still in flight",
            (None, Some(End::Canceled)) => ", canceled by a timeout or the client",
            (None, Some(End::Stalled)) => ", canceled by the idle timeout",
            (Some(_), Some(End::Stalled)) => ", body stalled",
            (Some(head), _) if head.status == 101 => ", upgraded",
            (Some(head), _) if !(200..600).contains(&head.status) => ", with a status that a script cannot have",
            _ => "",
        }
    }
}

impl Item {
    fn add(&mut self, part: impl fmt::Display) {
        self.parts.push(part.to_string());
    }

    /// Adds the status, unless that of the backend's own response fits: 206 depends on the request.
    fn add_status(&mut self, head: &Head) {
        if matches!(head.status, 200 | 206) || !(200..600).contains(&head.status) {
            return;
        }
        self.add(format_args!("status={}", head.status));
        match head.retry_after {
            Some(RetryAfter::Seconds(seconds)) => self.add(format_args!("retry-after={seconds}")),
            Some(RetryAfter::DateIn(wait)) => self.add(format_args!("retry-after-date={}", Milliseconds(wait))),
            None => {}
        }
    }

    fn add_body(&mut self, head: &Head, ended: Ended) {
        let time = ended.at.saturating_sub(head.at);
        match ended.how {
            End::Closed | End::Reset | End::Invalid => {
                if !head.has_length {
                    self.add("chunked");
                }
                self.add(format_args!("truncate={}", ended.bytes));
            }
            End::Stalled => self.add(format_args!("stall-after={}", ended.bytes.saturating_add(HEAD_SIZE))),
            End::Complete if time >= SLOW_BODY && ended.bytes > 0 => {
                let rate = ended.bytes as f64 / time.as_secs_f64();
                self.add(format_args!("bandwidth={}/s", rate.ceil() as u64));
            }
            End::Complete | End::Canceled | End::Refused | End::NotSent => {}
        }
    }

    /// Whether the response was the usual one, if perhaps late.
    pub(super) fn is_healthy(&self) -> bool {
        self.parts.is_empty()
    }
}

/// As a script displays it: the delay is the last part.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = (!self.delay.is_zero()).then(|| format!("delay={}", Milliseconds(self.delay)));
        let parts: Vec<&str> = self.parts.iter().chain(&delay).map(String::as_str).collect();
        if parts.is_empty() { f.write_str("ok") } else { f.write_str(&parts.join(";")) }
    }
}

/// Displays a duration as in a script, rounded to milliseconds.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = self.0.saturating_add(Duration::from_micros(500)).as_millis();
        write!(f, "{rounded}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn head(at: u64, status: u16) -> Option<Head> {
        Some(Head { at: ms(at), status, retry_after: None, has_length: true })
    }

    /// Checks the item of an exchange that starts after a second.
    #[track_caller]
    fn check(head: Option<Head>, end: Option<(u64, u64, End)>, expected: &str) {
        let end = end.map(|(at, bytes, how)| Ended { at: ms(at), bytes, how });
        let endpoint = "a:80".to_owned();
        let exchange = Exchange { method: "GET", endpoint, reused: false, start: ms(1000), head, end, outage: None };
        assert_eq!(exchange.item().to_string(), expected);
    }

    #[test]
    fn an_outage_has_the_delay_of_what_was_in_flight_for_long() {
        for (broken, expected) in [(1049, "down=9000ms"), (1050, "down=9000ms;delay=50ms")] {
            let end = Some(Ended { at: ms(broken), bytes: 0, how: End::Closed });
            let (endpoint, outage) = ("a:80".to_owned(), Some(OutagePart::Start(ms(9000))));
            let exchange = Exchange { method: "GET", endpoint, reused: true, start: ms(1000), head: None, end, outage };
            assert_eq!(exchange.item().to_string(), expected);
        }
    }

    #[test]
    fn an_item_does_what_the_upstream_did() {
        check(head(1004, 200), Some((1004, 14, End::Complete)), "ok");
        check(head(1020, 200), Some((1020, 14, End::Complete)), "delay=20ms");
        check(head(1020, 206), Some((1020, 14, End::Canceled)), "delay=20ms");
        check(head(1001, 503), Some((1001, 14, End::Complete)), "status=503");
        check(head(1001, 200), Some((1002, 5, End::Closed)), "truncate=5");
        check(head(3001, 404), Some((3002, 5, End::Reset)), "status=404;truncate=5;delay=2001ms");
        check(head(1001, 200), Some((3001, 1000, End::Complete)), "bandwidth=500/s");
        check(head(1001, 200), Some((3001, 1000, End::Stalled)), "stall-after=1128");
        check(head(1001, 101), Some((1001, 0, End::Complete)), "ok");
        check(head(1001, 999), Some((1001, 0, End::Complete)), "ok");
        check(head(1020, 200), None, "delay=20ms");
        check(None, Some((1001, 0, End::Closed)), "close");
        check(None, Some((1200, 0, End::Reset)), "reset;delay=200ms");
        check(None, Some((1001, 0, End::Invalid)), "garbage");
        check(None, Some((1001, 0, End::Refused)), "refused-stream");
        check(None, Some((1500, 0, End::Canceled)), "delay=1000ms");
        check(None, Some((1500, 0, End::Stalled)), "delay=1000ms");
        check(None, None, "hang");
    }

    #[test]
    fn a_status_has_its_retry_after_and_a_body_without_a_length_stays_so() {
        let status = |status, retry_after, has_length| Some(Head { at: ms(1000), status, retry_after, has_length });
        let end = Some((1001, 7, End::Closed));
        let busy = status(503, Some(RetryAfter::Seconds(2)), true);
        check(busy, Some((1000, 0, End::Complete)), "status=503;retry-after=2");
        let busy = status(429, Some(RetryAfter::DateIn(ms(1500))), false);
        check(busy, end, "status=429;retry-after-date=1500ms;chunked;truncate=7");
        check(status(200, Some(RetryAfter::Seconds(2)), true), end, "truncate=7");
    }
}
