//! Upgrades, WebSocket above all: once both ends agree on another protocol, bytes go to and fro.

use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::tasks::Tasks;

/// A caller's wish to switch protocols.
pub(crate) struct Handshake {
    protocol: HeaderValue,
    caller: OnUpgrade,
}

impl Handshake {
    /// The wish of a request that has one. Not for `h2c`: it would carry requests that are not seen here.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let headers = request.headers();
        let asks = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let asks = asks.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
        let protocol = headers.get(UPGRADE).filter(|protocol| !names_h2c(protocol)).cloned();
        let protocol = protocol.filter(|_| asks && request.version() == Version::HTTP_11)?;
        Some(Self { protocol, caller: on(request) })
    }

    /// Asks the upstream the same.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Joins both ends once the caller has the upstream's consent.
    pub(crate) fn complete<B>(self, response: &mut Response<B>, protocol: Option<HeaderValue>, tasks: &Tasks) {
        let upstream = on(&mut *response);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.unwrap_or(self.protocol));
        tasks.spawn(async move {
            if let Err(error) = join(self.caller, upstream).await {
                log::debug!("Tunnel ended early: {error}");
            }
        });
    }
}

async fn join(caller: OnUpgrade, upstream: OnUpgrade) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (caller, upstream) = tokio::try_join!(caller, upstream)?;
    copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(upstream)).await?;
    Ok(())
}

fn names_h2c(protocol: &HeaderValue) -> bool {
    let named = protocol.to_str().unwrap_or_default();
    named.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("h2c"))
}
