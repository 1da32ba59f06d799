//! Logs and metrics.

pub(crate) mod access_log;
mod counts;
pub(crate) mod endpoint_metrics;
pub(crate) mod fault_recorder;
pub(crate) mod json_format;
pub(crate) mod log_filter;
pub(crate) mod log_queue;
pub(crate) mod logger;
pub(crate) mod metrics;
pub(crate) mod prometheus_text;
pub(crate) mod rejection_log;
