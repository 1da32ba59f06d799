//! The gateway: forwards every request to the upstream, and retries where that is safe.

use std::pin::Pin;

use http::{Method, Request, Response, StatusCode, Version, header::UPGRADE, uri::PathAndQuery};
use http_body::Body as _;
use hyper::body::Incoming;
use retry_client::{Body, CallOptions, Client, ResponseBody};

use crate::{
    exchange::{
        error_response::ErrorResponse,
        request_body::{BodyRules, RequestBody},
        response_body::Outgoing,
    },
    permit::ConcurrencyLimiter,
    rejection::Rejection,
    server::tasks::Tasks,
    telemetry::access_log::AccessLogEntry,
};

pub(crate) mod client_deadlines;
mod context;
pub(crate) mod downstream;
pub(crate) mod forwarded;
pub(crate) mod headers;
mod host;
pub(crate) mod location;
mod max_forwards;
mod present_headers;
mod request_id;
mod retry_log;
mod server_timing;
pub(crate) mod trusted_proxies;
pub(crate) mod upgrade;
mod validate;
pub(crate) mod via;

use self::{
    client_deadlines::ClientDeadlines,
    context::RequestContext,
    downstream::Downstream,
    headers::HeaderRules,
    present_headers::PresentHeaders,
    upgrade::{Handshake, TunnelLimits},
    validate::Target,
};

/// Forwards every request through a client, which retries it.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) client: Client,
    pub(crate) settings: GatewaySettings,
    /// Counts the open tunnels of all configurations.
    pub(crate) open_tunnels: ConcurrencyLimiter,
    /// Runs tunnels, which outlive their requests.
    pub(crate) tasks: Tasks,
}

/// What a gateway does beyond forwarding.
#[derive(Clone, Debug)]
pub(crate) struct GatewaySettings {
    /// How the heads of messages change.
    pub(crate) headers: HeaderRules,
    /// What applies to request bodies.
    pub(crate) body: BodyRules,
    pub(crate) tunnels: TunnelLimits,
    /// Whether and how clients set deadlines.
    pub(crate) deadlines: Option<ClientDeadlines>,
    /// Whether responses have a `Server-Timing` header.
    pub(crate) server_timing: bool,
}

