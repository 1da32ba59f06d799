//! The configurations: the current one, and those that requests in flight still use.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use jiff::Timestamp;
use retry_client::Client;

use crate::{
    gateway::Gateway, permit::ConcurrencyLimiter, sample::Sample, server::tasks::Tasks, settings::LoadedSettings,
    telemetry::access_log::Telemetry,
};

/// What responds to requests.
#[derive(Debug)]
pub(crate) enum Handler {
    Sample(Sample),
    Gateway(Box<Gateway>),
}

/// One configuration, and what is built from it. A request uses the same one from its head to its end.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Counts configurations, from 1.
    pub(crate) number: u64,
    /// When this became the current one.
    pub(crate) since: Timestamp,
    pub(crate) loaded: LoadedSettings,
    pub(crate) handler: Handler,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// The configurations in use.
#[derive(Debug)]
pub(crate) struct Generations {
    current: RwLock<Arc<Generation>>,
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
    fn generation(&self, number: u64, loaded: LoadedSettings) -> Arc<Generation> {
        let LoadedSettings { settings, client, metrics, .. } = &loaded;
        let handler = if settings.forward {
            Handler::Gateway(Box::new(Gateway {
                client: client.clone(),
                settings: settings.gateway(self.instance),
                open_tunnels: self.tunnels.clone(),
                tasks: self.tasks.clone(),
            }))
        } else {
            Handler::Sample(Sample { client: client.clone(), path: settings.path.clone() })
        };
        let telemetry = Arc::new(Telemetry {
            access_log: settings.operations.access_log,
            metrics: metrics.clone(),
            rejections: Arc::default(),
            tasks: self.tasks.clone(),
        });
        Arc::new(Generation { number, since: Timestamp::now(), loaded, handler, telemetry })
    }
}

impl Generations {
    pub(crate) fn new(loaded: LoadedSettings, tasks: Tasks, tunnels: ConcurrencyLimiter) -> Self {
        let shared = Shared { tasks, tunnels, instance: fastrand::u32(..) };
        Self {
            current: RwLock::new(shared.generation(1, loaded)),
            earlier: Mutex::default(),
            reload_failed: AtomicBool::new(false),
            shared,
        }
    }

    /// Returns the configuration for new requests.
    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another configuration for new requests, and returns its number.
    pub(crate) fn replace(&self, loaded: LoadedSettings) -> u64 {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let number = current.number + 1;
        let before = std::mem::replace(&mut *current, self.shared.generation(number, loaded));
        drop(current);
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
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
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = earlier.iter().filter_map(Weak::upgrade);
        earlier.chain([self.current()]).map(|generation| value(&generation.loaded.client)).sum()
    }
}
