//! The backend's answers.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;

use crate::error_payload::ErrorPayload;
use crate::script::{Behaviour, Script};

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, OPTIONS");

/// A backend that plays its script: one behaviour per `GET /hello`.
#[derive(Debug, Default)]
pub struct App {
    script: Script,
    received: AtomicU64,
}

impl App {
    /// A backend at the start of `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self { script, received: AtomicU64::new(0) }
    }

    /// Answers one request, in the script's own time.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (request, _) = request.into_parts();
        match (request.uri.path(), &request.method) {
            ("/hello", &Method::GET) => self.hello().await,
            ("/hello", &Method::OPTIONS) => allowed_methods(),
            ("/hello", _) => method_not_allowed(&request),
            _ => not_found(&request),
        }
    }

    async fn hello(&self) -> Response<Full<Bytes>> {
        match self.script.behaviour(self.next_number()) {
            Behaviour::Delay(delay) => {
                log::info!("Request received from the client to delayed service.");
                tokio::time::sleep(delay).await;
            }
            Behaviour::Ok => log::info!("Request received from the client to healthy service."),
        }
        text("Hello World!!!")
    }

    /// Counts a request at its arrival: one whose caller hangs up counts all the same.
    fn next_number(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.received.fetch_add(1, Ordering::Relaxed))
    }
}

fn text(body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn allowed_methods() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

fn method_not_allowed(request: &Parts) -> Response<Full<Bytes>> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", request);
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

fn not_found(request: &Parts) -> Response<Full<Bytes>> {
    let (path, method) = (request.uri.path(), &request.method);
    let message = format!("no matching resource found for path : {path} , method : {method}");
    error(StatusCode::NOT_FOUND, message, request)
}

fn error(status: StatusCode, message: impl Into<String>, request: &Parts) -> Response<Full<Bytes>> {
    ErrorPayload::new(Timestamp::now(), status, message, request).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tokio::time::Instant;

    use super::*;

    async fn send(app: &App, method: &str, target: &str) -> (StatusCode, http::HeaderMap, Bytes) {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        let (head, body) = app.answer(request).await.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn hello_takes(app: &App) -> Duration {
        let start = Instant::now();
        let (status, headers, body) = send(app, "GET", "/hello").await;
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(body, "Hello World!!!");
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn parity_hello_is_five_seconds_late_but_every_fourth_time() {
        let app = App::default();
        for expected in [5, 5, 5, 0, 5, 5, 5, 0] {
            assert_eq!(hello_takes(&app).await, Duration::from_secs(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parity_a_caller_who_hangs_up_counts() {
        let app = App::default();
        for _ in 0..3 {
            let request = Request::get("/hello").body(()).unwrap();
            let mut answer = Box::pin(app.answer(request));
            let mut context = Context::from_waker(Waker::noop());
            assert!(answer.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(hello_takes(&app).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn parity_other_methods_are_refused_and_do_not_count() {
        let app = App::default();
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let (status, headers, body) = send(&app, method, "/hello?x=1").await;
            assert_eq!(status, 405);
            assert_eq!(headers["allow"], "GET, OPTIONS");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["message"], "Method not allowed");
            assert_eq!(body["reason"], "Method Not Allowed");
            assert_eq!(body["path"], "/hello?x=1");
            assert_eq!(body["method"], method);
        }
        assert_eq!(app.received.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn parity_options_tells_what_is_allowed() {
        let (status, headers, body) = send(&App::default(), "OPTIONS", "/hello").await;
        assert_eq!(status, 204);
        assert_eq!(headers["allow"], "GET, OPTIONS");
        assert_eq!(body, "");
    }

    #[tokio::test]
    async fn parity_other_paths_are_not_found_and_do_not_count() {
        let app = App::default();
        let (status, headers, body) = send(&app, "GET", "/x?y=1").await;
        assert_eq!(status, 404);
        assert_eq!(headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["message"], "no matching resource found for path : /x , method : GET");
        assert_eq!(body["path"], "/x?y=1");
        for target in ["/", "/hello/", "/hello/x", "/Hello"] {
            assert_eq!(send(&app, "GET", target).await.0, 404, "{target}");
        }
        assert_eq!(app.received.load(Ordering::Relaxed), 0);
    }
}
