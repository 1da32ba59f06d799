//! What stands for TLS where the feature `tls` is off: nothing.

use std::error::Error as StdError;

use crate::error::Error;

pub(crate) type Secure<C> = C;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {}

#[derive(Clone)]
pub(crate) struct Loaded;

impl Tls {
    pub(crate) fn load(&self, _https: bool, _http2: bool) -> Result<Loaded, Error> {
        Ok(Loaded)
    }
}

impl Loaded {
    pub(crate) fn over<C>(self, connector: C) -> Secure<C> {
        connector
    }
}

pub(crate) fn explain(_error: &(dyn StdError + 'static)) -> Option<&'static str> {
    None
}

pub(crate) fn why_hopeless(_error: &(dyn StdError + 'static)) -> Option<String> {
    None
}
