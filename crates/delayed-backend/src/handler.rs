//! Handles a request: records it, creates the response of its route, and applies the script.

use std::error::Error;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;

use crate::fault::connection_state::ConnectionState;
use crate::fault::play::Exchange;
use crate::fault::{Behavior, Fault};
use crate::recorder::body;
use crate::recorder::missed_fault::MissedFault;
use crate::recorder::observed_body::{ObservedBody, ResponseRecord};
use crate::recorder::passing_body::PassingBody;
use crate::recorder::recorded_request::RecordedRequest;
use crate::routes::responses::{self, ECHO_LIMIT, Response};
use crate::routes::{Route, known_bytes};
use crate::script::Script;
use crate::script::run::ScriptRun;
use crate::state::{Responder, State, StateCell};

/// Handles the requests of all connections.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) state: StateCell,
}

/// A request that has been recorded, and what becomes of it.
#[derive(Debug)]
struct Arrival {
    state: Arc<State>,
    number: NonZeroU64,
    time: Instant,
    responder: Responder,
    /// Whether a script applies.
    scripted: bool,
    exchange: Exchange,
}

impl Handler {
    pub(crate) fn new(script: Script) -> Self {
        Self { state: StateCell::new(script) }
    }

    /// Handles a request.
    ///
    /// The request is recorded by this call rather than by the first poll of the future. That keeps the requests of a
    /// connection in order, and counts requests whose client disconnects immediately.
    pub(crate) fn handle<B>(
        &self,
        connection: &Arc<ConnectionState>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response, h2::Error>> + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let ignored = connection.ignores_requests();
        let position = connection.count_request();
        connection.fault.cancel_close();
        let state = self.state.current();
        let arrival = match state.select(&head) {
            (Responder::Route(Route::Requests), _) => None,
            _ if ignored => None,
            (responder, script) => Some(Arrival::record(&state, connection, position, &head, responder, script)),
        };
        let connection = Arc::clone(connection);
        async move {
            if ignored {
                return std::future::pending().await;
            }
            let mut response = if let Some(arrival) = arrival {
                arrival.respond(&head, body).await?
            } else {
                // The fault of an earlier request may not have taken effect.
                connection.fault.set(None);
                responses::requests(&state.recorder.report())
            };
            if head.method == Method::HEAD && head.version == Version::HTTP_2 {
                responses::remove_body(&mut response);
            }
            Ok(response)
        }
    }
}

impl Arrival {
    /// Takes the next behavior of the script, if one applies, and records the request.
    ///
    /// Both are one step, so that requests are recorded in the order in which they take behaviors.
    fn record(
        state: &Arc<State>,
        connection: &Arc<ConnectionState>,
        position: u32,
        head: &Parts,
        responder: Responder,
        script: Option<&ScriptRun>,
    ) -> Self {
        let stub = match &responder {
            Responder::Stub(stub, _) => Some(stub.name.clone()),
            Responder::Route(_) | Responder::Proxy(_) => None,
        };
        let mut behavior = Behavior::default();
        let number = state.recorder.record(|number| {
            behavior = script.map(ScriptRun::next_behavior).unwrap_or_default();
            RecordedRequest::new(number, head, connection.number, stub, behavior.summary())
        });
        let http2 = head.version == Version::HTTP_2;
        let is_head = head.method == Method::HEAD;
        let missed = behavior.can_be_missed().then(|| {
            let request = format!("{} {}: {}", head.method, head.uri.path(), behavior.summary());
            MissedFault::new(&state.recorder, number, request)
        });
        let exchange = Exchange { behavior, connection: Arc::clone(connection), http2, is_head, position, missed };
        if exchange.ends_connection() {
            connection.ignore_requests();
        }
        let (state, time) = (Arc::clone(state), Instant::now());
        Self { state, number, time, responder, scripted: script.is_some(), exchange }
    }

