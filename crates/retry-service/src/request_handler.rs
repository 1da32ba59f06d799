//! What every request passes through: the current configuration, the limit on requests in flight, the request's id, and
//! its entry in the access log.

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::{
    exchange::{error_response::ErrorResponse, in_flight::InFlightRequest, response_body::Outgoing},
    gateway::downstream::Downstream,
    generation::{CurrentGeneration, Handler},
    permit::ConcurrencyLimiter,
    rejection::Rejection,
    telemetry::access_log::AccessLogEntry,
};

/// Routes the requests of one worker to the sample or the gateway. It is on cache lines of its own, since each request
/// writes to its reference count.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct RequestHandler {
    pub(crate) current: Arc<CurrentGeneration>,
    /// Counts the requests in flight of all workers.
    pub(crate) in_flight: ConcurrencyLimiter,
}

impl RequestHandler {
    /// Responds to a request. Dropping the future, as when the client disconnects, cancels its attempts.
    pub(crate) async fn respond(
        &self,
        downstream: &Downstream,
        mut request: Box<Request<Incoming>>,
    ) -> Response<Outgoing> {
        let current = self.current.get();
        let guard = downstream.connection.begin_request();
        let permit = self.in_flight.try_acquire(current.generation.loaded.settings.limits.max_in_flight);
        let mut entry = AccessLogEntry::new(&current.telemetry, downstream.ip, request.method(), request.uri());
        let is_head = request.method() == Method::HEAD;
        let mut response = match &current.handler {
            Handler::Sample(_) if permit.is_none() => {
                ErrorResponse::rejected(Rejection::TooManyInFlight).into_response(request.method(), request.uri())
            }
            Handler::Sample(sample) => Box::pin(sample.respond(*request)).await.map(Into::into),
            Handler::Gateway(gateway) => {
                let mut context = gateway.receive(downstream, &mut request, &mut entry);
                if permit.is_some() {
                    gateway.respond(&mut context, request).await
                } else {
                    gateway.reject(&mut context, request, ErrorResponse::rejected(Rejection::TooManyInFlight))
                }
            }
        };
        if is_head {
            Outgoing::remove_content(&mut response);
        }
        entry.responded(&response);
        response.body_mut().attach(InFlightRequest { entry, guard, permit, generation: current });
        response
    }
}
