//! Limits on clients.

use std::time::Duration;

/// Limits on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The maximum number of open connections; more wait in the listener's queue.
    pub(crate) max_connections: usize,
    /// The maximum size of a request head in bytes, at least 8 KiB; a larger one gets a 431.
    pub(crate) max_header_size: usize,
    /// How long a request head may take, and how long a connection may be idle.
    pub(crate) header_timeout: Duration,
    /// How long a client may read nothing of a response.
    pub(crate) client_timeout: Duration,
    /// Whether HTTP/1.1 header names keep their case.
    pub(crate) preserve_header_case: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_header_size: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            client_timeout: Duration::from_secs(60),
            preserve_header_case: false,
        }
    }
}
