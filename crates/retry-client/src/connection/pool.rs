//! The connections to one server: how many there may be, and which one a request gets.
//!
//! An HTTP/1.1 connection carries one exchange at a time and is then kept for the next. An HTTP/2 connection is shared. A
//! request that finds no connection opens one; if another becomes free first, the request takes that, and the new
//! connection goes to the pool.

use std::{
    pin::pin,
    sync::{Arc, Mutex, Once, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, yield_now},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    activity::Activity,
    connection::{
        acquire_timeout::{Connecting, NoPermit, connect_timeout},
        box_io::BoxIo,
        connect::Connector,
        driver::Driver,
        exchange::{Connection, Http1, Protocol, ReturnConnection},
        flush_tracker::FlushTracker,
        head_limits,
        http2_handle::Http2Handle,
        idle_connections::{IdleConnections, Reuse},
        pool_group::PoolGroup,
        stall_timeout::StallTimeout,
        wait_queue::WaitQueue,
    },
    error_chain::BoxError,
    lock::lock,
};

/// The settings of a pool: how many connections there may be, their timeouts, and their protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolConfig {
    pub(crate) max_connections: usize,
    /// How old a connection may be that is used again, give or take 10 %. `None` for any age.
    pub(crate) max_age: Option<Duration>,
    /// How many are kept idle. If zero, HTTP/2 connections are not shared either.
    pub(crate) max_idle: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Option<Duration>,
    /// Whether the server is known to support HTTP/2.
    pub(crate) http2: bool,
    pub(crate) preserve_header_case: bool,
}

/// The connections to one server, or those of one thread, on cache lines of its own.
#[repr(align(128))]
pub(crate) struct Pool {
    connector: Arc<Connector>,
    config: PoolConfig,
    state: Mutex<State>,
    /// The requests that wait for a connection of this pool, and may open one.
    queue: WaitQueue,
    group: Arc<PoolGroup<Self>>,
    /// Completed before the first connection is opened. Until then, the pool needs no share.
    joined: Once,
    /// A permit for each connection that may be opened at the same time.
    connect_permits: Arc<Semaphore>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    idle: IdleConnections,
    /// The task that closes expired connections. It may end with its runtime: then another is started.
    reaper: Option<AbortHandle>,
}

/// The server is known to be unreachable.
#[derive(Debug, thiserror::Error)]
#[error("the server is unreachable")]
pub(crate) struct EndpointDown;

/// The largest buffer of a connection: for the largest head, and a part of a body. hyper's default of about 400 KiB would
/// be too much for many connections.
const MAX_BUFFER_SIZE: usize = head_limits::MAX_SIZE + 16 * 1024;

impl Pool {
    pub(crate) fn new(connector: Connector, config: PoolConfig) -> Arc<Self> {
        Self::in_group(Arc::new(connector), config, Arc::new(PoolGroup::new(config.max_connections)))
    }

    /// Creates a pool that shares the limit on connections with this one.
    pub(crate) fn sibling(&self) -> Arc<Self> {
        Self::in_group(Arc::clone(&self.connector), self.config, Arc::clone(&self.group))
    }

    fn in_group(connector: Arc<Connector>, config: PoolConfig, group: Arc<PoolGroup<Self>>) -> Arc<Self> {
        // A single HTTP/2 connection is enough for all requests, so they wait for the first.
        let connects = if config.http2 && config.max_idle > 0 { 1 } else { Semaphore::MAX_PERMITS };
        Arc::new_cyclic(|this| Self {
            connector,
            config,
            state: Mutex::default(),
            queue: WaitQueue::default(),
            group,
            joined: Once::new(),
            connect_permits: Arc::new(Semaphore::new(connects)),
            this: this.clone(),
        })
    }

    /// Whether requests share a connection, or will.
    pub(crate) fn is_shared(&self) -> bool {
        let has_http2 = |pool: &Self| lock(&pool.state).idle.has_http2();
        self.config.http2
            || has_http2(self)
            || self.group.is_full() && self.group.pools(self).iter().any(|pool| has_http2(pool))
    }

    /// Returns how many requests can be in flight on the connections of the group.
    pub(crate) fn max_in_flight(&self) -> usize {
        if self.is_shared() { usize::MAX } else { self.config.max_connections }
    }

