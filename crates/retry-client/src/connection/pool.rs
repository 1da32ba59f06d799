//! The connections to one server: how many there may be, and which one a request gets.
//!
//! An HTTP/1.1 connection carries one exchange at a time and is then kept for the next. An HTTP/2 connection is shared. A
//! request that finds no connection opens one; if another becomes free first, the request takes that, and the new
//! connection goes to the pool.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep_until,
};

use crate::{
    activity::Activity,
    connection::{
        connect::{BoxIo, Connector},
        connect_timeout::{Connecting, connect_timeout},
        exchange::{Connection, Http1, Protocol, ReturnConnection},
        head_limits,
        http2_handle::Http2Handle,
        idle_connections::{IdleConnections, Reuse},
        stall_timeout::StallTimeout,
        tracked_io::ConnectionPermit,
    },
    error_chain::BoxError,
};

/// How many connections there may be, and their timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    pub(crate) max_connections: usize,
    /// How many are kept idle. If zero, HTTP/2 connections are not shared either.
    pub(crate) max_idle: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ProtocolConfig {
    /// Whether the server is known to support HTTP/2.
    pub(crate) http2: bool,
    pub(crate) preserve_header_case: bool,
}

/// The connections to one server.
pub(crate) struct Pool {
    connector: Connector,
    limits: PoolLimits,
    protocol: ProtocolConfig,
    state: Mutex<State>,
    /// Notifies one waiter for each HTTP/1.1 connection that is returned, and all of them of an HTTP/2 connection.
    available: Notify,
    /// A permit for each connection that may exist.
    connection_permits: Arc<Semaphore>,
    /// A permit for each connection that may be opened at the same time.
    connect_permits: Arc<Semaphore>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    idle: IdleConnections,
    /// How many requests wait for a connection.
    waiters: usize,
    /// Whether a task closes expired connections.
    has_reaper: bool,
}

/// The largest buffer of a connection: for the largest head, and a part of a body. hyper's default of about 400 KiB would
/// be too much for many connections.
const MAX_BUFFER_SIZE: usize = head_limits::MAX_SIZE + 16 * 1024;

impl Pool {
    pub(crate) fn new(connector: Connector, limits: PoolLimits, protocol: ProtocolConfig) -> Arc<Self> {
        // A single HTTP/2 connection is enough for all requests, so they wait for the first.
        let connects = if protocol.http2 && limits.max_idle > 0 { 1 } else { Semaphore::MAX_PERMITS };
        Arc::new_cyclic(|this| Self {
            connector,
            limits,
            protocol,
            state: Mutex::default(),
            available: Notify::new(),
            connection_permits: Arc::new(Semaphore::new(limits.max_connections)),
            connect_permits: Arc::new(Semaphore::new(connects)),
            this: this.clone(),
        })
    }

    /// Whether requests share a connection, or will.
    pub(crate) fn is_shared(&self) -> bool {
        self.protocol.http2 || self.lock().idle.has_http2()
    }

    /// Returns the number of connections, including those being opened.
    pub(crate) fn connections(&self) -> usize {
        self.limits.max_connections.saturating_sub(self.connection_permits.available_permits())
    }

    /// Takes an available connection, unless other requests are waiting for it.
    pub(crate) fn try_acquire(&self, reuse: Reuse) -> Option<Box<Connection>> {
        let mut state = self.lock();
        let waiters = state.waiters;
        self.take(&mut state.idle, reuse, waiters)
    }

    /// Waits for a connection, at most for the connect timeout.
    pub(crate) fn acquire(self: &Arc<Self>, reuse: Reuse) -> Connecting<Box<Connection>> {
        let pool = Arc::clone(self);
        connect_timeout(self.limits.connect_timeout, async move { pool.wait_or_connect(reuse).await })
    }

    fn take(&self, idle: &mut IdleConnections, reuse: Reuse, reserved: usize) -> Option<Box<Connection>> {
        idle.take(reuse, reserved).or_else(|| idle.share().map(|handle| self.exchange_on(handle, true)))
    }

    /// Starts an exchange on a shared connection, where it may have to wait as long as for a connection.
    fn exchange_on(&self, handle: Http2Handle, reused: bool) -> Box<Connection> {
        let activity = || Activity::of_exchange(self.limits.connect_timeout);
        let stall_timeout = self.limits.stall_timeout.map(|timeout| StallTimeout::new(timeout, activity()));
        Box::new(Connection::new(Protocol::Http2(handle), stall_timeout, reused))
    }

    async fn wait_or_connect(self: &Arc<Self>, reuse: Reuse) -> Result<Box<Connection>, BoxError> {
        if reuse == Reuse::Recent {
            self.make_room();
        }
        let (waiter, earlier) = Waiter::register(self);
        let mut available = pin!(waiter.available(reuse, earlier));
        let permits = async {
            let connect = Arc::clone(&self.connect_permits).acquire_owned().await?;
            Ok::<_, BoxError>((connect, Arc::clone(&self.connection_permits).acquire_owned().await?))
        };
        let (connect_permit, permit) = tokio::select! {
            biased;
            connection = &mut available => return Ok(connection),
            permits = permits => permits?,
        };
        let pool = Arc::clone(self);
        let mut connecting = Box::pin(async move {
            let _connect_permit = connect_permit;
            pool.connect(permit).await
        });
        tokio::select! {
            biased;
            connection = available => {
                tokio::spawn(async { connecting.await.map(Connection::release) });
                Ok(connection)
            }
            connected = &mut connecting => connected,
        }
    }

