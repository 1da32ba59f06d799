//! Replaces `tls.rs` if the feature `tls` is off: no TLS.

use std::error::Error as StdError;

use crate::{
    connection::box_io::{BoxIo, Io},
    error::Error,
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
    pub(crate) fn wrap<C>(self, connector: C) -> C {
        connector
    }
}

pub(crate) fn boxed(stream: impl Io + 'static) -> BoxIo {
    Box::new(stream)
}

pub(crate) fn explain(_error: &(dyn StdError + 'static)) -> Option<(bool, String)> {
    None
}