    /// Returns the number of connections of the group, including those being opened.
    pub(crate) fn connections(&self) -> usize {
        self.config.max_connections.saturating_sub(self.group.connection_permits.available_permits())
    }

    /// Takes an available connection, unless other requests are waiting for it.
    pub(crate) fn try_acquire(&self, reuse: Reuse) -> Option<Box<Connection>> {
        self.take(reuse, self.waiters())
    }

    /// Returns how many requests wait for the next connection.
    fn waiters(&self) -> usize {
        self.queue.len() + self.group.queue.len()
    }

    /// Waits for a connection: at most for the connect timeout until there may be another one, and as long again until it
    /// is open.
    pub(crate) fn acquire(self: &Arc<Self>, reuse: Reuse) -> Connecting<Box<Connection>> {
        let pool = Arc::clone(self);
        Box::pin(async move { pool.wait_or_connect(reuse).await })
    }

    /// Whether requests may open connections.
    pub(crate) fn is_reachable(&self) -> bool {
        self.group.is_reachable.load(SeqCst)
    }

    /// Sets whether requests may open connections. If not, those that would open one fail with [`EndpointDown`].
    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.group.is_reachable.store(reachable, SeqCst);
    }

    /// Opens a connection for the pool, even if requests may not. `None` if the limit allows none.
    pub(crate) async fn probe(self: &Arc<Self>) -> Option<Result<(), BoxError>> {
        let permit = Arc::clone(&self.group.connection_permits).try_acquire_owned().ok()?;
        let pool = Arc::clone(self);
        let connecting = async move { pool.connect(permit).await };
        Some(connect_timeout(self.config.connect_timeout, connecting).await.map(Connection::release))
    }

    fn take(&self, reuse: Reuse, reserved: usize) -> Option<Box<Connection>> {
        let idle = &mut lock(&self.state).idle;
        idle.take(reuse, reserved).or_else(|| idle.share().map(|handle| self.exchange_on(handle, true)))
    }

    /// Takes an available connection of any of these pools, leaving `reserved` for others.
    fn take_from(&self, pools: Pools, reuse: Reuse, mut reserved: usize) -> Option<Box<Connection>> {
        if pools == Pools::Own {
            return self.take(reuse, reserved);
        }
        self.group.pools(self).iter().find_map(|pool| {
            let taken = pool.take(reuse, reserved);
            reserved = reserved.saturating_sub(lock(&pool.state).idle.len());
            taken
        })
    }

    /// Starts an exchange on a shared connection. It may have to wait for capacity, at most for the connect timeout.
    fn exchange_on(&self, handle: Http2Handle, reused: bool) -> Box<Connection> {
        let activity = || Activity::of_exchange(self.config.connect_timeout);
        let stall_timeout = self.config.stall_timeout.map(|timeout| StallTimeout::new(timeout, activity()));
        Box::new(Connection::new(Protocol::Http2(handle), stall_timeout, reused))
    }

    async fn wait_or_connect(self: &Arc<Self>, reuse: Reuse) -> Result<Box<Connection>, BoxError> {
        let (connects, connections) = (&self.connect_permits, &self.group.connection_permits);
        let connect = Arc::clone(connects).try_acquire_owned().ok();
        let permit = connect.as_ref().and_then(|_| Arc::clone(connections).try_acquire_owned().ok());
        let pools = if permit.is_none() && self.group.is_full() { Pools::All } else { Pools::Own };
        if reuse == Reuse::Recent && pools == Pools::All {
            // One of another pool may be recent enough.
            if let Some(connection) = self.take_from(pools, reuse, self.waiters()) {
                return Ok(connection);
            }
            self.free_permit();
        }
        let (waiter, earlier) = Waiter::new(self, reuse, pools);
        let mut available = pin!(waiter.available(earlier));
        let permits = async {
            let connect = match connect {
                Some(connect) => connect,
                None => Arc::clone(connects).acquire_owned().await?,
            };
            let permit = match permit {
                Some(permit) => permit,
                None => Arc::clone(connections).acquire_owned().await?,
            };
            Ok::<_, BoxError>((connect, permit))
        };
        let limit = self.config.connect_timeout;
        let (connect_permit, permit) = tokio::select! {
            biased;
            connection = &mut available => return Ok(connection),
            permits = timeout(limit, permits) => permits.map_err(|_| NoPermit(limit))??,
        };
        if !self.is_reachable() {
            return Err(EndpointDown.into());
        }
        let pool = Arc::clone(self);
        let mut connecting = connect_timeout(limit, async move {
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
    fn free_permit(&self) {
        if self.group.is_full() {
            let _ = self.group.pools(self).iter().any(|pool| lock(&pool.state).idle.close_oldest());
        }
    }

    /// Wakes another waiter if the connection that was returned is too old for the one that was woken. Waiters that cannot
    /// use it either would only wake each other.
    async fn pass_on_stale(&self) {
        if self.group.pools(self).iter().any(|pool| lock(&pool.state).idle.is_latest_stale()) {
            self.free_permit();
            if let Some(queue) = [&self.queue, &self.group.queue].into_iter().find(|queue| queue.has_any_reuse()) {
                queue.wake_one();
                // Otherwise this waiter could wake itself before the other runs.
                yield_now().await;
            }
        }
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Box<Connection>, BoxError> {
        self.joined.call_once(|| self.group.add(self.this.clone()));
        let (activity, permit) = (Activity::of_connection(), Arc::new(Mutex::new(Some(permit))));
        let (stream, connected) = self.connector.connect(Arc::clone(&permit), activity.clone()).await?;
        let retires = self.config.max_age.and_then(|age| Instant::now().checked_add(jittered(age, fastrand::f64())));
        if self.config.http2 || connected.is_negotiated_h2() {
            return self.handshake_http2(stream, activity, retires).await;
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER_SIZE)
            .max_headers(head_limits::MAX_FIELDS)
            .max_header_size(head_limits::MAX_SIZE)
            .preserve_header_case(self.config.preserve_header_case)
            .handshake(FlushTracker::new(stream, activity.clone()))
            .await?;
        let driver = Driver::new(connection.with_upgrades());
        let stall_timeout = self.config.stall_timeout.map(|timeout| StallTimeout::new(timeout, activity.clone()));
        let (to_proxy, permit, pool) = (connected.is_proxied(), Arc::downgrade(&permit), self.this.clone());
        let http1 = Http1 { sender, driver, to_proxy, activity, permit, pool };
        let mut connection = Box::new(Connection::new(Protocol::Http1(http1), stall_timeout, false));
        connection.retires = retires;
        Ok(connection)
    }

    async fn handshake_http2(
        &self,
        stream: BoxIo,
        activity: Activity,
        retires: Option<Instant>,
    ) -> Result<Box<Connection>, BoxError> {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(head_limits::MAX_SIZE as u32)
            .handshake(stream)
            .await?;
        let task = tokio::spawn(connection).abort_handle();
        sender.ready().await?;
        let mut handle = Http2Handle::new(sender, activity, task);
        if self.config.max_idle > 0 {
            let mut state = lock(&self.state);
            // If the server chose the protocol, another connection may have been opened meanwhile.
            match state.idle.share() {
                Some(shared) => handle = shared,
                None => state.idle.set_http2(handle.clone(), retires),
            }
            self.ensure_reaper(&mut state);
            drop(state);
            self.queue.wake_all();
            self.group.queue.wake_all();
        }
        Ok(self.exchange_on(handle, false))
    }

    /// Stops sharing the connection of an exchange that stalled, if it has stalled for the others too.
    pub(crate) fn remove_stalled(&self, exchange: &Connection, timeout: Duration) {
        for pool in self.group.pools(self) {
            lock(&pool.state).idle.remove_stalled(exchange, timeout);
        }
    }

    fn ensure_reaper(&self, state: &mut State) {
        if state.reaper.as_ref().is_some_and(|reaper| !reaper.is_finished())
            || state.idle.next_expiry(self.config.idle_timeout).is_none()
        {
            return;
        }
        // Without a runtime, the connections are not driven either.
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = self.this.clone();
        state.reaper = Some(runtime.spawn(reap(pool)).abort_handle());
    }

    /// Closes expired connections. Returns when the next one expires; if there is none, the reaper ends.
    fn close_expired(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        let (expired, next) = state.idle.take_expired(self.config.idle_timeout);
        state.reaper.take_if(|_| next.is_none());
        drop(state);
        // Each takes some system calls.
        drop(expired);
        next
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.joined.is_completed() {
            self.group.remove();
        }
    }
}

impl ReturnConnection for Pool {
    fn return_connection(&self, connection: Box<Connection>) {
        let idle_timeout = self.config.idle_timeout;
        let idle_timeout = connection.keep_alive.map_or(idle_timeout, |keep_alive| keep_alive.min(idle_timeout));
        if idle_timeout.is_zero() {
            return;
        }
        let max_idle = match self.config.max_idle {
            0 => 0,
            max_idle => self.group.share(max_idle).max(self.waiters()),
        };
        let mut state = lock(&self.state);
        if !state.idle.push(connection, idle_timeout, max_idle) {
            return;
        }
        self.ensure_reaper(&mut state);
        drop(state);
        // Its own requests first: they came before the limit was reached.
        if self.queue.len() > 0 { &self.queue } else { &self.group.queue }.wake_one();
    }
}

/// Spreads the ages of connections by 10 % in both directions, so that those opened together are not all replaced at
/// once. `random` is from 0 to 1.
fn jittered(age: Duration, random: f64) -> Duration {
    Duration::try_from_secs_f64(age.as_secs_f64() * (0.9 + 0.2 * random)).unwrap_or(Duration::MAX)
}

/// Closes expired connections as long as there are idle ones.
async fn reap(pool: Weak<Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.close_expired()) {
        sleep_until(next).await;
    }
}

/// Which pools a request takes a connection from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pools {
    /// Its own: each thread keeps to its connections.
    Own,
    /// All of the group, as the limit allows no new connection.
    All,
}

/// A request that waits for a connection: in the queue of its pool, or in that of the group.
struct Waiter<'a> {
    pool: &'a Pool,
    reuse: Reuse,
    pools: Pools,
    queue: &'a WaitQueue,
}

