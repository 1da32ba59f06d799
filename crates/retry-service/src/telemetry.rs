//! What operators see: the logs and the metrics.

pub(crate) mod access_log;
pub(crate) mod json_format;
pub mod log_filter;
pub mod log_queue;
pub mod logger;
pub mod metrics;
pub(crate) mod prometheus_text;
pub(crate) mod rejections;
