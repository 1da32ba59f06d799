//! The connections to the server.

pub(crate) mod acquire_timeout;
pub(crate) mod box_io;
pub(crate) mod connect;
pub(crate) mod driver;
pub(crate) mod exchange;
pub(crate) mod flush_tracker;
pub(crate) mod head_limits;
pub(crate) mod http2_handle;
pub(crate) mod idle_connections;
pub(crate) mod keep_alive;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod pem;
pub(crate) mod pool;
pub(crate) mod pool_group;
pub(crate) mod proxy;
pub(crate) mod resolver;
pub(crate) mod stall_timeout;
#[cfg_attr(not(feature = "tls-no-provider"), path = "connection/no_tls.rs")]
pub(crate) mod tls;
pub(crate) mod tracked_io;
pub(crate) mod upload_limit;
pub(crate) mod wait_queue;
