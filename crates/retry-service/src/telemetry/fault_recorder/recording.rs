//! The order of a recording: exchanges by when they were sent, and outages. `now` is the time since the start of the
//! recording.

use std::{collections::VecDeque, mem, time::Duration};

use jiff::Timestamp;

use super::{
    exchange::{End, Ended, Exchange, Head, OutagePart},
    run::Run,
};

/// How long an exchange in flight may delay the lines of later ones.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// How many exchanges may wait for an earlier one.
const MAX_WAITING: usize = 16 * 1024;

/// How long it may take until it turns out that a connection broke because the upstream is down.
const SETTLING_TIME: Duration = Duration::from_secs(1);

/// How long a run of healthy responses may wait for another one.
const MAX_RUN: Duration = Duration::from_secs(10);

/// Where the comments of the lines begin.
const COMMENT_COLUMN: usize = 40;

/// A recording: what is known of the exchanges, outages and runs whose lines have not been written yet.
pub(super) struct Recording {
    origin: Timestamp,
    /// The ticket of the first exchange in the queue.
    first: u64,
    /// Exchanges whose lines have not been written, by when they were sent.
    exchanges: VecDeque<Exchange>,
    /// With the comment of the first, if it stays the only one.
    run: Option<(Run, String)>,
    outage: Option<Outage>,
    away: Vec<Away>,
    /// When the last request was sent that got a response, or the upstream was last connected to.
    last_up: Duration,
    lines: Vec<String>,
}

/// An endpoint that could not be connected to the last time.
#[derive(Debug)]
struct Away {
    endpoint: String,
    last_failed: Duration,
}

/// A time in which no endpoint can be connected to.
#[derive(Debug)]
struct Outage {
    /// The exchange that starts it in a replay.
    ticket: u64,
    /// The other exchanges that it broke.
    aborted: Vec<u64>,
    since: Duration,
    last_failed: Duration,
    /// Whether no request was in flight, so that the exchange is one that was made up.
    broke_nothing: bool,
}

impl Recording {
    pub(super) fn new(origin: Timestamp) -> Self {
        Self {
            origin,
            first: 0,
            exchanges: VecDeque::new(),
            run: None,
            outage: None,
            away: Vec::new(),
            last_up: Duration::ZERO,
            lines: Vec::new(),
        }
    }