    /// Reads the request's body, and plays the behavior on the response.
    async fn respond<B>(self, head: &Parts, body: B) -> Result<Response, h2::Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.log(head);
        let is_sent = !self.exchange.behavior.replaces_response(self.exchange.http2);
        let response = self.read_and_respond(head, body).await;
        let response = self.exchange.play(response).await?;
        if !is_sent {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let record = ResponseRecord::start(&self.state.recorder, self.number, self.time, status);
        Ok(response.map(|body| ObservedBody::new(body, record).boxed_unsync()))
    }

    /// Logs the request with its behavior, or in the words of the sample while that is what is played.
    fn log(&self, head: &Parts) {
        let (method, path, behavior) = (&head.method, head.uri.path(), &self.exchange.behavior);
        let note = match &self.responder {
            Responder::Stub(stub, _) => &stub.name,
            Responder::Route(Route::NotFound) if self.state.stubs.stubs.is_some() => "no stub matches",
            // The sample logs neither these nor OPTIONS.
            Responder::Route(_) if self.state.is_sample => "",
            Responder::Route(Route::NotFound) => "no such path; there are /hello, /echo, /bytes/N and /requests",
            Responder::Route(Route::MethodNotAllowed(_)) => "method not allowed",
            Responder::Route(_) | Responder::Proxy(_) => "",
        };
        match (self.scripted, note) {
            (true, "") if self.state.is_sample => match behavior.delay {
                Some(_) => log::info!("Request received from the client to delayed service."),
                None => log::info!("Request received from the client to healthy service."),
            },
            (false, "") if self.state.is_sample => {}
            (_, "") => log::info!("{method} {path}: {}", behavior.summary()),
            (true, note) => log::info!("{method} {path}: {} ({note})", behavior.summary()),
            (false, note) => log::info!("{method} {path}: {note}"),
        }
    }

    /// Reads the body, unless the behavior ignores it, and returns the response of the route, stub or upstream.
    async fn read_and_respond<B>(&self, head: &Parts, body: B) -> Response
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.exchange.behavior.fault == Some(Fault::NoWindow) {
            // Dropping the body would open its flow-control window.
            let _unread = body;
            return std::future::pending().await;
        }
        if let Responder::Proxy(proxy) = &self.responder
            && self.exchange.behavior.reaches_upstream(self.exchange.http2)
        {
            let body = PassingBody::new(body, Arc::clone(&self.state.recorder), self.number);
            return proxy.forward(head, body).await;
        }
        if self.exchange.behavior.ignores_body(self.exchange.http2) {
            return self.own_response(head, &[]);
        }
        let limit = match &self.responder {
            Responder::Route(Route::Echo) => ECHO_LIMIT,
            Responder::Route(_) | Responder::Proxy(_) => 0,
            Responder::Stub(stub, _) => stub.response.body_limit(),
        };
        let Ok((body, buffer)) = body::read(body, limit).await else {
            return responses::error(StatusCode::BAD_REQUEST, "The body is incomplete", head);
        };
        let too_large = limit > 0 && body.length > limit as u64;
        self.state.recorder.add_body(self.number, body);
        log::debug!("Request {} received completely: {} {}", self.number, head.method, head.uri.path());
        if too_large {
            return responses::error(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large to echo", head);
        }
        self.own_response(head, &buffer)
    }

