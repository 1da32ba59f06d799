//! The gateway: forwards every request to the upstream, and retries where that is safe.

use std::{net::IpAddr, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, UPGRADE},
    uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;
use retry_client::{Body, Client, FramingError, ResponseBody, check_framing, origin_form};
use tokio::time::Instant;

use crate::{
    concurrency_limit::ConcurrencyLimiter,
    exchange::{
        error_response::ErrorResponse,
        request_body::{BodyRules, RequestBody},
        response_body::Outgoing,
        unread_body::UnreadBody,
        upload_rate::ResponseProgress,
    },
    server::shutdown::Tasks,
};

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
pub(crate) mod via;

use self::{
    downstream::Downstream,
    forwarded::Hop,
    headers::HeaderRules,
    present_headers::PresentHeaders,
    request_id::X_REQUEST_ID,
    retry_log::RetryLog,
    upgrade::{Handshake, TunnelLimits},
};

/// Forwards every request through a client, which retries it.
#[derive(Debug)]
pub(crate) struct Gateway {
    client: Client,
    settings: GatewaySettings,
    /// Runs tunnels, which outlive their requests.
    tasks: Tasks,
}

/// What a gateway does beyond forwarding.
#[derive(Clone, Debug)]
pub(crate) struct GatewaySettings {
    /// How the heads of messages change.
    pub headers: HeaderRules,
    /// Maximum size of a request body in bytes; larger ones get a 413.
    pub max_body_size: Option<u64>,
    /// How long a client may send nothing of a request body.
    pub client_timeout: Duration,
    /// Minimum rate of an upload in bytes per second.
    pub min_upload_rate: Option<u64>,
    /// Limits of tunnels.
    pub tunnels: TunnelLimits,
    /// Whether responses have a `Server-Timing` header.
    pub server_timing: bool,
}

impl Gateway {
    /// Creates a gateway to the server of `client`. `tasks` runs its tunnels, and `tunnels` counts them.
    #[must_use]
    pub(crate) fn new(
        client: Client,
        mut settings: GatewaySettings,
        tasks: Tasks,
        tunnels: &ConcurrencyLimiter,
    ) -> Self {
        settings.tunnels.count_in(tunnels);
        Self { client, settings, tasks }
    }

