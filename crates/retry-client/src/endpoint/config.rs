//! The settings of the endpoints.

use std::time::Duration;

/// When an endpoint is down, and what a request does if none is up.
#[derive(Clone, Copy, Debug)]
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
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            outage_wait: None,
            eject_after: 5,
            max_ejected: 0.5,
            slow_start: Duration::from_secs(5),
            dns_refresh: None,
        }
    }
}
