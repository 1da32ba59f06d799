//! The gateway: every request goes on to the upstream, and is repeated where that is safe.

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST, UPGRADE, VIA},
};
use hyper::body::Incoming;
use retry_client::{Body, Client, ResponseBody};

use crate::{finish::Finish, outgoing::Outgoing, problem::Problem, tasks::Tasks};

mod address;
mod inbound;
mod journal;
mod marks;
mod request_id;
mod server_timing;
mod tunnel;

pub use self::address::{Addressing, Caller, Forwarded};
pub(crate) use self::inbound::{Stalled, TooLarge};
use self::{inbound::Inbound, journal::Named, marks::Marks, tunnel::Handshake};

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
    /// Whom the upstream is told that a request came from, and for.
    pub addressing: Addressing,
    /// Bytes in the body of a request; a larger one is answered 413. None is any.
    pub max_body_size: Option<u64>,
    /// How long a caller may send nothing of a body it has begun.
    pub caller_time: Duration,
    /// Whether answers tell of the attempts in a `Server-Timing` header.
    pub server_timing: bool,
}

impl Gateway {
    /// A gateway to the client's server.
    #[must_use]
    pub const fn new(client: Client, settings: GatewaySettings, tasks: Tasks) -> Self {
        Self { client, settings, tasks }
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its attempts.
    pub(crate) async fn answer(
        &self,
        caller: &Caller,
        mut request: Box<Request<Incoming>>,
        finish: &mut Finish,
    ) -> Response<Outgoing> {
        let mut received = Received::of(&mut request);
        finish.identified(&received.id);
        let request = match self.outbound(caller, request, &received) {
            Ok(request) => request,
            Err(problem) => return received.conclude(Err(problem)),
        };
        let outcome = self.client.execute(request).await;
        let answer = self.hand_back(outcome, &mut received, caller);
        received.conclude(answer)
    }

    /// Answers a request that does not go on for a reason that is not its own.
    pub(crate) fn turn_away(
        &self,
        mut request: Box<Request<Incoming>>,
        problem: Problem,
        finish: &mut Finish,
    ) -> Response<Outgoing> {
        let received = Received::of(&mut request);
        finish.identified(&received.id);
        received.conclude(Err(problem))
    }

    /// The request as it goes on; or why it does not.
    fn outbound(
        &self,
        caller: &Caller,
        mut request: Box<Request<Incoming>>,
        received: &Received,
    ) -> Result<Request<Body>, Problem> {
        if let Some(problem) = self.refusal(&request, received.marks) {
            return Err(problem);
        }
        self.settings.addressing.readdress(&mut request, received.marks, caller);
        if let Some(handshake) = &received.handshake {
            handshake.ask(request.headers_mut());
        }
        // Which version goes out is the client's matter.
        *request.version_mut() = Version::HTTP_11;
        Ok(request.map(|body| {
            if http_body::Body::is_end_stream(&body) {
                return Body::empty();
            }
            let GatewaySettings { max_body_size, caller_time, .. } = self.settings;
            Body::new(Inbound::new(body, max_body_size, caller_time, caller.line().enter()))
        }))
    }

    /// What can be told from the head alone not to go on.
    fn refusal(&self, request: &Request<Incoming>, marks: Marks) -> Option<Problem> {
        if *request.method() == Method::CONNECT {
            return Some(Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                "this is a gateway to one server: it opens no tunnels",
            ));
        }
        if !has_path(request) {
            return Some(Problem::new(StatusCode::BAD_REQUEST, "the target of the request is no path"));
        }
        if !names_its_host(request) {
            return Some(Problem::new(StatusCode::BAD_REQUEST, "the request has to name one host"));
        }
        if marks.via && self.settings.addressing.has_seen(request.headers()) {
            return Some(Problem::new(StatusCode::LOOP_DETECTED, "this request has come through here before"));
        }
        let expected = if marks.expect { request.headers().get(EXPECT) } else { None };
        if expected.is_some_and(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Some(Problem::new(StatusCode::EXPECTATION_FAILED, "of all expectations only 100-continue is met"));
        }
        let limit = self.settings.max_body_size.filter(|_| marks.content_length)?;
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        length.is_some_and(|length| length > limit).then(|| Problem::too_large(limit))
    }

    /// Makes the upstream's answer the one that the caller gets.
    fn hand_back(
        &self,
        outcome: Result<Response<ResponseBody>, retry_client::Error>,
        received: &mut Received,
        caller: &Caller,
    ) -> Result<Response<Outgoing>, Problem> {
        let mut response = outcome.map_err(|error| {
            received.named().failed(&error);
            Problem::of(&error)
        })?;
        received.named().answered(&response);
        *response.version_mut() = Version::HTTP_11;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = if switches { response.headers().get(UPGRADE).cloned() } else { None };
        retry_client::remove_hop_by_hop(response.headers_mut());
        if switches {
            let handshake = received.handshake.take().ok_or_else(Problem::unasked_switch)?;
            caller.line().tunnel();
            handshake.complete(&mut response, protocol, &self.tasks);
        }
        response.headers_mut().append(VIA, self.settings.addressing.via(received.version));
        if self.settings.server_timing {
            server_timing::add(&mut response);
        }
        Ok(response.map(Outgoing::upstream))
    }
}

/// What is kept of a request for its answer.
struct Received {
    marks: Marks,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    version: Version,
    handshake: Option<Handshake>,
}

impl Received {
    /// Gives the request an id, too, where it has none.
    fn of(request: &mut Request<Incoming>) -> Self {
        let marks = Marks::of(request.headers());
        // What is added to most requests.
        request.headers_mut().reserve(5);
        Self {
            marks,
            handshake: if marks.connection && marks.upgrade { Handshake::take(request) } else { None },
            id: request_id::keep_or_make(request.headers_mut(), marks),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
        }
    }

    /// What the caller gets, with the id.
    fn conclude(self, answer: Result<Response<Outgoing>, Problem>) -> Response<Outgoing> {
        let mut response = answer.unwrap_or_else(|problem| problem.into_response(&self.method, &self.uri));
        response.headers_mut().insert(X_REQUEST_ID, self.id);
        response
    }

    fn named(&self) -> Named<'_> {
        Named { id: &self.id, method: &self.method, uri: &self.uri }
    }
}

/// Whether the target names something on a server, or with OPTIONS the server itself (RFC 9112, section 3.2).
fn has_path<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    uri.path().starts_with('/') && (uri.authority().is_none() || uri.scheme().is_some())
        || uri.path() == "*" && *request.method() == Method::OPTIONS
}

/// Whether the request says once whom it is for, as HTTP/1.1 asks (RFC 9112, section 3.2).
fn names_its_host<B>(request: &Request<B>) -> bool {
    match request.headers().get_all(HOST).iter().count() {
        0 => request.version() != Version::HTTP_11,
        hosts => hosts == 1,
    }
}
