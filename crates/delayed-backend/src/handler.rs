//! The backend: its script, its routes, and its memory of what arrived.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body::Body;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::fault::Fault;
use crate::fault::connection::Connection;
use crate::fault::io::Wire;
use crate::fault::play::{self as turn, Turn};
use crate::recorder::body as arrival;
use crate::recorder::{Journal, KEPT, Record};
use crate::routes::Route;
use crate::routes::responses::{self as answers, Answer};
use crate::script::Script;

/// The largest body that is echoed.
const ECHO_LIMIT: usize = 16 << 20;

/// How many characters of a request's target and key are remembered.
const TEXT_LIMIT: usize = 1024;

/// A backend that plays its script, one behaviour per request.
#[derive(Debug)]
pub struct App {
    script: Script,
    journal: Journal,
    connections: AtomicU64,
    #[cfg(feature = "tls")]
    pub(crate) identity: Option<crate::server::tls::Identity>,
}

impl App {
    /// A backend at the start of `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            script,
            journal: Journal::new(KEPT),
            connections: AtomicU64::new(0),
            #[cfg(feature = "tls")]
            identity: None,
        }
    }

    /// Serves https, and nothing else, as the server of this certificate.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, identity: crate::server::tls::Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The scheme of the backend's URL.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.identity.is_some() {
            return "https";
        }
        "http"
    }

    /// How many requests have met the script.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.journal.received()
    }

    /// The requests that have met the script; of very many, the latest.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.journal.records()
    }

    /// Takes note of a connection; `outages` is where to ask for the backend to be taken down.
    pub(crate) fn connection(&self, outages: mpsc::Sender<Duration>) -> Connection {
        Connection::new(1 + self.connections.fetch_add(1, Ordering::Relaxed), outages)
    }

    /// Receives a request at once, and answers it in the script's own time.
    ///
    /// That the turn is taken before the first poll keeps the requests of a connection in order,
    /// and counts the one whose caller hangs up.
    pub(crate) fn receive<B>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Answer, h2::Error>> + use<B>
    where
        B: Body<Data = Bytes>,
    {
        let (head, body) = request.into_parts();
        let route = Route::of(&head.method, head.uri.path());
        let leaving = connection.is_leaving();
        let stream_before = connection.request_arrived();
        let turn = (route.is_scripted() && !leaving).then(|| self.turn(connection, stream_before, &head));
        let app = Arc::clone(self);
        let wire = connection.wire.clone();
        async move {
            match turn {
                _ if leaving => std::future::pending().await,
                Some(turn) => app.take_turn(turn, route, &head, body).await,
                None => Ok(app.answer_plainly(route, &head, &wire)),
            }
        }
    }

    /// Draws the request's behaviour and remembers it.
    fn turn(&self, connection: &Arc<Connection>, stream_before: u32, head: &Parts) -> Turn {
        let turn = self.journal.arrival(|number| {
            let behaviour = self.script.behaviour(number);
            let connection = Arc::clone(connection);
            let turn = Turn { number, behaviour, connection, stream_before };
            (record(&turn, head, Timestamp::now()), turn)
        });
        if turn.behaviour.fault == Some(Fault::Goaway) && head.version == Version::HTTP_2 {
            connection.leave();
        }
        turn
    }

    async fn take_turn<B>(&self, turn: Turn, route: Route, head: &Parts, body: B) -> Result<Answer, h2::Error>
    where
        B: Body<Data = Bytes>,
    {
        turn.log(head);
        let answer = if turn.behaviour.ignores_the_body(head.version == Version::HTTP_2) {
            drop(body);
            self.answer(route, head, &Bytes::new())
        } else {
            self.read_and_answer(turn.number, route, head, body).await
        };
        turn.play(head, answer).await
    }

    async fn read_and_answer<B>(&self, number: NonZeroU64, route: Route, head: &Parts, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let limit = if route == Route::Echo { ECHO_LIMIT } else { 0 };
        let Ok(arrived) = arrival::read(body, limit).await else {
            return answers::error(StatusCode::BAD_REQUEST, "The body broke off", head);
        };
        let too_large = route == Route::Echo && arrived.seen.length > ECHO_LIMIT as u64;
        self.journal.body_arrived(number, arrived.seen);
        if too_large {
            return answers::error(StatusCode::PAYLOAD_TOO_LARGE, "Too large to echo", head);
        }
        self.answer(route, head, &arrived.kept)
    }

    /// Answers what the script has no say in, and takes back what it may have left behind.
    fn answer_plainly(&self, route: Route, head: &Parts, wire: &Wire) -> Answer {
        wire.order(None);
        let mut answer = self.answer(route, head, &Bytes::new());
        if head.method == Method::HEAD && head.version == Version::HTTP_2 {
            turn::strip_body(&mut answer);
        }
        answer
    }

    fn answer(&self, route: Route, head: &Parts, body: &Bytes) -> Answer {
        match route {
            Route::Hello => answers::text(StatusCode::OK, "Hello World!!!"),
            Route::Echo => answers::echo(head, body),
            Route::Bytes(length) => answers::known_bytes(head, length),
            Route::Requests => answers::journal(&self.journal.report()),
            Route::Options(allowed) => answers::allowed_methods(allowed),
            Route::WrongMethod(allowed) => answers::method_not_allowed(head, allowed),
            Route::Unknown => answers::not_found(head),
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new(Script::default())
    }
}

