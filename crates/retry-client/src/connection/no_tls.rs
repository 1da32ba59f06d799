//! Replaces `tls.rs` if the feature `tls` is off: no TLS.

use std::error::Error as StdError;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};

use crate::{
    connection::box_io::{BoxIo, Io},
    error::Error,
    error_chain::BoxError,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {}

#[derive(Clone)]
pub(crate) struct TlsConfig;

impl TlsSettings {
    pub(crate) fn load(&self, _https: bool, _http2: bool) -> Result<TlsConfig, Error> {
        Ok(TlsConfig)
    }
}

impl TlsConfig {
    pub(crate) async fn handshake<T: Io + Connection + 'static>(
        self,
        stream: T,
        _server: &Uri,
    ) -> Result<(BoxIo, Connected), BoxError> {
        let connected = stream.connected();
        Ok((Box::new(stream), connected))
    }
}

pub(crate) fn explain(_error: &(dyn StdError + 'static)) -> Option<(bool, String)> {
    None
}
