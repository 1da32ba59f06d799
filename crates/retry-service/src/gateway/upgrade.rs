//! Upgrades, such as WebSocket: once both sides agree on another protocol, the gateway is a tunnel between them.

use std::{
    future::pending,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, Upgraded, on};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    time::{Instant, sleep_until},
};
use tokio_util::io::{InspectReader, InspectWriter};

use crate::{
    permit::{ConcurrencyLimiter, Permit},
    server::tasks::Tasks,
};

/// Limits of tunnels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelLimits {
    /// The maximum number of open tunnels.
    pub(crate) max_open: usize,
    pub(crate) idle_timeout: Option<Duration>,
}

/// A client's request to switch to another protocol.
pub(crate) struct Handshake {
    protocol: HeaderValue,
    client: OnUpgrade,
    permit: Option<Permit>,
}

impl Handshake {
    /// Returns the handshake of a request that asks for another protocol. `h2c` is not supported, since requests would
    /// then bypass the gateway.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Box<Self>> {
        let headers = request.headers();
        let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let mut options = options.flat_map(|value| value.split(','));
        let asks = options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
        let protocol = headers.get(UPGRADE).filter(|protocol| !names_h2c(protocol)).cloned();
        let protocol = protocol.filter(|_| asks && request.version() == Version::HTTP_11)?;
        Some(Box::new(Self { protocol, client: on(request), permit: None }))
    }

    /// Counts this as an open tunnel from now on. Returns whether the limit allows it.
    pub(crate) fn acquire_permit(&mut self, open: &ConcurrencyLimiter, limits: TunnelLimits) -> bool {
        self.permit = open.try_acquire(limits.max_open);
        self.permit.is_some()
    }

    /// Forwards the handshake to the upstream.
    pub(crate) fn forward(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Starts the tunnel. It opens once the client has received the upstream's response.
    pub(crate) fn complete<B>(
        self,
        response: &mut Response<B>,
        protocol: Option<HeaderValue>,
        limits: TunnelLimits,
        tasks: &Tasks,
    ) {
        let upstream = on(&mut *response);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.unwrap_or(self.protocol));
        let (client, permit, idle_timeout) = (self.client, self.permit, limits.idle_timeout);
        tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = tunnel(client, upstream, idle_timeout).await {
                log::debug!("Tunnel ended early: {error}");
            }
        });
    }
}

/// Copies bytes in both directions until both have ended, or nothing passes for `idle_timeout`.
async fn tunnel(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle_timeout: Option<Duration>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, upstream) = tokio::try_join!(client, upstream)?;
    let activity = Activity::new();
    let record = |_: &[u8]| activity.record();
    let end = |io: Upgraded| InspectWriter::new(InspectReader::new(TokioIo::new(io), record), record);
    let (mut client, mut upstream) = (end(client), end(upstream));
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut upstream) => drop(copied?),
        () = activity.idle_for(idle_timeout) => return Err("idle timeout".into()),
    }
    Ok(())
}

/// When bytes last passed through a tunnel.
#[derive(Debug)]
struct Activity(Mutex<Instant>);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn record(&self) {
        *self.last() = Instant::now();
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes once there was no activity for this long; never if there is no limit.
    async fn idle_for(&self, limit: Option<Duration>) {
        loop {
            let last = *self.last();
            let Some(due) = limit.and_then(|limit| last.checked_add(limit)) else { return pending().await };
            sleep_until(due).await;
            if *self.last() == last {
                return;
            }
        }
    }
}

fn names_h2c(protocol: &HeaderValue) -> bool {
    let named = protocol.to_str().unwrap_or_default();
    named.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("h2c"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_idle_once_nothing_has_passed_for_its_timeout() {
        let activity = Arc::new(Activity::new());
        let begin = Instant::now();
        let busy = Arc::clone(&activity);
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                busy.record();
            }
        });
        activity.idle_for(Some(Duration::from_secs(2))).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(7));
        let without_limit = activity.idle_for(None);
        assert!(tokio::time::timeout(Duration::from_secs(1_000_000), without_limit).await.is_err());
    }
}
