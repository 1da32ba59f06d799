//! The settings of the endpoints.

use std::time::Duration;

use crate::{error::Error, exchange_observer::Observing};

/// When an endpoint is down, and what a request does if none is up.
#[derive(Clone, Debug)]
pub(crate) struct EndpointConfig {
    /// How long a call may wait for an endpoint, in total. `None` if it does not wait.
    pub(crate) outage_wait: Option<Duration>,
    /// How many failures in a row eject an endpoint.
    pub(crate) eject_after: u32,
    /// The share of endpoints that may be ejected, from 0 to 1.
    pub(crate) max_ejected: f64,
    /// How long it takes until an endpoint that came back gets its full share.
    pub(crate) slow_start: Duration,
    /// How often names are resolved again. `None` if the addresses of a name are not endpoints of their own.
    pub(crate) dns_refresh: Option<Duration>,
    /// What observes the exchanges with the endpoints.
    pub(crate) observing: Observing,
}

impl EndpointConfig {
    /// Rejects invalid settings.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.eject_after == 0 {
            return Err(Error::bad_input("eject_after is 0: expected at least 1"));
        }
        // False for NaN, too.
        if !(0.0..=1.0).contains(&self.max_ejected) {
            let share = self.max_ejected;
            return Err(Error::bad_input(format!("max_ejected is {share}: expected a number from 0 to 1")));
        }
        if self.dns_refresh == Some(Duration::ZERO) {
            return Err(Error::bad_input("dns_refresh is 0: expected a time above zero"));
        }
        Ok(())
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            outage_wait: None,
            eject_after: 5,
            max_ejected: 0.5,
            slow_start: Duration::from_secs(5),
            dns_refresh: None,
            observing: Observing::default(),
        }
    }
}
