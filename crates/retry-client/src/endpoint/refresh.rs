//! Resolving the names of endpoints again, so that requests follow when a name gets other addresses.

use std::{
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::endpoint::{
    LOG_TARGET,
    balancer::EndpointId,
    origin::{EndpointIds, Origin},
    set::EndpointSet,
};

/// The time between two look-ups while an endpoint cannot be reached: its name may have moved.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(1);

/// Resolves names for as long as there is a client.
pub(crate) struct Refresh {
    names: Vec<Arc<Mutex<Addresses>>>,
    interval: Duration,
    is_running: Arc<AtomicBool>,
}

/// The tasks that resolve the names. When they end with their runtime, others can be started.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Refresh {
    /// Takes each URL with its endpoint for all addresses.
    pub(crate) fn new(
        origins: impl IntoIterator<Item = (Arc<Origin>, EndpointId)>,
        ids: &Arc<EndpointIds>,
        interval: Duration,
    ) -> Self {
        let named = origins.into_iter().filter(|(origin, _)| origin.resolved_name().is_some());
        let names = named.map(|(origin, id)| {
            Arc::new(Mutex::new(Addresses { origin, ids: Arc::clone(ids), current: vec![(None, id)] }))
        });
        Self { names: names.collect(), interval, is_running: Arc::default() }
    }

    /// Starts with the first request, which has a runtime.
    pub(crate) fn ensure_running(&self, set: &Arc<EndpointSet>) {
        if self.names.is_empty() || self.is_running.load(Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_running.swap(true, Relaxed) {
            return;
        }
        let running = Arc::new(Running(Arc::clone(&self.is_running)));
        for name in &self.names {
            let (name, set, interval) = (Arc::clone(name), Arc::downgrade(set), self.interval);
            let running = Arc::clone(&running);
            runtime.spawn(async move {
                let _running = running;
                name.lock().await.keep_current(set, interval).await;
            });
        }
    }
}

/// The endpoints of one name.
struct Addresses {
    origin: Arc<Origin>,
    ids: Arc<EndpointIds>,
    /// The endpoint of each address. Until the name is resolved, there is one without an address.
    current: Vec<(Option<IpAddr>, EndpointId)>,
}

impl Addresses {
    async fn keep_current(&mut self, set: Weak<EndpointSet>, interval: Duration) {
        let Some(name) = self.origin.resolved_name().map(str::to_owned) else { return };
        let mut was_resolved = false;
        loop {
            let resolved = timeout(self.origin.pool.connect_timeout, self.origin.resolver.resolve(&name)).await;
            let Some(upgraded) = set.upgrade() else { return };
            let failure = match resolved {
                Ok(Ok(addresses)) if !addresses.is_empty() => {
                    self.replace(&upgraded, &addresses);
                    None
                }
                Ok(Ok(_)) => Some("it has no address".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("timeout".to_owned()),
            };
            // A failure does not mean that the servers are gone. If the name was never resolved, connecting fails, too.
            if let Some(why) = failure.as_ref().filter(|_| was_resolved) {
                log::warn!(target: LOG_TARGET, "cannot resolve {name}: {why}; its last addresses are kept");
            }
            was_resolved = failure.is_none();
            let outages = Arc::clone(&upgraded.outages);
            drop(upgraded);
            sleep(interval.min(OUTAGE_INTERVAL)).await;
            let outage = outages.notified();
            if !self.is_outage(&set) {
                let _ = timeout(interval.saturating_sub(OUTAGE_INTERVAL), outage).await;
            }
        }
    }

    /// Whether one of the addresses cannot be connected to.
    fn is_outage(&self, set: &Weak<EndpointSet>) -> bool {
        set.upgrade().is_some_and(|set| self.current.iter().any(|(_, id)| set.is_unreachable(*id)))
    }

    /// Keeps the endpoints of addresses that the name still has, and replaces the others.
    fn replace(&mut self, set: &Arc<EndpointSet>, resolved: &[IpAddr]) {
        let find = |current: &[(Option<IpAddr>, EndpointId)], address| {
            current.iter().find(|(known, _)| *known == Some(address)).map(|(_, id)| *id)
        };
        let wanted =
            preferred(resolved, |address| find(&self.current, address).is_some_and(|id| set.is_unreachable(id)));
        let is_wanted = |address: Option<IpAddr>| address.is_some_and(|address| wanted.contains(&address));
        let gone: Vec<_> = self.current.extract_if(.., |(address, _)| !is_wanted(*address)).collect();
        let new: Vec<_> = wanted.iter().filter(|address| find(&self.current, **address).is_none()).collect();
        if gone.is_empty() && new.is_empty() {
            return;
        }
        let new: Vec<_> = new.into_iter().map(|address| self.origin.endpoint(&self.ids, Some(*address))).collect();
        for endpoint in &new {
            self.current.push((endpoint.address, endpoint.id));
            log::info!(target: LOG_TARGET, "endpoint {} is new", endpoint.name);
        }
        for (address, _) in gone.iter().filter(|(address, _)| address.is_some()) {
            log::info!(target: LOG_TARGET, "endpoint {} is gone", self.origin.name(*address));
        }
        set.replace(&gone.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), new);
    }
}

/// Returns those addresses that are of the same family as the first, which the system prefers: often only one of the two
/// families is served. If none of them can be reached, returns all.
fn preferred(resolved: &[IpAddr], is_unreachable: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let is_preferred = |address: &&IpAddr| resolved.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let all_unreachable = resolved.iter().filter(is_preferred).all(|address| is_unreachable(*address));
    let mut wanted = Vec::new();
    for address in resolved.iter().filter(|address| all_unreachable || is_preferred(address)) {
        if !wanted.contains(address) {
            wanted.push(*address);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_is_used_unless_it_cannot_be_reached() {
        let addresses = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
        let check = |resolved: &[&str], unreachable: &[&str], expected: &[&str]| {
            let unreachable = addresses(unreachable);
            let wanted = preferred(&addresses(resolved), |address| unreachable.contains(&address));
            assert_eq!(wanted, addresses(expected), "{resolved:?} {unreachable:?}");
        };
        check(&["10.0.0.1", "10.0.0.2", "10.0.0.1"], &[], &["10.0.0.1", "10.0.0.2"]);
        check(&["fd00::1", "10.0.0.1", "fd00::2"], &[], &["fd00::1", "fd00::2"]);
        check(&["fd00::1", "10.0.0.1", "fd00::2"], &["fd00::1"], &["fd00::1", "fd00::2"]);
        check(&["fd00::1", "10.0.0.1"], &["fd00::1"], &["fd00::1", "10.0.0.1"]);
        check(&["10.0.0.1", "fd00::1"], &[], &["10.0.0.1"]);
    }
}
