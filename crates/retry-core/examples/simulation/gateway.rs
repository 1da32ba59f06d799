//! A gateway that parks calls while the server is away, by the rules of `retry-service`: while connections are refused, it
//! only probes. Then it releases the parked calls in their order, at the pace of a slow start.

use std::collections::VecDeque;

use crate::event_queue::Millis;

/// How long the slow start takes.
const SLOW_START: Millis = 5_000;
/// If the server has rejected requests, the slow start lasts until no call is parked, but at most so many times as long as a
/// call may be parked.
const EXTENSION: Millis = 3;
/// The requests that may be in flight at its beginning.
const INITIAL_WINDOW: u32 = 10;

pub(crate) struct Gateway {
    server: Server,
    /// The longest time that a call is parked.
    wait: Millis,
    in_flight: u32,
    /// The parked calls, and since when each is parked.
    parked: VecDeque<(u32, Millis)>,
}

/// What the gateway knows of the server.
#[derive(Default)]
enum Server {
    #[default]
    Up,
    Unreachable,
    SlowStart {
        end: Millis,
        window: Window,
    },
}

impl Gateway {
    pub(crate) fn new(wait: Millis) -> Self {
        Self { server: Server::default(), wait, in_flight: 0, parked: VecDeque::new() }
    }

    /// Returns whether a new attempt may start at once. If not, the call has to be parked.
    pub(crate) fn admits(&self, now: Millis) -> bool {
        self.parked.is_empty() && self.has_capacity(now)
    }

    pub(crate) fn park(&mut self, call: u32, now: Millis) {
        self.parked.push_back((call, now));
    }

    /// Removes the call that has been parked longest, if an attempt may start. Returns it and since when it was parked.
    pub(crate) fn release(&mut self, now: Millis) -> Option<(u32, Millis)> {
        if self.has_capacity(now) { self.parked.pop_front() } else { None }
    }

    fn has_capacity(&self, now: Millis) -> bool {
        match &self.server {
            Server::Up => true,
            Server::Unreachable => false,
            Server::SlowStart { end, window } => {
                let end = if self.is_overloaded(window) { end + EXTENSION * self.wait } else { *end };
                self.in_flight < window.size || now >= end
            }
        }
    }

    /// Whether all parked calls together would be too much for the server.
    fn is_overloaded(&self, window: &Window) -> bool {
        window.was_too_large && !self.parked.is_empty()
    }

    pub(crate) fn begin_attempt(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn end_attempt(&mut self, served: bool) {
        self.in_flight -= 1;
        if let Server::SlowStart { window, .. } = &mut self.server {
            window.end_request(served);
        }
    }

    /// Notes that a connection was refused. Returns whether this is news, and probes have to start.
    pub(crate) fn refused(&mut self) -> bool {
        let was_up = !matches!(self.server, Server::Unreachable);
        self.server = Server::Unreachable;
        was_up
    }

    /// Notes that a probe was accepted.
    pub(crate) fn connected(&mut self, now: Millis) {
        self.server = Server::SlowStart { end: now + SLOW_START, window: Window::new() };
    }
}

/// How many requests may be in flight in a slow start. As in TCP, it grows by one for each response, and so doubles in each
/// round of as many requests, until more than a fifth of a round fails: it is half of that then, and grows by one per round.
struct Window {
    size: u32,
    /// Its size at the beginning of the round.
    round: u32,
    served: u32,
    failed: u32,
    was_too_large: bool,
}

impl Window {
    fn new() -> Self {
        Self { size: INITIAL_WINDOW, round: INITIAL_WINDOW, served: 0, failed: 0, was_too_large: false }
    }

    fn end_request(&mut self, served: bool) {
        self.served += u32::from(served);
        self.failed += u32::from(!served);
        if served && !self.was_too_large {
            self.size += 1;
        }
        if self.served + self.failed == self.round {
            if self.failed > self.round / 5 {
                self.was_too_large = true;
                self.size = (self.round / 2).max(1);
            } else if self.was_too_large {
                self.size += 1;
            }
            (self.round, self.served, self.failed) = (self.size, 0, 0);
        }
    }
}