    /// Collects what is needed of a request for its response and for the logs.
    pub(crate) fn receive<'a>(
        &self,
        downstream: &'a Downstream,
        request: &mut Request<Incoming>,
        begin: Instant,
    ) -> RequestContext<'a> {
        if request.version() == Version::HTTP_2 {
            retry_client::trim_values(request.headers_mut());
        }
        let rules = &self.settings.headers;
        let present = PresentHeaders::of(request.headers());
        let is_trusted = rules.trusts(downstream.ip());
        // For the headers that most requests get.
        request.headers_mut().reserve(5);
        RequestContext {
            downstream,
            begin,
            present,
            is_trusted,
            client: rules.client(downstream.ip(), is_trusted, request.headers()),
            id: request_id::of(request.headers(), is_trusted && present.x_request_id),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            scheme: rules.scheme(is_trusted, request.headers()),
            host: None,
            handshake: if present.connection && present.upgrade { Handshake::take(request) } else { None },
            unread_body: None,
            response: None,
        }
    }

    /// Responds to a request. Dropping the future, as when the client disconnects, cancels its attempts.
    pub(crate) async fn respond(
        &self,
        context: &mut RequestContext<'_>,
        mut request: Box<Request<Incoming>>,
    ) -> Response<Outgoing> {
        let path = match self.validate(context, &mut request) {
            Ok(path) => path,
            Err(problem) => return self.reject(context, request, problem),
        };
        if context.present.max_forwards
            && let Some(response) = max_forwards::respond_at_end(&request)
        {
            self.discard_body(context, request);
            return context.conclude(response.map(Into::into));
        }
        let request = self.outbound(context, request, path).await;
        let result = self.client.execute(request).await;
        match self.inbound(context, result) {
            Ok(response) => context.conclude(response),
            Err(problem) => context.fail(problem),
        }
    }

    /// Responds with an error instead of forwarding the request.
    pub(crate) fn reject(
        &self,
        context: &mut RequestContext<'_>,
        request: Box<Request<Incoming>>,
        problem: ErrorResponse,
    ) -> Response<Outgoing> {
        self.discard_body(context, request);
        context.fail(problem)
    }

    /// Checks the head of a request. Returns the path that is requested from the upstream.
    fn validate(
        &self,
        context: &mut RequestContext<'_>,
        request: &mut Request<Incoming>,
    ) -> Result<PathAndQuery, ErrorResponse> {
        let present = context.present;
        let error = |status, message: &str| Err(ErrorResponse::new(status, message));
        if *request.method() == Method::CONNECT {
            return error(
                StatusCode::NOT_IMPLEMENTED,
                "CONNECT is not supported: this is a gateway to a single server",
            );
        }
        if present.content_length || present.transfer_encoding {
            check_framing(request.headers_mut()).map_err(|error| ErrorResponse::framing(&error))?;
        }
        let Some(path) = origin_form(request.method(), request.uri()) else {
            return error(StatusCode::BAD_REQUEST, "the target of the request has no path");
        };
        let Ok(host) = host::of(request) else {
            return error(StatusCode::BAD_REQUEST, "the request must have exactly one valid host");
        };
        context.host = host;
        if present.via && self.settings.headers.is_loop(request.headers()) {
            return Err(ErrorResponse::loop_detected());
        }
        let expectation = if present.expect { request.headers().get(EXPECT) } else { None };
        if expectation.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return error(StatusCode::EXPECTATION_FAILED, "the only supported expectation is 100-continue");
        }
        if let Some(limit) = self.settings.max_body_size.filter(|_| present.content_length) {
            let length = request.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            if length.is_some_and(|length| length > limit) {
                return Err(ErrorResponse::too_large(limit));
            }
        }
        if let Some(handshake) = &mut context.handshake
            && !handshake.enter(&self.settings.tunnels)
        {
            return Err(ErrorResponse::too_many_tunnels());
        }
        Ok(path)
    }

    /// The request to the upstream.
    async fn outbound(
        &self,
        context: &mut RequestContext<'_>,
        mut request: Box<Request<Incoming>>,
        path: PathAndQuery,
    ) -> Request<Body> {
        let hop = Hop {
            ip: context.downstream.ip(),
            ip_value: context.downstream.ip_value(),
            host: context.host.as_ref(),
            is_trusted: context.is_trusted,
        };
        self.settings.headers.rewrite_request(&mut request, context.present, path, hop, &context.id);
        if let Some(handshake) = &context.handshake {
            handshake.forward(request.headers_mut());
        }
        let (mut head, body) = request.into_parts();
        // The client chooses the version.
        head.version = Version::HTTP_11;
        let body = self.outbound_body(context, body).await;
        Request::from_parts(head, body)
    }

    /// The body of the request to the upstream; empty if the client sends none.
    async fn outbound_body(&self, context: &mut RequestContext<'_>, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let is_length_unknown = body.size_hint().exact().is_none();
        let mut inbound = self.receive_body(context, body);
        if is_length_unknown && is_usually_without_content(&context.method) && !context.present.expect {
            // The body may turn out to be empty.
            Box::pin(inbound.read_first()).await;
            if inbound.is_end_stream() {
                return Body::empty();
            }
        }
        Body::new(inbound)
    }

    /// Discards the body of a request that is not forwarded.
    fn discard_body(&self, context: &mut RequestContext<'_>, request: Box<Request<Incoming>>) {
        let body = request.into_body();
        if !body.is_end_stream() {
            drop(self.receive_body(context, body));
        }
    }

    /// The body of a request, within its limits. Over HTTP/2, what is left of it is read before the response ends; over
    /// HTTP/1.1, the connection does that.
    fn receive_body(&self, context: &mut RequestContext<'_>, body: Incoming) -> RequestBody {
        let rules = BodyRules {
            max_size: self.settings.max_body_size,
            idle_timeout: self.settings.client_timeout,
            min_rate: self.settings.min_upload_rate,
            clean_trailers: headers::clean_trailers,
        };
        let response = context.response.get_or_insert_default().clone();
        let upload = context.downstream.connection().begin_upload();
        let (body, unread_body) = RequestBody::new(body, rules, upload, response);
        context.unread_body = (context.version == Version::HTTP_2).then_some(unread_body);
        body
    }

    /// The response to the client.
    fn inbound(
        &self,
        context: &mut RequestContext<'_>,
        result: Result<Response<ResponseBody>, retry_client::Error>,
    ) -> Result<Response<Outgoing>, ErrorResponse> {
        let mut response = result.map_err(|error| {
            let problem = ErrorResponse::from_failure(&error);
            if !problem.is_rejection() {
                context.retry_log().failed(&error, problem.status());
            }
            problem
        })?;
        context.retry_log().responded(&response);
        *response.version_mut() = Version::HTTP_11;
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = if is_switching { response.headers().get(UPGRADE).cloned() } else { None };
        retry_client::remove_hop_by_hop(response.headers_mut());
        if is_switching {
            let handshake = context.handshake.take().ok_or_else(ErrorResponse::unexpected_upgrade)?;
            context.downstream.connection().upgrade();
            handshake.complete(&mut response, protocol, &self.settings.tunnels, &self.tasks);
        }
        let RequestContext { version, scheme, host, .. } = context;
        self.settings.headers.rewrite_response(response.headers_mut(), *version, scheme, host.as_ref());
        if self.settings.server_timing {
            server_timing::add(&mut response);
        }
        Ok(response.map(Outgoing::upstream))
    }
}

