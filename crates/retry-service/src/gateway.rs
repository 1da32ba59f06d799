//! The gateway: every request goes on to the upstream, and is repeated where that is safe.

use std::{net::IpAddr, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, UPGRADE},
    request::Parts,
};
use http_body::Body as _;
use hyper::body::Incoming;
use retry_client::{Body, Client, FramingError, ResponseBody, check_framing, origin_form};
use tokio::time::Instant;

use crate::{
    exchange::{
        error::Problem,
        request_body::{BodyLimits, Inbound, Progress, Rest},
        response_body::Outgoing,
    },
    server::{room::Room, shutdown::Tasks},
};

pub(crate) mod address;
mod forwarded;
mod host;
mod journal;
mod location;
mod marks;
mod max_forwards;
mod request_id;
mod server_timing;
mod trusted_proxies;
mod tunnel;

use self::{address::Destination, journal::Named, marks::Marks, tunnel::Handshake};
pub use self::{
    address::{Addressing, AddressingSettings, Caller},
    forwarded::Forwarded,
    location::UpstreamName,
    trusted_proxies::TrustedProxies,
    tunnel::Tunnels,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sends every request on through a client, whose rules say what is repeated.
#[derive(Debug)]
pub struct Gateway {
    client: Client,
    settings: GatewaySettings,
    /// Where tunnels run, which outlive the request that asked for them.
    tasks: Tasks,
}

/// What a gateway does beyond forwarding.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// How the heads of messages change.
    pub addressing: Addressing,
    /// Bytes in the body of a request; a larger one is answered 413. None is any.
    pub max_body_size: Option<u64>,
    /// How long a caller may send nothing of a body it has begun.
    pub caller_time: Duration,
    /// How many bytes of a body a caller has to send in a second, after a while; `None` is any number.
    pub min_upload_rate: Option<u64>,
    /// How many tunnels there may be, and how long nothing may pass through one; `None` is for ever.
    pub tunnels: Tunnels,
    /// Whether answers tell of the attempts in a `Server-Timing` header.
    pub server_timing: bool,
}