impl Gateway {
    /// Creates the context of a request, and completes its entry in the access log.
    pub(crate) fn receive<'a>(
        &self,
        downstream: &'a Downstream,
        request: &mut Request<Incoming>,
        entry: &'a mut AccessLogEntry,
    ) -> RequestContext<'a> {
        if request.version() == Version::HTTP_2 {
            retry_client::trim_values(request.headers_mut());
        }
        let rules = &self.settings.headers;
        let present = PresentHeaders::of(request.headers());
        let is_trusted = rules.trusted_proxies.contains(downstream.ip);
        entry.client = rules.client(downstream.ip, is_trusted, request.headers());
        entry.id = request_id::of(request.headers(), is_trusted && present.x_request_id);
        // For the headers that are added to most requests.
        request.headers_mut().reserve(5);
        RequestContext {
            downstream,
            entry,
            present,
            is_trusted,
            version: request.version(),
            scheme: rules.scheme(is_trusted, request.headers()),
            host: None,
            handshake: if present.connection && present.upgrade { Handshake::take(request) } else { None },
            unread_body: None,
            response_progress: None,
        }
    }

    /// Responds to a request. Dropping the future, as when the client disconnects, cancels its attempts.
    pub(crate) async fn respond(
        &self,
        context: &mut RequestContext<'_>,
        mut request: Box<Request<Incoming>>,
    ) -> Response<Outgoing> {
        let GatewaySettings { headers, body, tunnels, .. } = &self.settings;
        let path = match validate::validate(&mut request, context.present, headers, body.max_size) {
            Ok(Target { path, host }) => {
                context.host = host;
                path
            }
            Err(error) => return self.reject(context, request, error),
        };
        if let Some(handshake) = &mut context.handshake
            && !handshake.acquire_permit(&self.open_tunnels, *tunnels)
        {
            return self.reject(context, request, ErrorResponse::rejected(Rejection::TooManyTunnels));
        }
        if context.present.max_forwards
            && let Some(response) = max_forwards::respond_at_end(&request)
        {
            self.discard_body(context, request);
            let mut response = response.map(Into::into);
            context.conclude(&mut response);
            return response;
        }
        let request = self.outbound(context, request, path).await;
        match self.client.execute(request).await {
            Ok(response) => match self.inbound(context, response) {
                Ok(mut response) => {
                    context.conclude(&mut response);
                    response
                }
                Err(error) => context.fail(error),
            },
            Err(error) => {
                let response = ErrorResponse::from_failure(&error);
                if response.rejection.is_none() {
                    retry_log::failed(context, &error, response.status);
                }
                context.fail(response)
            }
        }
    }

    /// Responds with an error instead of forwarding the request.
    pub(crate) fn reject(
        &self,
        context: &mut RequestContext<'_>,
        request: Box<Request<Incoming>>,
        error: ErrorResponse,
    ) -> Response<Outgoing> {
        self.discard_body(context, request);
        context.fail(error)
    }

    /// Turns a received request into the one to the upstream.
    async fn outbound(
        &self,
        context: &mut RequestContext<'_>,
        mut request: Box<Request<Incoming>>,
        path: PathAndQuery,
    ) -> Request<Body> {
        let GatewaySettings { headers, deadlines, .. } = &self.settings;
        if let Some(deadline) = deadlines.as_ref().and_then(|deadlines| deadlines.shortened(request.headers())) {
            request.extensions_mut().insert(CallOptions::new().deadline(deadline));
        }
        headers.rewrite_request(&mut request, context.present, path, context.hop(), &context.entry.id);
        if let Some(handshake) = &context.handshake {
            handshake.forward(request.headers_mut());
        }
        let (mut head, body) = request.into_parts();
        // The client chooses the version.
        head.version = Version::HTTP_11;
        let body = match self.outbound_body(context, body) {
            Ok(body) => body,
            Err(first_read) => first_read.await,
        };
        Request::from_parts(head, body)
    }

    /// Returns the body of the request to the upstream; empty if the client sends none. As an error, returns a future of
    /// it if it may turn out to be empty.
    fn outbound_body(&self, context: &mut RequestContext<'_>, body: Incoming) -> Result<Body, FirstRead> {
        if body.is_end_stream() {
            return Ok(Body::empty());
        }
        let is_length_unknown = body.size_hint().exact().is_none();
        let mut body = self.receive_body(context, body);
        if is_length_unknown && is_usually_without_content(&context.entry.method) && !context.present.expect {
            return Err(Box::pin(async move {
                body.read_first().await;
                if body.is_end_stream() { Body::empty() } else { Body::new(body) }
            }));
        }
        Ok(Body::new(body))
    }

    /// Discards the body of a request that is not forwarded.
    fn discard_body(&self, context: &mut RequestContext<'_>, request: Box<Request<Incoming>>) {
        let body = request.into_body();
        if !body.is_end_stream() {
            drop(self.receive_body(context, body));
        }
    }

    /// Returns the body of a request, within its limits. Over HTTP/2, what is left of it is read before the response
    /// ends; over HTTP/1.1, the connection does that.
    fn receive_body(&self, context: &mut RequestContext<'_>, body: Incoming) -> RequestBody {
        let response = context.response_progress.get_or_insert_default().clone();
        let upload = context.downstream.connection.begin_upload();
        let mut body = RequestBody::new(body, self.settings.body, upload, response);
        context.unread_body = (context.version == Version::HTTP_2).then(|| Box::new(body.unread()));
        body
    }

    /// Turns the response of the upstream into the one to the client.
    fn inbound(
        &self,
        context: &mut RequestContext<'_>,
        mut response: Response<ResponseBody>,
    ) -> Result<Response<Outgoing>, ErrorResponse> {
        retry_log::responded(context, &response);
        *response.version_mut() = Version::HTTP_11;
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = if is_switching { response.headers().get(UPGRADE).cloned() } else { None };
        retry_client::remove_hop_by_hop(response.headers_mut());
        if is_switching {
            let handshake = context.handshake.take().ok_or_else(ErrorResponse::unexpected_upgrade)?;
            context.downstream.connection.upgrade();
            handshake.complete(&mut response, protocol, self.settings.tunnels, &self.tasks);
        }
        let RequestContext { version, scheme, host, .. } = context;
        self.settings.headers.rewrite_response(response.headers_mut(), *version, scheme, host.as_ref());
        if self.settings.server_timing {
            server_timing::add(&mut response);
        }
        Ok(response.map(Outgoing::upstream))
    }
}

/// A request body whose first frame is yet to be read. Boxed, as few requests need it.
type FirstRead = Pin<Box<dyn Future<Output = Body> + Send>>;

/// Whether content in a request of this method has no defined meaning (RFC 9110, section 9.3): some servers reject even
/// an empty body.
fn is_usually_without_content(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}