    fn own_response(&self, head: &Parts, body: &[u8]) -> Response {
        let route = match &self.responder {
            Responder::Route(route) => *route,
            // The behavior replaces it.
            Responder::Proxy(_) => return Response::new(responses::boxed(Full::default())),
            Responder::Stub(stub, parameters) => return stub.response.respond(head, body, parameters),
        };
        match route {
            Route::Hello => responses::hello(),
            Route::Echo => responses::echo(head, body),
            Route::Bytes(length) => known_bytes::respond(head, length),
            Route::Requests => responses::requests(&self.state.recorder.report()),
            Route::Options(allowed) => responses::options(allowed),
            Route::MethodNotAllowed(allowed) => responses::method_not_allowed(head, allowed),
            Route::NotFound => responses::not_found(head),
            Route::Recorded => match self.exchange.behavior.bytes_before_end() {
                Some(bytes) => known_bytes::longer_than(bytes),
                None => responses::hello(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::fault::outage::OutageStarter;

    struct Client {
        handler: Arc<Handler>,
        connection: Arc<ConnectionState>,
    }

    impl Client {
        fn of(script: &str) -> Self {
            let handler = Arc::new(Handler::new(script.parse().unwrap()));
            let connection = Arc::new(ConnectionState::new(1, OutageStarter::default()));
            Self { handler, connection }
        }

        async fn send(&self, request: Request<Full<Bytes>>) -> (http::response::Parts, Bytes) {
            let response = self.handler.handle(&self.connection, request).await.unwrap();
            let (head, body) = response.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        }

        async fn call(&self, method: &str, target: &str) -> (http::response::Parts, Bytes) {
            let request = Request::builder().method(method).uri(target).body(Full::default());
            self.send(request.unwrap()).await
        }

        fn requests(&self) -> Vec<RecordedRequest> {
            let requests = self.handler.state.current().recorder.report().requests;
            requests.into_iter().map(Arc::unwrap_or_clone).collect()
        }

        /// Asserts that the next request meets this behavior.
        async fn meets(&self, behavior: &str) {
            self.call("GET", "/hello").await;
            assert_eq!(self.requests().last().unwrap().behavior, behavior);
        }

        async fn hello_takes(&self) -> Duration {
            let start = Instant::now();
            let (head, body) = self.call("GET", "/hello").await;
            assert_eq!(head.status, 200);
            assert_eq!(head.headers["content-type"], "text/plain");
            assert_eq!(body, "Hello World!!!");
            start.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parity_hello_takes_five_seconds_except_every_fourth_time() {
        let client = Client::of("delay,delay,delay,ok");
        for expected in [5, 5, 5, 0, 5, 5, 5, 0] {
            assert_eq!(client.hello_takes().await, Duration::from_secs(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parity_a_request_whose_client_disconnects_counts() {
        let client = Client::of("delay,delay,delay,ok");
        for _ in 0..3 {
            let request = Request::get("/hello").body(Full::default()).unwrap();
            let mut response = Box::pin(client.handler.handle(&client.connection, request));
            assert!(response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(client.hello_takes().await, Duration::ZERO);
    }

    #[tokio::test]
    async fn parity_other_methods_are_not_allowed_and_do_not_count() {
        let client = Client::of("close");
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let (head, body) = client.call(method, "/hello?x=1").await;
            assert_eq!(head.status, 405);
            assert_eq!(head.headers["allow"], "GET, OPTIONS");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["message"], "Method not allowed");
            assert_eq!(body["reason"], "Method Not Allowed");
            assert_eq!(body["path"], "/hello?x=1");
            assert_eq!(body["method"], method);
        }
        assert_eq!(client.requests().len(), 6);
        client.meets("close").await;
    }

    #[tokio::test]
    async fn parity_options_lists_the_allowed_methods() {
        let (head, body) = Client::of("close").call("OPTIONS", "/hello").await;
        assert_eq!(head.status, 204);
        assert_eq!(head.headers["allow"], "GET, OPTIONS");
        assert_eq!(body, "");
    }

    #[tokio::test]
    async fn parity_other_paths_are_not_found_and_do_not_count() {
        let client = Client::of("close");
        let (head, body) = client.call("GET", "/x?y=1").await;
        assert_eq!(head.status, 404);
        assert_eq!(head.headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["message"], "no matching resource found for path : /x , method : GET");
        assert_eq!(body["path"], "/x?y=1");
        let requests = client.requests();
        assert_eq!((requests[0].target.as_str(), requests[0].behavior.as_str()), ("/x?y=1", "ok"));
        assert_eq!(requests[0].response.as_ref().unwrap().status, 404);
        client.meets("close").await;
    }

    #[tokio::test]
    async fn echo_returns_the_request() {
        let request = Request::post("/echo?x=1").header("x-a", "1").body(Full::from("body\0"));
        let (head, body) = Client::of("ok").send(request.unwrap()).await;
        assert_eq!(head.headers["content-type"], "message/http");
        assert_eq!(body, "POST /echo?x=1 HTTP/1.1\r\nx-a: 1\r\n\r\nbody\0");
    }

    #[tokio::test]
    async fn echo_has_a_limit_but_the_full_body_is_counted() {
        let client = Client::of("ok");
        let body = Bytes::from(vec![0; ECHO_LIMIT + 1]);
        let (head, _) = client.send(Request::put("/echo").body(Full::new(body)).unwrap()).await;
        assert_eq!(head.status, 413);
        let requests = client.requests();
        assert_eq!(requests[0].body.as_ref().unwrap().length, ECHO_LIMIT as u64 + 1);
    }

    #[tokio::test]
    async fn known_bytes_support_ranges_and_preconditions() {
        let client = Client::of("ok");
        let (head, body) = client.call("GET", "/bytes/12").await;
        assert_eq!((head.status, body), (StatusCode::OK, Bytes::from("0123456789AB")));
        assert_eq!(head.headers["etag"], "\"bytes-12\"");
        assert_eq!(head.headers["accept-ranges"], "bytes");

        let range = |field: &str, value: &str| {
            let request = Request::get("/bytes/12").header("range", "bytes=3-5");
            client.send(request.header(field, value).body(Full::default()).unwrap())
        };
        let (head, body) = range("if-range", "\"bytes-12\"").await;
        assert_eq!((head.status, body), (StatusCode::PARTIAL_CONTENT, Bytes::from("345")));
        assert_eq!(head.headers["content-range"], "bytes 3-5/12");
        assert_eq!(head.headers["etag"], "\"bytes-12\"");
        assert_eq!(range("if-range", "\"other\"").await.1.len(), 12);
        assert_eq!(range("if-match", "\"other\"").await.0.status, 412);

        let request = Request::get("/bytes/12").header("range", "bytes=12-").body(Full::default());
        let (head, _) = client.send(request.unwrap()).await;
        assert_eq!(head.status, 416);
        assert_eq!(head.headers["content-range"], "bytes */12");
    }

    #[tokio::test]
    async fn a_status_replaces_the_response() {
        let client =
            Client::of("status=503;retry-after=2,status=502;body=\"Gateway Timed out.\",status=429;retry-after-date=0");
        let (head, body) = client.call("GET", "/bytes/100").await;
        assert_eq!((head.status.as_u16(), body), (503, Bytes::from("Service Unavailable")));
        assert_eq!(head.headers["retry-after"], "2");
        assert_eq!(head.headers["content-type"], "text/plain");
        let (head, body) = client.call("GET", "/hello").await;
        assert_eq!((head.status.as_u16(), body), (502, Bytes::from("Gateway Timed out.")));
        let (head, _) = client.call("GET", "/hello").await;
        let date = head.headers["retry-after"].to_str().unwrap();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    }

    #[tokio::test]
    async fn the_requests_route_lists_the_requests_and_is_not_scripted() {
        let client = Client::of("status=503,ok");
        let request = Request::post("/echo").header("idempotency-key", "k").body(Full::from("abc"));
        client.send(request.unwrap()).await;
        client.call("GET", "/hello").await;
        for _ in 0..2 {
            let (head, body) = client.call("GET", "/requests").await;
            assert_eq!(head.status, 200);
            let report: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&report["received"], &report["dropped"]), (&2.into(), &0.into()));
            let first = &report["requests"][0];
            assert_eq!((&first["number"], &first["connection"]), (&1.into(), &1.into()));
            assert_eq!((&first["method"], &first["target"]), (&"POST".into(), &"/echo".into()));
            assert_eq!(first["headers"]["idempotency-key"], "k");
            assert_eq!(first["body"]["text"], "abc");
            assert_eq!(first["response"]["status"], 503);
            assert_eq!(first["body"]["length"], 3);
            assert!(first["body"]["sha256"].as_str().unwrap().starts_with("ba7816bf"));
            assert_eq!(first["behavior"], "status=503");
            assert_eq!(report["requests"][1]["behavior"], "ok");
        }
    }
}
