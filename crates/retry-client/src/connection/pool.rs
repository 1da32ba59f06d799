//! The connections to one server, and which of them a request goes over.
//!
//! An HTTP/1.1 connection carries one exchange at a time and is kept for the next; one of HTTP/2 is shared. A request
//! that finds neither makes a connection. Should another become free before that is made, it takes that one, and the
//! new one is kept.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{
    connection::{
        connect::{Connecting, Connector, Stream, within},
        exchange::{Connection, Share, Task},
        stall_timeout::{Activity, Idle},
        tracked_io::Place,
    },
    error_chain::BoxError,
    response::head_limits,
};

/// A connection used so recently is hardly about to be closed: servers keep connections for two seconds and more.
const MOMENT: Duration = Duration::from_secs(1);

/// How many connections there may be, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) most: usize,
    /// How many are kept without an exchange. Zero keeps none, and shares none either.
    pub(crate) most_unused: usize,
    /// How long they are.
    pub(crate) unused: Duration,
    /// How long a request may wait for one.
    pub(crate) connecting: Duration,
    /// How long one may be silent while somebody waits; none is for ever.
    pub(crate) silence: Option<Duration>,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// By prior knowledge.
    pub(crate) http2: bool,
    pub(crate) preserve_header_case: bool,
}

/// The connections to one server.
pub(crate) struct Pool {
    connector: Connector,
    limits: Limits,
    protocol: Protocol,
    spare: Mutex<Spare>,
    /// Rings for one of those that wait, for each connection given back; for all, when there is one to share.
    freed: Notify,
    /// A permit for each connection that there may be.
    places: Arc<Semaphore>,
    /// A permit for each that may be made at the same time.
    dials: Arc<Semaphore>,
    me: Weak<Self>,
}

/// What is there for the next request.
#[derive(Default)]
struct Spare {
    /// In the order in which they were given back.
    unused: Vec<Unused>,
    shared: Option<Shared>,
    /// How many requests wait for a connection.
    waiting: usize,
    /// Whether a task closes what has been unused for too long.
    reaped: bool,
}

struct Unused {
    connection: Box<Connection>,
    since: Instant,
    /// When it has been unused for too long; `None` if never.
    due: Option<Instant>,
}

/// Which connections a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    /// One that the server is not about to close: new, or used a moment ago. For requests that cannot be repeated, which
    /// would be lost to one that closes as they arrive.
    Fresh,
}

struct Shared {
    whole: Share,
    last_used: Instant,
}

impl Spare {
    /// A connection, with so many of those unused left to others.
    fn take(&mut self, wanted: Wanted, left: usize, limits: &Limits) -> Option<Box<Connection>> {
        let now = Instant::now();
        let is_stale = |unused: &Unused| wanted == Wanted::Fresh && now.duration_since(unused.since) > MOMENT;
        while self.unused.len() > left {
            let Some(Unused { connection, due, .. }) = self.unused.pop_if(|unused| !is_stale(unused)) else { break };
            // The server may be about to close one that has been unused for longer.
            if connection.is_ready() && due.is_none_or(|due| due > now) {
                return Some(connection);
            }
        }
        let shared = self.shared.as_mut().filter(|shared| !shared.whole.is_closed())?;
        shared.last_used = Instant::now();
        Some(limits.lend(shared.whole.clone(), true))
    }

    /// Closes what has been unused for too long, `limit` for a shared connection, and tells when to look again.
    fn reap(&mut self, limit: Duration, now: Instant) -> Option<Instant> {
        self.unused.retain(|unused| unused.due.is_none_or(|due| due > now));
        if let Some(shared) = self.shared.as_mut().filter(|shared| shared.whole.is_in_use()) {
            shared.last_used = now;
        }
        let due = |shared: &Shared| shared.last_used.checked_add(limit);
        self.shared.take_if(|shared| due(shared).is_some_and(|due| due <= now));
        self.unused.iter().filter_map(|unused| unused.due).chain(self.shared.as_ref().and_then(due)).min()
    }
}

impl Limits {
    /// One exchange's share of a connection, on which it may have to wait for its turn as long as for a connection.
    fn lend(&self, share: Share, reused: bool) -> Box<Connection> {
        let idle = self.silence.map(|silence| Idle::new(silence, Activity::starting_within(self.connecting)));
        Box::new(Connection::http2(share, idle, reused))
    }
}

