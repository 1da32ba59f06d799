//! What an endpoint looks like from outside, for metrics and health checks.

/// The state of one endpoint and what has happened to it, as [`Client::endpoints`](crate::Client::endpoints) returns it.
/// The counts include those of [`with_own_pool`](crate::Client::with_own_pool).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The host and port of its URL, followed by its address if the name was resolved for endpoints: `shop:8080` or
    /// `shop:8080 (10.0.0.7)`. Contains no credentials.
    pub name: String,
    /// Whether requests are sent to it.
    pub state: EndpointState,
    /// The requests in flight.
    pub in_flight: usize,
    /// How many attempts have failed: without a response, with a status of 5xx that is retried, or with a gRPC status code
    /// that is retried and for which the server is to blame, such as UNAVAILABLE.
    pub failures: u64,
    /// How often it was ejected after failures in a row.
    pub ejections: u64,
    /// How often it was probed while it was down.
    pub probes: u64,
}

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointState {
    /// It gets its share of the requests. For a time after it has come back, that share grows.
    Up,
    /// The last attempt to connect failed. It gets no requests until a probe has connected.
    Unreachable,
    /// Its last responses were failures, in a row. It gets no requests, except for one at a time that probes it.
    Ejected,
}