    /// Closes the connection that has been idle the longest, if the limit allows no new one.
    fn make_room(&self) {
        if self.connection_permits.available_permits() == 0 {
            self.lock().idle.close_oldest();
        }
    }

    /// Wakes another waiter if the connection that was returned is too old for the one that was woken.
    fn pass_on_stale(&self) {
        let is_stale = self.lock().idle.is_latest_stale();
        if is_stale {
            self.make_room();
            self.available.notify_one();
        }
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Box<Connection>, BoxError> {
        let (activity, permit) = (Activity::of_connection(), ConnectionPermit::new(permit));
        let (stream, connected) = self.connector.connect(Arc::clone(&permit), activity.clone()).await?;
        if self.protocol.http2 || connected.is_negotiated_h2() {
            return self.handshake_http2(stream, activity).await;
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER_SIZE)
            .max_headers(head_limits::MAX_FIELDS)
            .max_header_size(head_limits::MAX_SIZE)
            .preserve_header_case(self.protocol.preserve_header_case)
            .handshake(stream)
            .await?;
        // Its errors are reported to the exchange.
        let task = tokio::spawn(connection.with_upgrades()).abort_handle();
        let stall_timeout = self.limits.stall_timeout.map(|timeout| StallTimeout::new(timeout, activity.clone()));
        let (to_proxy, permit, pool) = (connected.is_proxied(), Arc::downgrade(&permit), self.this.clone());
        let http1 = Http1 { sender, to_proxy, activity, task, permit, pool };
        Ok(Box::new(Connection::new(Protocol::Http1(http1), stall_timeout, false)))
    }

    async fn handshake_http2(&self, stream: BoxIo, activity: Activity) -> Result<Box<Connection>, BoxError> {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(head_limits::MAX_SIZE as u32)
            .handshake(stream)
            .await?;
        let task = tokio::spawn(connection).abort_handle();
        sender.ready().await?;
        let mut handle = Http2Handle::new(sender, activity, task);
        if self.limits.max_idle > 0 {
            let mut state = self.lock();
            // If the server chose the protocol, another connection may have been opened meanwhile.
            match state.idle.share() {
                Some(shared) => handle = shared,
                None => state.idle.set_http2(handle.clone()),
            }
            self.ensure_reaper(&mut state);
            drop(state);
            self.available.notify_waiters();
        }
        Ok(self.exchange_on(handle, false))
    }

    /// Stops sharing the connection of an exchange that stalled, if it has stalled for the others too.
    pub(crate) fn remove_stalled(&self, exchange: &Connection, timeout: Duration) {
        self.lock().idle.remove_stalled(exchange, timeout);
    }

    fn ensure_reaper(&self, state: &mut State) {
        if state.has_reaper || state.idle.next_expiry(self.limits.idle_timeout).is_none() {
            return;
        }
        // Without a runtime, the connections are not driven either.
        let Ok(runtime) = Handle::try_current() else { return };
        state.has_reaper = true;
        runtime.spawn(Reaper(self.this.clone()).run());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReturnConnection for Pool {
    fn return_connection(&self, connection: Box<Connection>) {
        let idle_timeout = self.limits.idle_timeout;
        let idle_timeout = connection.keep_alive().map_or(idle_timeout, |keep_alive| keep_alive.min(idle_timeout));
        if idle_timeout.is_zero() {
            return;
        }
        let mut state = self.lock();
        let max_idle = if self.limits.max_idle == 0 { 0 } else { self.limits.max_idle.max(state.waiters) };
        if state.idle.http1_count() >= max_idle {
            return;
        }
        state.idle.push(connection, idle_timeout);
        if state.waiters > 0 {
            self.available.notify_one();
        }
        self.ensure_reaper(&mut state);
    }
}

/// Closes expired connections as long as there are idle ones.
struct Reaper(Weak<Pool>);

impl Reaper {
    async fn run(mut self) {
        loop {
            let next = {
                let Some(pool) = self.0.upgrade() else { return };
                let mut state = pool.lock();
                let next = state.idle.close_expired(pool.limits.idle_timeout);
                if next.is_none() {
                    state.has_reaper = false;
                    // Another reaper may have started when this one is dropped.
                    self.0 = Weak::new();
                }
                next
            };
            let Some(next) = next else { return };
            sleep_until(next).await;
        }
    }
}

/// The task may end with its runtime: then another has to be started.
impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.lock().has_reaper = false;
        }
    }
}

/// A request that waits for a connection.
struct Waiter<'a>(&'a Pool);

impl<'a> Waiter<'a> {
    /// Registers a waiter. Returns it with the number of those before it, both under one lock, so that of two that arrive
    /// together one is the first.
    fn register(pool: &'a Pool) -> (Self, usize) {
        let mut state = pool.lock();
        let earlier = state.waiters;
        state.waiters += 1;
        (Self(pool), earlier)
    }

    /// Waits until a connection is returned or can be shared. Waiters are served in their order.
    async fn available(&self, reuse: Reuse, mut earlier: usize) -> Box<Connection> {
        let Self(pool) = self;
        loop {
            let mut notified = pin!(pool.available.notified());
            // From here on, no notification is missed.
            notified.as_mut().enable();
            let connection = pool.take(&mut pool.lock().idle, reuse, earlier);
            if let Some(connection) = connection {
                return connection;
            }
            notified.await;
            earlier = 0;
            if reuse == Reuse::Recent {
                pool.pass_on_stale();
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.lock().waiters -= 1;
    }
}