    /// Returns the lines that are complete, with their line breaks.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        mem::take(&mut self.lines)
    }

    /// Adds an exchange, and returns its ticket.
    pub(super) fn start(&mut self, now: Duration, method: &'static str, endpoint: &str, reused: bool) -> u64 {
        if !self.is_away(endpoint) {
            // The others may be down, but requests have somewhere to go.
            self.drop_outage(now);
        } else if !reused {
            self.connected(now, endpoint);
        }
        let ticket = self.push(now, method, endpoint, reused);
        self.write(now);
        ticket
    }

    pub(super) fn head_received(&mut self, ticket: u64, head: Head) {
        let at = head.at;
        let Some(exchange) = self.find(ticket) else { return };
        exchange.head = Some(head);
        // The response may have been sent before.
        let start = exchange.start;
        self.last_up = self.last_up.max(start);
        // A reused connection says so, too: a server that refuses a new one may go on serving those that it has.
        if let Some(index) = self.away.iter().position(|away| self.is_served_since(ticket, away)) {
            self.is_back(start, index);
            self.write(at);
        }
    }

    /// Whether the exchange was sent to an endpoint after that could not be connected to.
    fn is_served_since(&self, ticket: u64, away: &Away) -> bool {
        let exchange = self.index(ticket).and_then(|index| self.exchanges.get(index));
        exchange.is_some_and(|exchange| exchange.start > away.last_failed && exchange.endpoint == away.endpoint)
    }

    pub(super) fn end(&mut self, ticket: u64, ended: Ended) {
        if let Some(exchange) = self.find(ticket) {
            exchange.end = Some(ended);
            if exchange.is_broken() {
                self.broken_in_outage(ticket, ended.at);
            }
        }
        self.write(ended.at);
    }

    /// Notes that a request broke. If there is an outage, it was in flight when that began.
    fn broken_in_outage(&mut self, ticket: u64, at: Duration) {
        let Some(outage) = &mut self.outage else { return };
        if outage.broke_nothing {
            let placeholder = outage.ticket;
            (outage.ticket, outage.since, outage.broke_nothing) = (ticket, at, false);
            self.discard(at, placeholder);
        } else if ticket > outage.ticket {
            outage.aborted.push(outage.ticket);
            (outage.ticket, outage.since) = (ticket, at);
        } else {
            outage.aborted.push(ticket);
        }
    }

    /// Notes that an endpoint could not be connected to.
    pub(super) fn connect_failed(&mut self, now: Duration, endpoint: &str) {
        if let Some(outage) = &mut self.outage {
            outage.last_failed = now;
        }
        if let Some(away) = self.away.iter_mut().find(|away| away.endpoint == endpoint) {
            away.last_failed = now;
            return;
        }
        // Those that are no longer probed have been removed.
        self.away.retain(|away| now.saturating_sub(away.last_failed) <= MAX_DELAY);
        self.away.push(Away { endpoint: endpoint.to_owned(), last_failed: now });
        if self.outage.is_some() {
            return;
        }
        // What was in flight broke as well. The last one to be sent starts the outage.
        let broken = (self.first..).zip(&self.exchanges).filter(|(_, exchange)| self.may_be_down(exchange, now));
        let mut aborted: Vec<_> = broken.filter_map(|(ticket, exchange)| Some((ticket, exchange.end?.at))).collect();
        let broke_nothing = aborted.is_empty();
        let (ticket, since) = aborted.pop().unwrap_or_else(|| {
            let ticket = self.push(now, "-", endpoint, false);
            if let Some(exchange) = self.find(ticket) {
                exchange.end = Some(Ended { at: now, bytes: 0, how: End::Closed });
            }
            (ticket, now)
        });
        let aborted = aborted.into_iter().map(|(ticket, _)| ticket).collect();
        self.outage = Some(Outage { ticket, aborted, since, last_failed: now, broke_nothing });
    }

    /// Notes that an endpoint was connected to again.
    pub(super) fn connected(&mut self, now: Duration, endpoint: &str) {
        if let Some(index) = self.away.iter().position(|away| away.endpoint == endpoint) {
            self.is_back(now, index);
            self.write(now);
        }
    }

    /// Notes that a request could be sent to an endpoint again.
    fn is_back(&mut self, since: Duration, index: usize) {
        self.away.swap_remove(index);
        self.last_up = self.last_up.max(since);
        self.end_outage(since);
    }

    /// Writes all that is complete, without waiting for more healthy responses.
    pub(super) fn write_complete(&mut self, now: Duration) {
        self.write(now);
        self.end_run();
    }

    /// Writes all that is left.
    pub(super) fn finish(&mut self, now: Duration) {
        self.end_outage(now);
        while let Some(exchange) = self.exchanges.pop_front() {
            self.first += 1;
            self.write_exchange(&exchange);
        }
        self.end_run();
    }

    fn is_away(&self, endpoint: &str) -> bool {
        self.away.iter().any(|away| away.endpoint == endpoint)
    }

    fn push(&mut self, now: Duration, method: &'static str, endpoint: &str, reused: bool) -> u64 {
        let ticket = self.first + self.exchanges.len() as u64;
        let endpoint = endpoint.to_owned();
        self.exchanges.push_back(Exchange {
            method,
            endpoint,
            reused,
            start: now,
            head: None,
            end: None,
            outage: None,
        });
        ticket
    }

    /// Returns an exchange whose line has not been written.
    fn find(&mut self, ticket: u64) -> Option<&mut Exchange> {
        let index = self.index(ticket)?;
        self.exchanges.get_mut(index)
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.first)?).ok()
    }

    /// Discards an exchange that was made up for an outage.
    fn discard(&mut self, now: Duration, ticket: u64) {
        if let Some(exchange) = self.find(ticket) {
            exchange.end = Some(Ended { at: now, bytes: 0, how: End::NotSent });
        }
    }

    /// Whether the exchange broke, and it is not known yet whether the upstream is down.
    fn may_be_down(&self, exchange: &Exchange, now: Duration) -> bool {
        let is_recent = |ended: Ended| self.last_up <= ended.at && now.saturating_sub(ended.at) < SETTLING_TIME;
        exchange.is_broken() && exchange.end.is_some_and(is_recent)
    }

    /// Forgets an outage: it was none.
    fn drop_outage(&mut self, now: Duration) {
        if let Some(Outage { ticket, broke_nothing: true, .. }) = self.outage.take() {
            self.discard(now, ticket);
        }
    }

    /// Ends an outage. It ended at some time between the last connection that failed and this one.
    fn end_outage(&mut self, now: Duration) {
        let Some(Outage { ticket, aborted, since, last_failed, .. }) = self.outage.take() else { return };
        let end = last_failed + now.saturating_sub(last_failed) / 2;
        if let Some(exchange) = self.find(ticket) {
            exchange.outage = Some(OutagePart::Start(end.saturating_sub(since)));
        }
        for ticket in aborted {
            if let Some(exchange) = self.find(ticket) {
                exchange.outage = Some(OutagePart::Aborted);
            }
        }
    }

    /// Writes the lines of all exchanges that wait for none before them.
    fn write(&mut self, now: Duration) {
        while let Some(exchange) = self.exchanges.front() {
            let is_full = self.exchanges.len() > MAX_WAITING;
            if let Some(outage) = self.outage.as_ref().filter(|outage| outage.has(self.first)) {
                let last_failed = outage.last_failed;
                // It may last for hours, but then connections go on failing, and no requests are sent.
                if !is_full && now.saturating_sub(last_failed) <= MAX_DELAY {
                    break;
                }
                self.away.clear();
                self.end_outage(last_failed);
                continue;
            }
            let is_late = is_full || now.saturating_sub(exchange.start) > MAX_DELAY;
            let is_settled = exchange.end.is_some() && !self.may_be_down(exchange, now);
            if !is_settled && !is_late {
                break;
            }
            if let Some(exchange) = self.exchanges.pop_front() {
                self.first += 1;
                self.write_exchange(&exchange);
            }
        }
        if self.run.as_ref().is_some_and(|(run, _)| now.saturating_sub(run.first) > MAX_RUN) {
            self.end_run();
        }
    }

    fn write_exchange(&mut self, exchange: &Exchange) {
        if exchange.end.is_some_and(|ended| ended.how == End::NotSent) {
            return;
        }
        let item = exchange.item();
        let connection = if exchange.reused { "reused" } else { "new" };
        let (time, method, endpoint, note) =
            (self.time(exchange.start), exchange.method, &exchange.endpoint, exchange.note());
        let comment = format!("{time} {method} {endpoint}, {connection} connection{note}");
        if self.run.as_mut().is_some_and(|(run, _)| run.add(&item, exchange.start)) {
            return;
        }
        self.end_run();
        match Run::start(&item, exchange.start).filter(|_| exchange.note().is_empty()) {
            Some(run) => self.run = Some((run, comment)),
            None => self.write_line(&item.to_string(), &comment),
        }
    }

    fn end_run(&mut self) {
        let Some((run, first_comment)) = self.run.take() else { return };
        let comment = match run.count() {
            1 => first_comment,
            _ => format!("{} to {}", self.time(run.first), self.time(run.last)),
        };
        self.write_line(&run.script(), &comment);
    }

    fn write_line(&mut self, item: &str, comment: &str) {
        self.lines.push(format!("{:COMMENT_COLUMN$}# {comment}\n", format!("{item}, ")));
    }

    /// Formats a time as that of a log line in JSON.
    fn time(&self, since_origin: Duration) -> String {
        let time = self.origin.saturating_add(since_origin).unwrap_or(Timestamp::MAX);
        format!("{time:.3}")
    }
}

