//! Probes of an endpoint that cannot be connected to.

use std::sync::{Arc, Weak};

use tokio::{runtime::Handle, time::sleep_until};

use crate::{
    connection::pool::Pool,
    endpoint::{server::Endpoint, set::EndpointSet},
};

/// Connects to an endpoint, with increasing waits, until that succeeds. The connection goes to the pool.
pub(crate) fn spawn(set: Weak<EndpointSet>, endpoint: Arc<Endpoint>, pool: Weak<Pool>) {
    // Without a runtime, nothing is sent either.
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        // Until the client is dropped, or the endpoint is no longer one of it.
        while let Some(due) = set.upgrade().and_then(|set| set.next_probe(endpoint.id)) {
            sleep_until(due).await;
            let Some((set, pool)) = set.upgrade().zip(pool.upgrade()) else { return };
            if !set.begin_probe(&endpoint) {
                continue;
            }
            match pool.probe().await {
                Some(Ok(())) => return set.connected(&endpoint),
                // With `None`, the limit allows no connection now.
                Some(Err(_)) | None => set.probe_failed(endpoint.id),
            }
        }
    });
}
