//! The setting: which responses take long.

use std::time::Duration;

use crate::error::Error;

/// When a request is sent to a second endpoint; see [`ClientBuilder::hedge_after`](crate::ClientBuilder::hedge_after).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum HedgeAfter {
    /// If there is no response after this time, above zero.
    Time(Duration),
    /// If the response takes longer than this share of the recent ones, between 0 and 1. With 0.95, one request of twenty
    /// is sent twice.
    Quantile(f64),
}

impl HedgeAfter {
    /// Rejects invalid settings.
    pub(crate) fn validate(self) -> Result<Self, Error> {
        match self {
            Self::Time(Duration::ZERO) => Err(Error::bad_input("hedge_after is 0: expected a time above zero")),
            // True for NaN, too.
            Self::Quantile(share) if !(share > 0.0 && share < 1.0) => {
                Err(Error::bad_input(format!("hedge_after is {share}: expected a number between 0 and 1")))
            }
            valid => Ok(valid),
        }
    }
}
