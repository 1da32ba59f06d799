//! The servers that a client may send a request to, and which of them are up.
//!
//! `health` and `balancer` decide; they are pure. `set` keeps their state for several clients, `endpoints` is what one
//! of them has of it.

pub(crate) mod balancer;
pub(crate) mod config;
pub(crate) mod endpoints;
pub(crate) mod health;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod origin;
mod overtaken;
mod probe;
mod reachability;
pub(crate) mod refresh;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod window;

/// The log target of changes of endpoints, whatever module notes them.
const LOG_TARGET: &str = "retry_client::endpoint";
