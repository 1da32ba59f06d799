//! Probes of an endpoint that cannot be connected to.

use std::sync::{Arc, Weak};

use tokio::{runtime::Handle, time::sleep_until};

use crate::{
    connection::pool::Pool,
    endpoint::{reachability::is_unreachable, server::Endpoint, set::EndpointSet},
    error_chain::root,
};

/// Connects to an endpoint, with increasing waits, until that succeeds. The connection goes to the pool.
///
/// The task may end before, with its runtime: then `canceled` is called, and the task of another client continues.
pub(crate) fn spawn(
    set: Weak<EndpointSet>,
    endpoint: Arc<Endpoint>,
    pool: Weak<Pool>,
    canceled: impl FnOnce() + Send + 'static,
) {
    let canceled = OnDrop(Some(canceled));
    // Without a runtime, nothing is sent either.
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        let mut canceled = canceled;
        let _turn = endpoint.probing.lock().await;
        // Until the client is dropped, or the endpoint is no longer one of it.
        while let Some(due) = set.upgrade().and_then(|set| set.next_probe(endpoint.id)) {
            sleep_until(due).await;
            let Some((set, pool)) = set.upgrade().zip(pool.upgrade()) else { return };
            let Some(_probe) = set.begin_probe(&endpoint) else { continue };
            let observing = &set.config.observing;
            match pool.probe().await {
                Some(Ok(())) => {
                    observing.reconnected(&endpoint.name);
                    set.connected(&endpoint);
                }
                Some(Err(error)) if is_unreachable(&*error) => {
                    observing.connect_failed(&endpoint.name, &root(&*error).to_string());
                }
                // It says nothing about the endpoint, or the limit allows no connection now.
                Some(Err(_)) | None => {}
            }
        }
        canceled.0 = None;
    });
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