impl Outage {
    fn has(&self, ticket: u64) -> bool {
        self.ticket == ticket || self.aborted.contains(&ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A recording from midnight of an early year, for times that are short to read.
    struct Test(Recording);

    impl Test {
        fn new() -> Self {
            Self(Recording::new("0001-01-01T00:00:00Z".parse().unwrap()))
        }

        fn start(&mut self, now: u64, endpoint: &str) -> u64 {
            self.0.start(ms(now), "GET", endpoint, false)
        }

        fn end(&mut self, now: u64, ticket: u64, how: End) {
            self.0.end(ticket, Ended { at: ms(now), bytes: 0, how });
        }

        fn respond(&mut self, now: u64, ticket: u64) {
            let head = Head { at: ms(now), status: 200, retry_after: None, has_length: true };
            self.0.head_received(ticket, head);
            self.end(now, ticket, End::Complete);
        }

        /// Checks the items of the lines that are written by now.
        #[track_caller]
        fn check(&mut self, expected: &[&str]) {
            let lines = self.0.take_lines();
            let items: Vec<_> = lines.iter().map(|line| line.split(", ").next().unwrap()).collect();
            assert_eq!(items, expected, "{lines:?}");
        }

        #[track_caller]
        fn check_all(&mut self, now: u64, expected: &[&str]) {
            self.0.finish(ms(now));
            self.check(expected);
        }
    }

    #[test]
    fn lines_are_in_the_order_of_the_requests() {
        let mut test = Test::new();
        let [first, second, third] = [0, 1, 2].map(|now| test.start(now, "a"));
        test.end(100, second, End::Invalid);
        test.end(101, third, End::NotSent);
        test.check(&[]);
        test.respond(200, first);
        test.check(&["delay=200ms", "garbage;delay=99ms"]);
        test.check_all(300, &[]);
    }

    #[test]
    fn an_exchange_that_lasts_long_delays_others_for_a_limited_time() {
        let mut test = Test::new();
        let first = test.start(0, "a");
        let second = test.start(1, "a");
        test.end(2, second, End::Invalid);
        test.start(MAX_DELAY.as_millis() as u64 + 1, "a");
        test.check(&["hang", "garbage"]);
        // Its line has been written.
        test.end(70_000, first, End::Invalid);
        test.check_all(70_000, &["hang"]);
    }

    #[test]
    fn healthy_responses_that_take_about_as_long_are_one_line() {
        let mut test = Test::new();
        for (start, end) in [(0, 1), (10, 18), (20, 120), (200, 310), (400, 500), (600, 700), (800, 950), (1000, 1001)]
        {
            let ticket = test.start(start, "a");
            test.respond(end, ticket);
        }
        test.check_all(2000, &["ok*2", "delay=103ms*4", "delay=150ms", "ok"]);
        let ticket = test.start(3000, "a");
        test.respond(3000, ticket);
        test.0.finish(ms(4000));
        assert_eq!(
            test.0.take_lines(),
            ["ok,                                     # 0001-01-01T00:00:03.000Z GET a, new connection\n"]
        );
    }

    #[test]
    fn the_last_request_that_broke_starts_the_outage() {
        let mut test = Test::new();
        let [first, second] = [0, 100].map(|now| test.start(now, "a"));
        let healthy = test.start(150, "a");
        test.respond(160, healthy);
        test.end(300, first, End::Closed);
        test.end(301, second, End::Closed);
        for now in [302, 1000, 2000] {
            test.0.connect_failed(ms(now), "a");
        }
        test.check(&[]);
        test.0.connected(ms(3000), "a");
        // From 301 to the middle of 2000 and 3000.
        test.check(&["hang", "down=2199ms;delay=201ms"]);
        test.check_all(3000, &["delay=10ms"]);
    }

    #[test]
    fn a_response_that_was_on_its_way_does_not_hide_an_outage() {
        let mut test = Test::new();
        let [first, second] = [0, 1].map(|now| test.start(now, "a"));
        test.end(100, first, End::Closed);
        test.respond(101, second);
        test.0.connect_failed(ms(102), "a");
        test.0.connect_failed(ms(198), "a");
        test.0.connected(ms(202), "a");
        test.check_all(300, &["down=100ms;delay=100ms", "delay=100ms"]);
    }

    #[test]
    fn what_is_noticed_to_be_broken_during_the_outage_was_in_flight() {
        let mut test = Test::new();
        let [first, second, third] = [0, 1, 2].map(|now| test.start(now, "a"));
        test.0.connect_failed(ms(100), "a");
        test.end(101, second, End::Reset);
        test.end(102, third, End::Closed);
        test.end(103, first, End::Closed);
        test.0.connect_failed(ms(200), "a");
        test.check(&[]);
        test.0.connected(ms(210), "a");
        test.check_all(210, &["hang", "hang", "down=103ms;delay=100ms"]);
    }

    #[test]
    fn an_outage_that_broke_nothing_has_a_line_of_its_own() {
        let mut test = Test::new();
        let ticket = test.start(0, "a");
        test.respond(1, ticket);
        test.0.connect_failed(ms(5000), "a");
        let ticket = test.start(7000, "a");
        test.respond(7001, ticket);
        test.check_all(8000, &["ok", "down=1000ms", "ok"]);
    }

    #[test]
    fn an_outage_may_be_long() {
        let mut test = Test::new();
        let ticket = test.start(0, "a");
        test.end(100, ticket, End::Closed);
        for now in (200..=600_000).step_by(1000) {
            test.0.connect_failed(ms(now), "a");
            // Others fail before they are sent.
            test.0.write(ms(now));
        }
        test.check(&[]);
        test.start(600_200, "a");
        test.check(&["down=599600ms;delay=100ms"]);
    }

    #[test]
    fn a_server_that_refuses_one_connection_and_serves_others_is_not_down_for_long() {
        let mut test = Test::new();
        let ticket = test.0.start(ms(0), "GET", "a", true);
        test.respond(1, ticket);
        let in_flight = test.0.start(ms(40), "GET", "a", true);
        test.0.connect_failed(ms(50), "a");
        // The response may have been sent before.
        test.respond(51, in_flight);
        test.check(&["ok"]);
        for now in (60..1_000_000).step_by(1000) {
            let ticket = test.0.start(ms(now), "GET", "a", true);
            test.respond(now + 10, ticket);
        }
        let lines = test.0.take_lines();
        assert!(lines.len() > 10 && lines.concat().contains("\ndown=5ms,"), "{lines:?}");
        assert!(test.0.exchanges.is_empty());
    }

    #[test]
    fn what_waits_for_the_end_of_an_outage_is_limited() {
        // No request has a response.
        for (interval, started) in [(0, MAX_WAITING), (1000, 60)] {
            let mut test = Test::new();
            test.0.connect_failed(ms(0), "a");
            for number in 1..=started as u64 + 1 {
                test.0.start(ms(number * interval), "GET", "a", true);
            }
            let lines = test.0.take_lines();
            assert!(lines.concat().starts_with("down=0ms,"), "{lines:?}");
            assert!(test.0.exchanges.len() <= MAX_WAITING);
            test.0.connect_failed(ms(100_000), "a");
            assert!(test.0.outage.is_some());
        }
    }

    #[test]
    fn an_endpoint_that_is_away_without_any_request_has_no_line_if_there_is_another() {
        let mut test = Test::new();
        test.0.connect_failed(ms(0), "a");
        let ticket = test.start(10, "b");
        test.respond(11, ticket);
        test.0.connect_failed(ms(1000), "a");
        test.check_all(2000, &["ok"]);
    }

    #[test]
    fn endpoints_that_are_no_longer_probed_are_forgotten() {
        let mut test = Test::new();
        for number in 0..1000 {
            test.0.connect_failed(ms(number * 1000), &number.to_string());
            let ticket = test.start(number * 1000, "b");
            test.respond(number * 1000 + 1, ticket);
        }
        assert!(test.0.away.len() < 100, "{}", test.0.away.len());
    }

    #[test]
    fn a_connection_that_broke_is_no_outage_if_another_endpoint_or_the_same_one_responds() {
        for (endpoint, refused) in [("b", true), ("a", false)] {
            let mut test = Test::new();
            let ticket = test.start(0, "a");
            test.end(100, ticket, End::Reset);
            if refused {
                test.0.connect_failed(ms(101), "a");
            }
            let ticket = test.start(200, endpoint);
            test.respond(201, ticket);
            test.0.connect_failed(ms(1000), "a");
            test.check(&["reset;delay=100ms"]);
            test.check_all(2000, if refused { &["ok"] } else { &["ok", "down=500ms"] });
        }
    }

    #[test]
    fn an_outage_of_all_endpoints_ends_with_the_first_that_is_back() {
        let mut test = Test::new();
        let ticket = test.start(0, "a");
        test.end(100, ticket, End::Closed);
        test.0.connect_failed(ms(101), "a");
        test.0.connect_failed(ms(102), "b");
        test.0.connect_failed(ms(1000), "a");
        test.0.connected(ms(1100), "b");
        test.check(&["down=950ms;delay=100ms"]);
        test.0.connect_failed(ms(2000), "a");
        test.check_all(2000, &[]);
    }
}
