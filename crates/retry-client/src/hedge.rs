//! Hedging: a request whose response takes long is sent to another endpoint as well, and the first response counts.

pub(crate) mod after;
pub(crate) mod delay;
mod quantile;
pub(crate) mod race;
pub(crate) mod timer;