impl<'a> Waiter<'a> {
    /// Creates a waiter. Returns it with the number of those before it.
    fn new(pool: &'a Pool, reuse: Reuse, pools: Pools) -> (Self, usize) {
        let queue = if pools == Pools::Own { &pool.queue } else { &pool.group.queue };
        let earlier = queue.enter(reuse);
        (Self { pool, reuse, pools, queue }, earlier)
    }

    /// Waits until a connection is returned or can be shared. Waiters are served in their order.
    async fn available(&self, mut earlier: usize) -> Box<Connection> {
        let Self { pool, reuse, pools, queue } = *self;
        loop {
            let mut woken = pin!(queue.woken());
            // From here on, no wake-up is missed.
            woken.as_mut().enable();
            if let Some(connection) = pool.take_from(pools, reuse, earlier) {
                return connection;
            }
            woken.await;
            earlier = 0;
            if reuse == Reuse::Recent {
                pool.pass_on_stale().await;
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Self { pool, queue, .. } = self;
        queue.leave(self.reuse);
        // It may have been woken for a connection that it did not take.
        if pool.queue.len() == 0 && lock(&pool.state).idle.len() > 0 {
            pool.group.queue.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use tokio::{net::TcpListener, runtime::Runtime, time::timeout};

    use super::*;
    use crate::connection::{resolver::Resolver, tls::TlsSettings};

    #[test]
    fn a_waiter_that_cannot_use_an_idle_connection_does_not_wake_itself() {
        let (sender, ended) = mpsc::channel();
        // A waiter that woke itself would never yield.
        thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
                let limit = Duration::from_secs(20);
                let config = PoolConfig {
                    max_connections: 9,
                    max_age: None,
                    max_idle: 9,
                    idle_timeout: limit,
                    connect_timeout: limit,
                    stall_timeout: None,
                    http2: false,
                    preserve_header_case: false,
                };
                let tls = TlsSettings::default().load(false, false).unwrap();
                let pool = Pool::new(Connector::new(server, limit, None, tls, Resolver::System), config);
                pool.acquire(Reuse::Any).await.unwrap().release();
                while !lock(&pool.state).idle.is_latest_stale() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let (waiter, earlier) = Waiter::new(&pool, Reuse::Recent, Pools::Own);
                pool.queue.wake_one();
                assert!(timeout(Duration::from_millis(50), waiter.available(earlier)).await.is_err());
                sender.send(()).unwrap();
            });
        });
        ended.recv_timeout(Duration::from_secs(20)).expect("the wait ends");
    }
}
