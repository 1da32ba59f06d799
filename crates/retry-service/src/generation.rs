//! The configurations: the current one, and those that requests in flight still use.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use jiff::Timestamp;
use retry_client::Client;

use crate::{
    gateway::Gateway,
    permit::ConcurrencyLimiter,
    sample::Sample,
    server::tasks::Tasks,
    settings::LoadedSettings,
    telemetry::{access_log::Telemetry, rejection_log::RejectionLog},
};

/// What responds to requests.
#[derive(Debug)]
pub(crate) enum Handler {
    Sample(Sample),
    Gateway(Box<Gateway>),
}

/// One configuration.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Counts configurations, from 1.
    pub(crate) number: u64,
    /// When this became the current one.
    pub(crate) since: Timestamp,
    pub(crate) loaded: LoadedSettings,
    rejections: Arc<RejectionLog>,
}

/// What one worker has built from a configuration. A request uses the same one from its head to its end.
///
/// Each request writes to the reference counts of this and of what it contains, so no two workers share one, nor its
/// cache lines. Processors fetch those in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct WorkerGeneration {
    pub(crate) generation: Arc<Generation>,
    pub(crate) handler: Handler,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// The configuration for new requests of one worker, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct CurrentGeneration(RwLock<Arc<WorkerGeneration>>);

/// The configurations in use.
#[derive(Debug)]
pub(crate) struct Generations {
    current: RwLock<Arc<Generation>>,
    workers: Mutex<Vec<Arc<CurrentGeneration>>>,
    earlier: Mutex<Vec<Weak<Generation>>>,
    /// Whether the last reload failed.
    reload_failed: AtomicBool,
    shared: Shared,
}

/// What all configurations share.
#[derive(Debug)]
struct Shared {
    tasks: Tasks,
    tunnels: ConcurrencyLimiter,
    /// Distinguishes this process from others in `Via`.
    instance: u32,
}

impl Shared {
    fn worker_generation(&self, generation: &Arc<Generation>) -> Arc<WorkerGeneration> {
        let LoadedSettings { settings, client, metrics, .. } = &generation.loaded;
        let client = client.with_own_pool();
        let handler = if settings.forward {
            Handler::Gateway(Box::new(Gateway {
                client,
                settings: settings.gateway(self.instance),
                open_tunnels: self.tunnels.clone(),
                tasks: self.tasks.clone(),
            }))
        } else {
            Handler::Sample(Sample { client, path: settings.path.clone() })
        };
        let telemetry = Arc::new(Telemetry {
            access_log: settings.operations.access_log,
            grpc_status: !settings.retries.grpc_status_codes.0.is_empty(),
            metrics: metrics.clone(),
            rejections: Arc::clone(&generation.rejections),
            tasks: self.tasks.clone(),
        });
        Arc::new(WorkerGeneration { generation: Arc::clone(generation), handler, telemetry })
    }
}

impl Generation {
    fn new(number: u64, loaded: LoadedSettings) -> Arc<Self> {
        Arc::new(Self { number, since: Timestamp::now(), loaded, rejections: Arc::default() })
    }
}

impl CurrentGeneration {
    /// Returns the configuration for a new request.
    pub(crate) fn get(&self) -> Arc<WorkerGeneration> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, generation: Arc<WorkerGeneration>) {
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), generation);
        // Closes its idle connections, while new requests use the new one.
        drop(before);
    }
}

impl Generations {
    pub(crate) fn new(loaded: LoadedSettings, tasks: Tasks, tunnels: ConcurrencyLimiter) -> Self {
        let shared = Shared { tasks, tunnels, instance: fastrand::u32(..) };
        Self {
            current: RwLock::new(Generation::new(1, loaded)),
            workers: Mutex::default(),
            earlier: Mutex::default(),
            reload_failed: AtomicBool::new(false),
            shared,
        }
    }

    /// Adds a worker, and returns where it finds the configuration for its requests.
    pub(crate) fn add_worker(&self) -> Arc<CurrentGeneration> {
        let mut workers = lock(&self.workers);
        let generation = self.shared.worker_generation(&self.current());
        let current = Arc::new(CurrentGeneration(RwLock::new(generation)));
        workers.push(Arc::clone(&current));
        current
    }

    /// Returns the configuration for new requests.
    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another configuration for new requests, and returns its number.
    pub(crate) fn replace(&self, loaded: LoadedSettings) -> u64 {
        let workers = lock(&self.workers);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let number = current.number + 1;
        let generation = Generation::new(number, loaded);
        let before = std::mem::replace(&mut *current, Arc::clone(&generation));
        drop(current);
        workers.iter().for_each(|worker| worker.replace(self.shared.worker_generation(&generation)));
        let mut earlier = lock(&self.earlier);
        earlier.retain(|generation| generation.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
        self.reload_failed.store(false, Relaxed);
        number
    }

    /// Records that a reload failed, and the current configuration stays.
    pub(crate) fn set_reload_failed(&self) {
        self.reload_failed.store(true, Relaxed);
    }

    pub(crate) fn reload_failed(&self) -> bool {
        self.reload_failed.load(Relaxed)
    }

    /// Sums `value` over the clients of all configurations in use.
    pub(crate) fn sum(&self, value: impl Fn(&Client) -> usize) -> usize {
        self.clients().iter().map(value).sum()
    }

    /// Returns the clients of all configurations in use; the current one is the last.
    pub(crate) fn clients(&self) -> Vec<Client> {
        let earlier = lock(&self.earlier);
        let earlier = earlier.iter().filter_map(Weak::upgrade);
        earlier.chain([self.current()]).map(|generation| generation.loaded.client.clone()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
