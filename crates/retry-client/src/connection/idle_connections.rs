//! The connections that can carry the next request.

use std::time::Duration;

use tokio::time::Instant;

use crate::connection::{exchange::Connection, http2_handle::Http2Handle};

/// A server is unlikely to close a connection that was used so recently: servers keep idle connections for at least two
/// seconds.
const RECENT: Duration = Duration::from_secs(1);

/// Which connections a request may reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Any,
    /// Only those that the server is unlikely to close at the same time. For requests that cannot be repeated, which
    /// would be lost with the connection.
    Recent,
}

/// The idle HTTP/1.1 connections, and the HTTP/2 connection that all exchanges share.
#[derive(Default)]
pub(crate) struct IdleConnections {
    /// In the order in which they were returned.
    http1: Vec<Idle>,
    http2: Option<Shared>,
}

pub(crate) struct Idle {
    connection: Box<Connection>,
    since: Instant,
    /// `None` if never.
    expires: Option<Instant>,
}

impl Idle {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

struct Shared {
    handle: Http2Handle,
    last_used: Instant,
    /// When no further exchange begins on it. `None` if never.
    retires: Option<Instant>,
}

impl Shared {
    /// `None` if never.
    fn expires(&self, timeout: Duration) -> Option<Instant> {
        earlier(self.last_used.checked_add(timeout), self.retires)
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.handle.sender.is_closed() && self.retires.is_none_or(|retires| now < retires)
    }
}

/// Returns the earlier of two times; `None` is never.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl IdleConnections {
    /// Takes the connection that was returned last, leaving `reserved` for others.
    pub(crate) fn take(&mut self, reuse: Reuse, reserved: usize) -> Option<Box<Connection>> {
        let now = Instant::now();
        let is_stale = |idle: &Idle| reuse == Reuse::Recent && now.duration_since(idle.since) > RECENT;
        while self.http1.len() > reserved {
            let idle = self.http1.pop_if(|idle| !is_stale(idle))?;
            if idle.connection.is_ready() && !idle.is_expired(now) {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Returns a handle to the HTTP/2 connection, if there is one.
    pub(crate) fn share(&mut self) -> Option<Http2Handle> {
        let now = Instant::now();
        let shared = self.http2.as_mut().filter(|shared| shared.is_usable(now))?;
        shared.last_used = now;
        Some(shared.handle.clone())
    }

    /// Returns the number of idle HTTP/1.1 connections.
    pub(crate) fn len(&self) -> usize {
        self.http1.len()
    }

    pub(crate) fn has_http2(&self) -> bool {
        self.http2.is_some()
    }

    pub(crate) fn set_http2(&mut self, handle: Http2Handle, retires: Option<Instant>) {
        self.http2 = Some(Shared { handle, last_used: Instant::now(), retires });
    }

    /// Removes the HTTP/2 connection if `exchange` is on it and it has stalled for all exchanges: its server may be gone,
    /// and each new exchange would have to find out by its own timeout.
    pub(crate) fn remove_stalled(&mut self, exchange: &Connection, timeout: Duration) {
        self.http2.take_if(|shared| exchange.is_on(&shared.handle) && shared.handle.is_stalled(timeout));
    }

    /// Adds a connection that may be idle for at most `timeout`, unless there are `max` already. Returns whether it did.
    pub(crate) fn push(&mut self, connection: Box<Connection>, timeout: Duration, max: usize) -> bool {
        let since = connection.last_used();
        let expires = earlier(since.checked_add(timeout), connection.retires);
        if self.http1.len() >= max || connection.retires.is_some_and(|retires| retires <= since) {
            return false;
        }
        self.http1.push(Idle { connection, since, expires });
        true
    }

    /// Returns whether there was a connection to close.
    pub(crate) fn close_oldest(&mut self) -> bool {
        if self.http1.is_empty() {
            return false;
        }
        self.http1.remove(0);
        true
    }

    /// Whether the connection that was returned last is too old for [`Reuse::Recent`].
    pub(crate) fn is_latest_stale(&self) -> bool {
        self.http1.last().is_some_and(|idle| idle.since.elapsed() > RECENT)
    }

    /// Takes out connections that have been idle for too long, `http2_timeout` for HTTP/2. Returns them, and when the next
    /// one expires.
    pub(crate) fn take_expired(&mut self, http2_timeout: Duration) -> (Vec<Idle>, Option<Instant>) {
        let now = Instant::now();
        let (expired, kept) = std::mem::take(&mut self.http1).into_iter().partition(|idle| idle.is_expired(now));
        self.http1 = kept;
        if let Some(shared) = self.http2.as_mut().filter(|shared| shared.handle.is_in_use()) {
            shared.last_used = now;
        }
        self.http2.take_if(|shared| shared.expires(http2_timeout).is_some_and(|expires| expires <= now));
        (expired, self.next_expiry(http2_timeout))
    }

    pub(crate) fn next_expiry(&self, http2_timeout: Duration) -> Option<Instant> {
        let http2 = self.http2.as_ref().and_then(|shared| shared.expires(http2_timeout));
        self.http1.iter().filter_map(|idle| idle.expires).chain(http2).min()
    }
}
