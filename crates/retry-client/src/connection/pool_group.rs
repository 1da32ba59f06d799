//! The pools that share a limit on connections: a server with a runtime for each thread has a pool for each.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Notify, Semaphore};

use crate::lock::lock;

/// What the pools of a group share. A request that needs none of it does not touch what other threads write.
pub(crate) struct PoolGroup<P> {
    /// A permit for each connection that may exist.
    pub(crate) connection_permits: Arc<Semaphore>,
    /// Notifies one waiter for each HTTP/1.1 connection that is returned, and all of them of an HTTP/2 connection.
    pub(crate) available: Notify,
    /// How many requests wait for a connection.
    waiters: AtomicUsize,
    /// How many of them take any idle connection, however long it has been idle.
    undemanding_waiters: AtomicUsize,
    size: AtomicUsize,
    pools: Mutex<Vec<Weak<P>>>,
}

impl<P> PoolGroup<P> {
    pub(crate) fn new(max_connections: usize) -> Self {
        Self {
            connection_permits: Arc::new(Semaphore::new(max_connections)),
            available: Notify::new(),
            waiters: AtomicUsize::new(0),
            undemanding_waiters: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            pools: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, pool: Weak<P>) {
        let mut pools = lock(&self.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
        self.size.fetch_add(1, SeqCst);
    }

    /// Notes that a pool was dropped.
    pub(crate) fn remove(&self) {
        self.size.fetch_sub(1, SeqCst);
    }

    /// Returns the share of each pool.
    pub(crate) fn share(&self, total: usize) -> usize {
        total.div_ceil(self.size.load(SeqCst).max(1))
    }

    /// Returns all pools, `first` as the first.
    pub(crate) fn pools(&self, first: &P) -> Vec<Arc<P>> {
        let mut pools: Vec<_> = lock(&self.pools).iter().filter_map(Weak::upgrade).collect();
        pools.sort_by_key(|pool| !std::ptr::eq(&raw const **pool, first));
        pools
    }

    /// Whether the limit allows no new connection.
    pub(crate) fn is_full(&self) -> bool {
        self.connection_permits.available_permits() == 0
    }

    pub(crate) fn waiters(&self) -> usize {
        self.waiters.load(SeqCst)
    }

    pub(crate) fn has_undemanding_waiter(&self) -> bool {
        self.undemanding_waiters.load(SeqCst) > 0
    }

    /// Registers a waiter, and returns the number of those before it.
    pub(crate) fn add_waiter(&self, undemanding: bool) -> usize {
        self.undemanding_waiters.fetch_add(undemanding.into(), SeqCst);
        self.waiters.fetch_add(1, SeqCst)
    }

    pub(crate) fn remove_waiter(&self, undemanding: bool) {
        self.waiters.fetch_sub(1, SeqCst);
        self.undemanding_waiters.fetch_sub(undemanding.into(), SeqCst);
    }
}
