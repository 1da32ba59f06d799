//! The pools that share a limit on connections: a server with a runtime for each thread has a pool for each.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Semaphore;

use crate::{connection::wait_queue::WaitQueue, lock::lock};

/// What the pools of a group share. A request that needs none of it does not touch what other threads write.
pub(crate) struct PoolGroup<P> {
    /// A permit for each connection that may exist.
    pub(crate) connection_permits: Arc<Semaphore>,
    /// The requests that wait for a connection of any pool, as the limit allows no new one.
    pub(crate) queue: WaitQueue,
    /// Whether requests may open connections.
    pub(crate) is_reachable: AtomicBool,
    /// How many pools have joined.
    size: AtomicUsize,
    pools: Mutex<Vec<Weak<P>>>,
}

impl<P> PoolGroup<P> {
    pub(crate) fn new(max_connections: usize) -> Self {
        Self {
            connection_permits: Arc::new(Semaphore::new(max_connections)),
            queue: WaitQueue::default(),
            is_reachable: AtomicBool::new(true),
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

    /// Returns the pools that have joined, `first` as the first.
    pub(crate) fn pools(&self, first: &P) -> Vec<Arc<P>> {
        let mut pools: Vec<_> = lock(&self.pools).iter().filter_map(Weak::upgrade).collect();
        pools.sort_by_key(|pool| !std::ptr::eq(&raw const **pool, first));
        pools
    }

    /// Whether the limit allows no new connection.
    pub(crate) fn is_full(&self) -> bool {
        self.connection_permits.available_permits() == 0
    }
}