/// Whether content in a request of this method has no defined meaning (RFC 9110, section 9.3): some servers reject even
/// an empty body.
fn is_usually_without_content(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

/// What is needed of a request for its response and for the logs.
pub(crate) struct RequestContext<'a> {
    downstream: &'a Downstream,
    begin: Instant,
    present: PresentHeaders,
    /// Whether the forwarding headers of the peer are trusted.
    is_trusted: bool,
    client: IpAddr,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    version: Version,
    /// The scheme that the client used.
    scheme: &'static str,
    /// The host that the request is for; `None` until it is validated, and for an HTTP/1.0 request without a host.
    host: Option<HeaderValue>,
    handshake: Option<Handshake>,
    /// Over HTTP/2, what is left of the request's body when the response ends.
    unread_body: Option<UnreadBody>,
    /// Informs that body about the progress of the response, if there is a body.
    response: Option<ResponseProgress>,
}

impl RequestContext<'_> {
    /// The id that identifies the request in all logs.
    pub(crate) fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// The address of the client, which may differ from the peer's if the peer is a trusted proxy.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    fn retry_log(&self) -> RetryLog<'_> {
        RetryLog { begin: self.begin, id: &self.id, method: &self.method, uri: &self.uri }
    }

    fn fail(&mut self, problem: ErrorResponse) -> Response<Outgoing> {
        let response = problem.into_response(&self.method, &self.uri);
        self.conclude(response)
    }

    /// The response, with the request's id, and tied to what is left of the request's body.
    fn conclude(&mut self, mut response: Response<Outgoing>) -> Response<Outgoing> {
        response.headers_mut().insert(X_REQUEST_ID, self.id.clone());
        if let Some(progress) = self.response.take() {
            response.body_mut().track(progress.begin());
            let connection = self.downstream.connection();
            let is_error = response.status().is_client_error() || response.status().is_server_error();
            if self.version < Version::HTTP_2 && (connection.has_unread_body() || connection.has_upload() && is_error) {
                // The connection closes after this response: RFC 9112, section 9.6.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if let Some(body) = self.unread_body.take() {
            response.body_mut().end_after(body);
        }
        response
    }
}

impl ErrorResponse {
    fn framing(error: &FramingError) -> Self {
        let status = match error {
            // RFC 9112, section 6.1.
            FramingError::TransferCoding(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