fn record(turn: &Turn, head: &Parts, time: Timestamp) -> Record {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    Record {
        number: turn.number,
        time,
        method: start_of(head.method.as_str()),
        target: start_of(target),
        version: format!("{:?}", head.version),
        connection: turn.connection.number,
        idempotency_key: idempotency_key(&head.headers),
        body: None,
        behaviour: turn.behaviour.to_string(),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get("idempotency-key")?;
    Some(start_of(&String::from_utf8_lossy(key.as_bytes())))
}

/// The text, or as much of it as is worth its memory.
fn start_of(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use http_body_util::{BodyExt as _, Full};
    use serde_json::Value;
    use tokio::time::Instant;

    use super::*;

    struct Caller {
        app: Arc<App>,
        connection: Arc<Connection>,
    }

    impl Caller {
        fn of(script: &str) -> Self {
            let app = Arc::new(App::new(script.parse().unwrap()));
            let connection = Arc::new(app.connection(mpsc::channel(1).0));
            Self { app, connection }
        }

        async fn send(&self, request: Request<Full<Bytes>>) -> (http::response::Parts, Bytes) {
            let answer = self.app.receive(&self.connection, request).await.unwrap();
            let (head, body) = answer.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        }

        async fn call(&self, method: &str, target: &str) -> (http::response::Parts, Bytes) {
            let request = Request::builder().method(method).uri(target).body(Full::default());
            self.send(request.unwrap()).await
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
    async fn parity_hello_is_five_seconds_late_but_every_fourth_time() {
        let caller = Caller::of("delay,delay,delay,ok");
        for expected in [5, 5, 5, 0, 5, 5, 5, 0] {
            assert_eq!(caller.hello_takes().await, Duration::from_secs(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parity_a_caller_who_hangs_up_counts() {
        let caller = Caller::of("delay,delay,delay,ok");
        for _ in 0..3 {
            let request = Request::get("/hello").body(Full::default()).unwrap();
            let mut answer = Box::pin(caller.app.receive(&caller.connection, request));
            assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(caller.hello_takes().await, Duration::ZERO);
    }

    #[tokio::test]
    async fn parity_other_methods_are_refused_and_do_not_count() {
        let caller = Caller::of("close");
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let (head, body) = caller.call(method, "/hello?x=1").await;
            assert_eq!(head.status, 405);
            assert_eq!(head.headers["allow"], "GET, OPTIONS");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["message"], "Method not allowed");
            assert_eq!(body["reason"], "Method Not Allowed");
            assert_eq!(body["path"], "/hello?x=1");
            assert_eq!(body["method"], method);
        }
        assert_eq!(caller.app.received(), 0);
    }

    #[tokio::test]
    async fn parity_options_tells_what_is_allowed() {
        let (head, body) = Caller::of("close").call("OPTIONS", "/hello").await;
        assert_eq!(head.status, 204);
        assert_eq!(head.headers["allow"], "GET, OPTIONS");
        assert_eq!(body, "");
    }

    #[tokio::test]
    async fn parity_other_paths_are_not_found_and_do_not_count() {
        let caller = Caller::of("close");
        let (head, body) = caller.call("GET", "/x?y=1").await;
        assert_eq!(head.status, 404);
        assert_eq!(head.headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["message"], "no matching resource found for path : /x , method : GET");
        assert_eq!(body["path"], "/x?y=1");
        assert_eq!(caller.app.received(), 0);
    }

    #[tokio::test]
    async fn echo_tells_what_arrived() {
        let request = Request::post("/echo?x=1").header("x-a", "1").body(Full::from("body\0"));
        let (head, body) = Caller::of("ok").send(request.unwrap()).await;
        assert_eq!(head.headers["content-type"], "message/http");
        assert_eq!(body, "POST /echo?x=1 HTTP/1.1\r\nx-a: 1\r\n\r\nbody\0");
    }

    #[tokio::test]
    async fn echo_has_a_limit_but_counts_to_the_end() {
        let caller = Caller::of("ok");
        let body = Bytes::from(vec![0; ECHO_LIMIT + 1]);
        let (head, _) = caller.send(Request::put("/echo").body(Full::new(body)).unwrap()).await;
        assert_eq!(head.status, 413);
        let requests = caller.app.requests();
        assert_eq!(requests[0].body.as_ref().unwrap().length, ECHO_LIMIT as u64 + 1);
    }

    #[tokio::test]
    async fn known_bytes_come_whole_in_part_or_not_at_all() {
        let caller = Caller::of("ok");
        let (head, body) = caller.call("GET", "/bytes/12").await;
        assert_eq!((head.status, body), (StatusCode::OK, Bytes::from("0123456789AB")));
        assert_eq!(head.headers["etag"], "\"bytes-12\"");
        assert_eq!(head.headers["accept-ranges"], "bytes");

        let part = |field: &str, value: &str| {
            let request = Request::get("/bytes/12").header("range", "bytes=3-5");
            caller.send(request.header(field, value).body(Full::default()).unwrap())
        };
        let (head, body) = part("if-range", "\"bytes-12\"").await;
        assert_eq!((head.status, body), (StatusCode::PARTIAL_CONTENT, Bytes::from("345")));
        assert_eq!(head.headers["content-range"], "bytes 3-5/12");
        assert_eq!(head.headers["etag"], "\"bytes-12\"");
        assert_eq!(part("if-range", "\"other\"").await.1.len(), 12);
        assert_eq!(part("if-match", "\"other\"").await.0.status, 412);

        let request = Request::get("/bytes/12").header("range", "bytes=12-").body(Full::default());
        let (head, _) = caller.send(request.unwrap()).await;
        assert_eq!(head.status, 416);
        assert_eq!(head.headers["content-range"], "bytes */12");
    }

    #[tokio::test]
    async fn a_status_takes_the_answers_place() {
        let caller =
            Caller::of("status=503;retry-after=2,status=502;body=\"Gateway Timed out.\",status=429;retry-after-date=0");
        let (head, body) = caller.call("GET", "/bytes/100").await;
        assert_eq!((head.status.as_u16(), body), (503, Bytes::from("Service Unavailable")));
        assert_eq!(head.headers["retry-after"], "2");
        assert_eq!(head.headers["content-type"], "text/plain");
        let (head, body) = caller.call("GET", "/hello").await;
        assert_eq!((head.status.as_u16(), body), (502, Bytes::from("Gateway Timed out.")));
        let (head, _) = caller.call("GET", "/hello").await;
        let date = head.headers["retry-after"].to_str().unwrap();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    }

    #[tokio::test]
    async fn requests_are_told_but_not_scripted() {
        let caller = Caller::of("status=503,ok");
        let request = Request::post("/echo").header("idempotency-key", "k").body(Full::from("abc"));
        caller.send(request.unwrap()).await;
        caller.call("GET", "/hello").await;
        for _ in 0..2 {
            let (head, body) = caller.call("GET", "/requests").await;
            assert_eq!(head.status, 200);
            let report: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&report["received"], &report["dropped"]), (&2.into(), &0.into()));
            let first = &report["requests"][0];
            assert_eq!((&first["number"], &first["connection"]), (&1.into(), &1.into()));
            assert_eq!((&first["method"], &first["target"]), (&"POST".into(), &"/echo".into()));
            assert_eq!(first["idempotency_key"], "k");
            assert_eq!(first["body"]["length"], 3);
            assert!(first["body"]["sha256"].as_str().unwrap().starts_with("ba7816bf"));
            assert_eq!(first["behaviour"], "status=503");
            assert_eq!(report["requests"][1]["behaviour"], "ok");
        }
    }

    #[test]
    fn only_the_start_of_a_long_target_is_remembered() {
        assert_eq!(start_of(&"x".repeat(TEXT_LIMIT + 1)).len(), TEXT_LIMIT);
        assert_eq!(start_of("/hello"), "/hello");
    }
}
