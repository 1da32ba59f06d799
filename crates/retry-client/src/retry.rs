//! The retry loop, and the rules for what is retried.

pub(crate) mod attempt_event;
pub(crate) mod attempt_request;
pub(crate) mod attempt_timeout;
pub(crate) mod backoff_gauge;
pub(crate) mod call_options;
pub(crate) mod classify;
pub(crate) mod config;
pub(crate) mod drain;
pub(crate) mod failure;
pub(crate) mod judge;
pub(crate) mod judged_response;
pub(crate) mod methods;
pub(crate) mod response_status;
pub(crate) mod retry_after;
pub(crate) mod retry_loop;
pub(crate) mod server_hints;
