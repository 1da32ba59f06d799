//! What a request holds until its response has been sent.

use std::{fmt::Debug, sync::Arc};

use retry_client::Error;

use crate::{permit::Permit, server::connection_state::InFlightGuard, telemetry::access_log::AccessLogEntry};

/// A request in flight. It is dropped with the body of its response.
#[derive(Debug)]
#[expect(dead_code, reason = "the permit and the generation are held, not used")]
pub(crate) struct InFlightRequest {
    pub(crate) entry: Box<AccessLogEntry>,
    pub(crate) guard: InFlightGuard,
    /// `None` if too many requests are in flight.
    pub(crate) permit: Option<Permit>,
    /// The configuration that the request uses.
    pub(crate) generation: Arc<dyn Debug + Send + Sync>,
}

impl InFlightRequest {
    /// Records that the response is incomplete, and makes the client see it.
    pub(crate) fn incomplete(&mut self, error: &Error) {
        self.guard.connection.reset_on_close();
        self.entry.incomplete(error);
    }
}