/// How much a connection may hold of what it reads or writes: the largest head, and a piece of a body. hyper's own limit
/// of some 400 KiB is for few connections.
const BUFFER: usize = head_limits::MAX_SIZE + 16 * 1024;

impl Pool {
    pub(crate) fn new(connector: Connector, limits: Limits, protocol: Protocol) -> Arc<Self> {
        // One connection is enough for all, so all wait for that one.
        let dials = if protocol.http2 && limits.most_unused > 0 { 1 } else { Semaphore::MAX_PERMITS };
        Arc::new_cyclic(|me| Self {
            connector,
            limits,
            protocol,
            spare: Mutex::default(),
            freed: Notify::new(),
            places: Arc::new(Semaphore::new(limits.most)),
            dials: Arc::new(Semaphore::new(dials)),
            me: me.clone(),
        })
    }

    /// Whether exchanges share a connection, or will.
    pub(crate) fn is_shared(&self) -> bool {
        self.protocol.http2 || self.lock().shared.is_some()
    }

    /// How many connections there are, those being made included.
    pub(crate) fn connections(&self) -> usize {
        self.limits.most.saturating_sub(self.places.available_permits())
    }

    /// A connection that is there, and that nobody has waited for longer.
    pub(crate) fn take(&self, wanted: Wanted) -> Option<Box<Connection>> {
        let mut spare = self.lock();
        let left = spare.waiting;
        spare.take(wanted, left, &self.limits)
    }

    /// A connection as soon as there is one, within the limit on connecting.
    pub(crate) fn wait(self: &Arc<Self>, wanted: Wanted) -> Connecting<Box<Connection>> {
        let pool = Arc::clone(self);
        within(self.limits.connecting, async move { pool.freed_or_new(wanted).await })
    }

    async fn freed_or_new(self: &Arc<Self>, wanted: Wanted) -> Result<Box<Connection>, BoxError> {
        if wanted == Wanted::Fresh {
            self.make_place();
        }
        let (waiting, others) = Waiting::enter(self);
        let mut freed = pin!(waiting.freed(wanted, others));
        let permits = pin!(async {
            let dial = Arc::clone(&self.dials).acquire_owned().await?;
            Ok::<_, BoxError>((dial, Arc::clone(&self.places).acquire_owned().await?))
        });
        let (dial, place) = match race(freed.as_mut(), permits).await {
            First::Left(connection) => return Ok(connection),
            First::Right(permits) => permits?,
        };
        let pool = Arc::clone(self);
        let mut dialling = Box::pin(async move {
            let _dial = dial;
            pool.connect(place).await
        });
        match race(freed, dialling.as_mut()).await {
            First::Left(connection) => {
                tokio::spawn(async { dialling.await.map(Connection::give_back) });
                Ok(connection)
            }
            First::Right(connected) => connected,
        }
    }

    /// Closes the connection that has been unused for longest, if a new one could not be made otherwise.
    fn make_place(&self) {
        if self.places.available_permits() == 0 {
            let mut spare = self.lock();
            if !spare.unused.is_empty() {
                spare.unused.remove(0);
            }
        }
    }

    /// Lets others have a connection that was given back and has been unused for too long for the request that waited.
    fn pass_on(&self) {
        let has_stale = {
            let spare = self.lock();
            spare.unused.last().is_some_and(|unused| unused.since.elapsed() > MOMENT)
        };
        if has_stale {
            self.make_place();
            self.freed.notify_one();
        }
    }

