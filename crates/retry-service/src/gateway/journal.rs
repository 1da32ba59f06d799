//! The log of what retrying did: one line for each request that was retried or failed.

use http::{HeaderValue, Method, Response, Uri};
use log::Level;
use retry_client::{Error, History};

/// A request, as the log names it. Without its query: people put secrets there.
pub(crate) struct Named<'a> {
    pub(crate) id: &'a HeaderValue,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
}

impl Named<'_> {
    /// Tells of an answer that took more than one attempt.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        if let Some(history) = response.extensions().get::<History>() {
            let level = if response.status().is_server_error() { Level::Warn } else { Level::Info };
            self.log(level, history.iter().next_back().map_or(0, |step| step.record.attempt), &history);
        }
    }

    /// Tells of a request that got no answer.
    pub(crate) fn failed(&self, error: &Error) {
        let attempts = error.journal().map_or(0, retry_client::Journal::attempts);
        let end = error.reason().map_or_else(String::new, |reason| format!("; {reason}"));
        match error.history() {
            Some(history) => self.log(Level::Warn, attempts, &format_args!("{history}{end}")),
            None => self.log(Level::Warn, attempts, &format_args!("{error}{end}")),
        }
    }

    fn log(&self, level: Level, attempts: u32, told: &dyn std::fmt::Display) {
        let Self { id, method, uri } = self;
        let (path, id) = (uri.path(), id.to_str().unwrap_or("-"));
        log::log!(
            target: "retries", level, method:%, path, attempts, request_id = id;
            "{method} {path}: {told}; id {id}"
        );
    }
}
