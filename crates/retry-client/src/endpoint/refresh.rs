//! Resolving the names of endpoints again, so that requests follow when a name gets other addresses.

use std::{
    net::IpAddr,
    sync::{Arc, Once, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::endpoint::{
    balancer::EndpointId,
    origin::{EndpointIds, Origin},
    set::EndpointSet,
};

/// The longest time between two look-ups while an endpoint cannot be reached: its name may have moved.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(1);

/// Resolves names for as long as there is a client.
pub(crate) struct Refresh {
    pub(crate) origins: Vec<Arc<Origin>>,
    pub(crate) ids: Arc<EndpointIds>,
    pub(crate) interval: Duration,
    pub(crate) started: Once,
}

impl Refresh {
    /// Starts with the first request, which has a runtime.
    pub(crate) fn ensure_started(&self, set: &Arc<EndpointSet>) {
        self.started.call_once(|| {
            let Ok(runtime) = Handle::try_current() else { return };
            for (origin, endpoint) in self.origins.iter().zip(set.endpoints().1) {
                let (origin, ids, current) = (Arc::clone(origin), Arc::clone(&self.ids), vec![(None, endpoint.id)]);
                if origin.resolved_name().is_some() {
                    let addresses = Addresses { origin, ids, current };
                    runtime.spawn(addresses.keep_current(Arc::downgrade(set), self.interval));
                }
            }
        });
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
    async fn keep_current(mut self, set: Weak<EndpointSet>, interval: Duration) {
        loop {
            let name = self.origin.resolved_name().unwrap_or_default();
            let resolved = timeout(self.origin.pool.connect_timeout, self.origin.resolver.resolve(name)).await;
            let Some(set) = set.upgrade() else { return };
            match resolved {
                Ok(Ok(addresses)) if !addresses.is_empty() => self.replace(&set, &addresses),
                // That does not mean that the servers are gone.
                Ok(Ok(_)) => log::debug!("{name} has no address"),
                Ok(Err(error)) => log::debug!("cannot resolve {name}: {error}"),
                Err(_) => log::debug!("cannot resolve {name} in time"),
            }
            let is_outage = self.current.iter().any(|(_, id)| set.is_unreachable(*id));
            drop(set);
            sleep(if is_outage { interval.min(OUTAGE_INTERVAL) } else { interval }).await;
        }
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
            log::info!("endpoint {} is new", endpoint.name);
        }
        for (address, _) in gone.iter().filter(|(address, _)| address.is_some()) {
            log::info!("endpoint {} is gone", self.origin.name(*address));
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
