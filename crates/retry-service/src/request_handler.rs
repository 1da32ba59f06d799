//! What every request passes through: the current configuration, the limit on requests in flight, the request's id, and
//! its entry in the access log.

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::{
    exchange::{error_response::ErrorResponse, in_flight::InFlightRequest, response_body::Outgoing},
    gateway::downstream::Downstream,
    generation::{Generations, Handler},
    permit::ConcurrencyLimiter,
    rejection::Rejection,
    server::tasks::Tasks,
    settings::LoadedSettings,
    telemetry::access_log::AccessLogEntry,
};

/// Routes requests to the sample or the gateway.
#[derive(Debug)]
pub(crate) struct RequestHandler {
    pub(crate) generations: Generations,
    pub(crate) in_flight: ConcurrencyLimiter,
    pub(crate) tunnels: ConcurrencyLimiter,
}

impl RequestHandler {
    /// Creates a handler. `tasks` runs tunnels.
    pub(crate) fn new(loaded: LoadedSettings, tasks: Tasks) -> Self {
        let tunnels = ConcurrencyLimiter::default();
        let generations = Generations::new(loaded, tasks, tunnels.clone());
        Self { generations, in_flight: ConcurrencyLimiter::default(), tunnels }
    }

    /// Responds to a request. Dropping the future, as when the client disconnects, cancels its attempts.
    pub(crate) async fn respond(
        &self,
        downstream: &Downstream,
        mut request: Box<Request<Incoming>>,
    ) -> Response<Outgoing> {
        let generation = self.generations.current();
        let guard = downstream.connection.begin_request();
        let permit = self.in_flight.try_acquire(generation.loaded.settings.limits.max_in_flight);
        let mut entry = AccessLogEntry::new(&generation.telemetry, downstream.ip, request.method(), request.uri());
        let is_head = request.method() == Method::HEAD;
        let mut response = match &generation.handler {
            Handler::Sample(_) if permit.is_none() => {
                ErrorResponse::rejected(Rejection::TooManyInFlight).into_response(request.method(), request.uri())
            }
            Handler::Sample(sample) => Box::pin(sample.respond(*request)).await.map(Into::into),
            Handler::Gateway(gateway) => {
                let mut context = gateway.receive(downstream, &mut request, entry.begin);
                entry.set_id(&context.id, context.client);
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
        response.body_mut().attach(InFlightRequest { entry, guard, permit, generation });
        response
    }
}