impl Gateway {
    /// A gateway to the client's server.
    #[must_use]
    pub const fn new(client: Client, settings: GatewaySettings, tasks: Tasks) -> Self {
        Self { client, settings, tasks }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Counts its tunnels among those of other configurations.
    pub(crate) fn count_tunnels_in(&mut self, room: &Room) {
        self.settings.tunnels.count_in(room);
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its attempts.
    pub(crate) async fn answer(
        &self,
        caller: &Caller,
        mut request: Box<Request<Incoming>>,
        received: &mut Received,
    ) -> Response<Outgoing> {
        let destination = match self.destination(&mut request, received.marks) {
            Ok(destination) => destination,
            Err(problem) => {
                self.leave(request, caller, received);
                return received.conclude(Err(problem), caller);
            }
        };
        if let Some(handshake) = &mut received.handshake
            && !handshake.enter(&self.settings.tunnels)
        {
            self.leave(request, caller, received);
            return received.conclude(Err(Problem::too_many_tunnels()), caller);
        }
        if received.marks.max_forwards
            && let Some(response) = max_forwards::respond_at_end(&request)
        {
            self.leave(request, caller, received);
            return received.conclude(Ok(response.map(Into::into)), caller);
        }
        let request = self.outbound(caller, request, destination, received).await;
        let outcome = self.client.execute(request).await;
        let answer = self.hand_back(outcome, received, caller);
        received.conclude(answer, caller)
    }

    /// Answers a request that does not go on for a reason that is not its own.
    pub(crate) fn turn_away(
        &self,
        caller: &Caller,
        request: Box<Request<Incoming>>,
        received: &mut Received,
        problem: Problem,
    ) -> Response<Outgoing> {
        self.leave(request, caller, received);
        received.conclude(Err(problem), caller)
    }

    /// Leaves the body of a request that does not go on.
    fn leave(&self, request: Box<Request<Incoming>>, caller: &Caller, received: &mut Received) {
        let body = request.into_body();
        if !body.is_end_stream() {
            drop(self.inbound(body, caller, received));
        }
    }

    /// The body of a request, of which the rest is read before the response ends. Over HTTP/1.1 the connection sees to
    /// that.
    fn inbound(&self, body: Incoming, caller: &Caller, received: &mut Received) -> Inbound {
        let GatewaySettings { max_body_size, caller_time, min_upload_rate, .. } = self.settings;
        let limits = BodyLimits { size: max_body_size, silence: caller_time, rate: min_upload_rate };
        let response = received.response.get_or_insert_default().clone();
        let (inbound, rest) = Inbound::new(body, limits, caller.line().upload(), response);
        received.rest = (received.version == Version::HTTP_2).then_some(rest);
        inbound
    }

    /// What is to be known of a request until it is answered. `begin` is when its head was there.
    pub(crate) fn receive(&self, caller: &Caller, request: &mut Request<Incoming>, begin: Instant) -> Received {
        let addressing = &self.settings.addressing;
        if request.version() == Version::HTTP_2 {
            retry_client::trim_values(request.headers_mut());
        }
        let marks = Marks::of(request.headers());
        let trusted = addressing.trusts(caller);
        let id = request_id::keep_or_make(request.headers(), marks, trusted);
        let client = addressing.client(caller, trusted, request.headers());
        // What is added to most requests.
        request.headers_mut().reserve(5);
        Received {
            begin,
            marks,
            trusted,
            client,
            handshake: if marks.connection && marks.upgrade { Handshake::take(request) } else { None },
            id,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            scheme: addressing.scheme(trusted, request.headers()),
            host: None,
            rest: None,
            response: None,
        }
    }

    /// Where the request goes, as far as its head tells; or why it does not go on.
    fn destination(&self, request: &mut Request<Incoming>, marks: Marks) -> Result<Destination, Problem> {
        let refuse = |status, message: &str| Err(Problem::new(status, message));
        if *request.method() == Method::CONNECT {
            return refuse(StatusCode::NOT_IMPLEMENTED, "this is a gateway to one server: it opens no tunnels");
        }
        if marks.content_length || marks.transfer_encoding {
            check_framing(request.headers_mut()).map_err(|error| Problem::unframed(&error))?;
        }
        let Some(path) = origin_form(request.method(), request.uri()) else {
            return refuse(StatusCode::BAD_REQUEST, "the target of the request is no path");
        };
        let Ok(host) = host::of(request) else {
            return refuse(StatusCode::BAD_REQUEST, "the request has to name one host");
        };
        if marks.via && self.settings.addressing.has_seen(request.headers()) {
            return Err(Problem::looped());
        }
        let expected = if marks.expect { request.headers().get(EXPECT) } else { None };
        if expected.is_some_and(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return refuse(StatusCode::EXPECTATION_FAILED, "of all expectations only 100-continue is met");
        }
        if let Some(limit) = self.settings.max_body_size.filter(|_| marks.content_length) {
            let length = request.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            if length.is_some_and(|length| length > limit) {
                return Err(Problem::too_large(limit));
            }
        }
        Ok(Destination { path, host })
    }

    /// The request as it goes on.
    async fn outbound(
        &self,
        caller: &Caller,
        mut request: Box<Request<Incoming>>,
        destination: Destination,
        received: &mut Received,
    ) -> Request<Body> {
        received.host.clone_from(&destination.host);
        let Received { marks, trusted, id, .. } = &*received;
        self.settings.addressing.readdress(&mut request, *marks, caller, *trusted, destination, id);
        if let Some(handshake) = &received.handshake {
            handshake.ask(request.headers_mut());
        }
        let (mut head, body) = request.into_parts();
        let body = self.body(&head, body, caller, received).await;
        // Which version goes out is the client's matter.
        head.version = Version::HTTP_11;
        Request::from_parts(head, body)
    }

    /// The body as it goes on: none if none comes.
    async fn body(&self, head: &Parts, body: Incoming, caller: &Caller, received: &mut Received) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let announces_nothing = body.size_hint().exact().is_none();
        let mut inbound = self.inbound(body, caller, received);
        if announces_nothing && is_mostly_without_content(&head.method) && !received.marks.expect {
            // It may be that the end is all that is still to come.
            Box::pin(inbound.read_first()).await;
            if inbound.is_end_stream() {
                return Body::empty();
            }
        }
        Body::new(inbound)
    }

    /// Makes the upstream's answer the one that the caller gets.
    fn hand_back(
        &self,
        outcome: Result<Response<ResponseBody>, retry_client::Error>,
        received: &mut Received,
        caller: &Caller,
    ) -> Result<Response<Outgoing>, Problem> {
        let mut response = outcome.map_err(|error| {
            let problem = Problem::of(&error);
            if !problem.is_refusal() {
                received.named().failed(&error, problem.status());
            }
            problem
        })?;
        received.named().answered(&response);
        *response.version_mut() = Version::HTTP_11;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = if switches { response.headers().get(UPGRADE).cloned() } else { None };
        retry_client::remove_hop_by_hop(response.headers_mut());
        if switches {
            let handshake = received.handshake.take().ok_or_else(Problem::unasked_switch)?;
            caller.line().tunnel();
            handshake.complete(&mut response, protocol, &self.settings.tunnels, &self.tasks);
        }
        let addressing = &self.settings.addressing;
        addressing.relocate(response.headers_mut(), received.scheme, received.host.as_ref());
        addressing.add_via(response.headers_mut(), received.version);
        if self.settings.server_timing {
            server_timing::add(&mut response);
        }
        Ok(response.map(Outgoing::upstream))
    }
}

/// Whether content in a request of this method has no meaning of its own (RFC 9110, section 9.3): some servers refuse
/// even an empty one.
fn is_mostly_without_content(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

/// What is kept of a request for its answer.
pub(crate) struct Received {
    begin: Instant,
    marks: Marks,
    /// Whether the peer is believed in what it says of those before it.
    trusted: bool,
    /// The client's address: the peer's, or the one that trusted proxies forward for.
    pub(crate) client: IpAddr,
    pub(crate) id: HeaderValue,
    method: Method,
    uri: Uri,
    version: Version,
    /// The scheme by which the client knows the gateway.
    scheme: &'static str,
    host: Option<HeaderValue>,
    handshake: Option<Handshake>,
    /// What is left of the request's body when it is answered.
    rest: Option<Rest>,
    /// Tells that body how far the response is, if there is one.
    response: Option<Progress>,
}

impl Received {
    /// What the caller gets, with the id.
    fn conclude(&mut self, answer: Result<Response<Outgoing>, Problem>, caller: &Caller) -> Response<Outgoing> {
        let mut response = answer.unwrap_or_else(|problem| problem.into_response(&self.method, &self.uri));
        response.headers_mut().insert(X_REQUEST_ID, self.id.clone());
        if let Some(progress) = self.response.take() {
            response.body_mut().tell(progress.begin());
            let line = caller.line();
            let is_error = response.status().is_client_error() || response.status().is_server_error();
            if self.version < Version::HTTP_2 && (line.has_unread() || line.has_upload() && is_error) {
                // The connection ends behind it: RFC 9112, section 9.6.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if let Some(rest) = self.rest.take() {
            response.body_mut().end_after(rest);
        }
        response
    }

    fn named(&self) -> Named<'_> {
        Named { begin: self.begin, id: &self.id, method: &self.method, uri: &self.uri }
    }
}

impl Problem {
    fn unframed(error: &FramingError) -> Self {
        let status = match error {
            // RFC 9112, section 6.1.
            FramingError::TransferCoding(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, format!("the head of the request is refused: {error}"))
    }
}
