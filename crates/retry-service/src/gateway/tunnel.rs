//! Upgrades, WebSocket above all: once both ends agree on another protocol, bytes go to and fro.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, Upgraded, on};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

use crate::server::{
    room::{Place, Room},
    shutdown::Tasks,
};

/// How many tunnels there may be, and how long one may be idle. Clones share the count.
#[derive(Clone, Debug)]
pub struct Tunnels {
    room: Room,
    most: usize,
    idle: Option<Duration>,
}

impl Tunnels {
    /// So many at a time, each idle for as long as `idle` at most; `None` is for ever.
    #[must_use]
    pub fn new(most: usize, idle: Option<Duration>) -> Self {
        Self { room: Room::default(), most, idle }
    }

    /// Counts them among those of other configurations.
    pub(crate) fn count_in(&mut self, room: &Room) {
        self.room = room.clone();
    }
}

/// A caller's wish to switch protocols.
pub(crate) struct Handshake {
    protocol: HeaderValue,
    caller: OnUpgrade,
    place: Option<Place>,
}

impl Handshake {
    /// The wish of a request that has one. Not for `h2c`: it would carry requests that are not seen here.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let headers = request.headers();
        let asks = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let asks = asks.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
        let protocol = headers.get(UPGRADE).filter(|protocol| !names_h2c(protocol)).cloned();
        let protocol = protocol.filter(|_| asks && request.version() == Version::HTTP_11)?;
        Some(Self { protocol, caller: on(request), place: None })
    }

    /// Counts it among the tunnels, if there may be one more.
    pub(crate) fn enter(&mut self, tunnels: &Tunnels) -> bool {
        self.place = tunnels.room.enter(tunnels.most);
        self.place.is_some()
    }

    /// Asks the upstream the same.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Joins both ends once the caller has the upstream's consent.
    pub(crate) fn complete<B>(
        self,
        response: &mut Response<B>,
        protocol: Option<HeaderValue>,
        tunnels: &Tunnels,
        tasks: &Tasks,
    ) {
        let upstream = on(&mut *response);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.unwrap_or(self.protocol));
        let (caller, place, idle) = (self.caller, self.place, tunnels.idle);
        tasks.spawn(async move {
            let _place = place;
            if let Err(error) = join(caller, upstream, idle).await {
                log::debug!("Tunnel ended early: {error}");
            }
        });
    }
}

async fn join(
    caller: OnUpgrade,
    upstream: OnUpgrade,
    idle: Option<Duration>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (caller, upstream) = tokio::try_join!(caller, upstream)?;
    let last = Last(Arc::new(Moment { origin: Instant::now(), last: AtomicU64::new(0) }));
    let end = |io: Upgraded| End { io: TokioIo::new(io), last: last.clone() };
    let (mut caller, mut upstream) = (end(caller), end(upstream));
    tokio::select! {
        copied = copy_bidirectional(&mut caller, &mut upstream) => drop(copied?),
        () = last.idle_for(idle) => return Err("nothing passed through it for too long".into()),
    }
    Ok(())
}

/// When something last passed through a tunnel.
#[derive(Clone, Debug)]
struct Last(Arc<Moment>);

#[derive(Debug)]
struct Moment {
    origin: Instant,
    /// In nanoseconds since `origin`.
    last: AtomicU64,
}

impl Last {
    fn note(&self) {
        let now = u64::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.last.store(now, Relaxed);
    }

    /// Completes once nothing has passed for so long; never without a limit.
    async fn idle_for(&self, limit: Option<Duration>) {
        let mut seen = Instant::now();
        loop {
            let Some(due) = limit.and_then(|limit| seen.checked_add(limit)) else {
                return std::future::pending().await;
            };
            sleep_until(due).await;
            let last = self.0.origin + Duration::from_nanos(self.0.last.load(Relaxed));
            if last <= seen {
                return;
            }
            seen = last;
        }
    }
}

/// One end of a tunnel, which notes what passes.
struct End {
    io: TokioIo<Upgraded>,
    last: Last,
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.last.note();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.last.note();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn names_h2c(protocol: &HeaderValue) -> bool {
    let named = protocol.to_str().unwrap_or_default();
    named.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("h2c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_idle_once_nothing_has_passed_for_its_limit() {
        let last = Last(Arc::new(Moment { origin: Instant::now(), last: AtomicU64::new(0) }));
        let begin = Instant::now();
        let busy = last.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                busy.note();
            }
        });
        last.idle_for(Some(Duration::from_secs(2))).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(7));
        let for_ever = last.idle_for(None);
        assert!(tokio::time::timeout(Duration::from_secs(1_000_000), for_ever).await.is_err());
    }
}