    async fn connect(&self, place: OwnedSemaphorePermit) -> Result<Box<Connection>, BoxError> {
        let (activity, place) = (Activity::by_byte(), Place::new(place));
        let (stream, connected) = self.connector.connect(Arc::clone(&place), activity.clone()).await?;
        if self.protocol.http2 || connected.is_negotiated_h2() {
            return self.share(stream, activity).await;
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .max_headers(head_limits::MAX_FIELDS)
            .max_header_size(head_limits::MAX_SIZE)
            .preserve_header_case(self.protocol.preserve_header_case)
            .handshake(stream)
            .await?;
        // Whoever has an exchange on it learns how it ends.
        let task = tokio::spawn(connection.with_upgrades()).abort_handle();
        let task = Task { task, place: Arc::downgrade(&place) };
        let idle = self.limits.silence.map(|silence| Idle::new(silence, activity.clone()));
        Ok(Box::new(Connection::http1(sender, connected.is_proxied(), idle, activity, task, self.me.clone())))
    }

    async fn share(&self, stream: Stream, activity: Activity) -> Result<Box<Connection>, BoxError> {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(head_limits::MAX_SIZE as u32)
            .handshake(stream)
            .await?;
        let task = tokio::spawn(connection).abort_handle();
        sender.ready().await?;
        let mut share = Share::new(sender, activity, task);
        if self.limits.most_unused > 0 {
            let mut spare = self.lock();
            // Where the server chose the protocol, others may have connected meanwhile.
            match &spare.shared {
                Some(shared) if !shared.whole.is_closed() => share = shared.whole.clone(),
                _ => spare.shared = Some(Shared { whole: share.clone(), last_used: Instant::now() }),
            }
            self.see_to_reaping(&mut spare);
            drop(spare);
            self.freed.notify_waiters();
        }
        Ok(self.limits.lend(share, false))
    }

    /// Shares a connection no longer from which one exchange waited in vain, if nothing came for the others either: what
    /// is at its other end may be gone, and it would take each exchange its time to find out.
    pub(crate) fn give_up(&self, connection: &Connection, limit: Duration) {
        let is_silent = |share: &Share| share.is_silent_for(limit);
        self.lock().shared.take_if(|shared| connection.is_share_of(&shared.whole) && is_silent(&shared.whole));
    }

    /// Takes back a connection that is ready for the next exchange.
    pub(crate) fn put(&self, connection: Box<Connection>) {
        let since = connection.last_used();
        let kept = connection.keep_alive().map_or(self.limits.unused, |limit| limit.min(self.limits.unused));
        if kept.is_zero() {
            return;
        }
        let due = since.checked_add(kept);
        let mut spare = self.lock();
        let most = if self.limits.most_unused == 0 { 0 } else { self.limits.most_unused.max(spare.waiting) };
        if spare.unused.len() >= most {
            return;
        }
        spare.unused.push(Unused { connection, since, due });
        if spare.waiting > 0 {
            self.freed.notify_one();
        }
        self.see_to_reaping(&mut spare);
    }

    fn see_to_reaping(&self, spare: &mut Spare) {
        if spare.reaped {
            return;
        }
        let is_for_ever = Instant::now().checked_add(self.limits.unused).is_none();
        if is_for_ever && spare.unused.iter().all(|unused| unused.due.is_none()) {
            return;
        }
        // Without a runtime nobody gets to know its connections either.
        let Ok(runtime) = Handle::try_current() else { return };
        spare.reaped = true;
        runtime.spawn(reap(Reaped(self.me.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have been unused for too long, for as long as there are any.
async fn reap(mut reaped: Reaped) {
    loop {
        let next = {
            let Some(pool) = reaped.0.upgrade() else { return };
            let mut spare = pool.lock();
            let next = spare.reap(pool.limits.unused, Instant::now());
            if next.is_none() {
                spare.reaped = false;
                // Told, so not to be told again: another may have taken over by then.
                reaped.0 = Weak::new();
            }
            next
        };
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

/// The task may end with its runtime: then another has to take over.
struct Reaped(Weak<Pool>);

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.lock().reaped = false;
        }
    }
}

/// A request that waits for a connection.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    /// And how many waited already. Counted in one step: should two come at once, the first is to know that it is.
    fn enter(pool: &'a Pool) -> (Self, usize) {
        let mut spare = pool.lock();
        let others = spare.waiting;
        spare.waiting += 1;
        (Self(pool), others)
    }

    /// A connection that others give back, or share: whoever has waited longest comes first.
    async fn freed(&self, wanted: Wanted, mut others: usize) -> Box<Connection> {
        let Self(pool) = self;
        loop {
            let mut freed = pin!(pool.freed.notified());
            // What happens from here on is not missed.
            freed.as_mut().enable();
            let free = pool.lock().take(wanted, others, &pool.limits);
            if let Some(connection) = free {
                return connection;
            }
            freed.await;
            others = 0;
            if wanted == Wanted::Fresh {
                pool.pass_on();
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

enum First<A, B> {
    Left(A),
    Right(B),
}

/// What is there first; the left where both are.
async fn race<A: Future, B: Future>(mut left: Pin<&mut A>, mut right: Pin<&mut B>) -> First<A::Output, B::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(left) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(left));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
