//! The layer over the HTTP clients and services that people have: which of their errors show that a request was not sent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{Address, LIMIT, Reply, Server, quick, watch};
use delayed_backend::Backend;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy, rt::TokioExecutor};
use retry_client::{Body, EndReason, Error, ErrorKind, History, RetryConfig, RetryLayer, RetryMethods};
use tokio::{
    join,
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client as a service.
type Http = BoxCloneSyncService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

fn boxed<S, B>(service: S) -> Http
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service.map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()));
    BoxCloneSyncService::new(service.map_err(Into::into))
}

fn hyper_util_client(connect_timeout: Duration) -> Http {
    let mut connector = legacy::connect::HttpConnector::new();
    connector.set_connect_timeout(Some(connect_timeout));
    boxed(legacy::Client::builder(TokioExecutor::new()).build(connector))
}

fn reqwest_client(connect_timeout: Duration) -> Http {
    let client = reqwest::Client::builder().connect_timeout(connect_timeout).build().unwrap();
    boxed(service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { client.execute(request.map(reqwest::Body::wrap).try_into()?).await.map(Response::from) }
    }))
}

fn config() -> RetryConfig {
    RetryConfig::new(quick(3)).status_codes([503])
}

/// Sends a request to `/echo` and returns the response's body.
async fn send(http: Http, config: RetryConfig, url: &str, method: Method) -> Result<Bytes, Error> {
    watch();
    let request = Request::builder().method(method).uri(format!("{url}/echo")).body(Body::from("payload")).unwrap();
    let service = RetryLayer::new(config).unwrap().layer(http);
    let response = timeout(LIMIT, service.oneshot(request)).await.unwrap()?;
    assert_eq!(response.status(), StatusCode::OK);
    Ok(response.into_body().collect().await.unwrap().to_bytes())
}

async fn a_refused_post_is_sent_once_the_server_listens(http: Http) {
    let (address, refused) = (Address::new(), Arc::new(Notify::new()));
    let notify = Arc::clone(&refused);
    let config = config().observer(move |_| notify.notify_one());
    let url = format!("http://{}", address.get());
    let start = async {
        refused.notified().await;
        address.serve([Reply::Ok("ok")])
    };
    let (response, server) = join!(send(http, config, &url, Method::POST), start);
    assert_eq!(response.unwrap(), "ok");
    let seen = server.seen();
    assert_eq!(seen.iter().map(|request| &*request.body).collect::<Vec<_>>(), [b"payload"]);
    assert_eq!(seen[0].headers["content-length"], "7", "its length is known");
}

async fn only_a_put_is_repeated_after_it_was_sent(http: Http) {
    for script in ["reset,ok", "close,ok", "garbage,ok"] {
        let check = async |method, expected| {
            let backend = Backend::start(script.parse().unwrap()).await.unwrap();
            let outcome = send(http.clone(), config(), &backend.url(), method).await;
            assert_eq!((outcome.is_ok(), backend.received()), expected, "{script}");
        };
        check(Method::PUT, (true, 2)).await;
        check(Method::POST, (false, 1)).await;
    }
}

async fn a_listed_status_is_retried_and_its_connection_reused(http: Http) {
    let server = Server::start([Reply::Status(503, "busy"), Reply::Ok("ok")]).await;
    assert_eq!(send(http, config(), &format!("http://{}", server.address), Method::PUT).await.unwrap(), "ok");
    let seen = server.seen();
    assert_eq!(seen.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0]);
}

async fn responses_and_errors_have_their_history(http: Http) {
    let backend = Backend::start("status=503,reset,ok,status=503,reset,reset,ok".parse().unwrap()).await.unwrap();
    let call = async |method, config| {
        let request = Request::builder().method(method).uri(format!("{}/echo", backend.url()));
        let service = RetryLayer::new(config).unwrap().layer(http.clone());
        service.oneshot(request.body(Body::from("payload")).unwrap()).await
    };
    let put = call(Method::PUT, config()).await.unwrap();
    assert_eq!(put.extensions().get::<History>().unwrap().attempts(), 3);
    assert_eq!(call(Method::POST, config()).await.unwrap().status(), 503, "a POST is not repeated");
    let error = call(Method::POST, config()).await.unwrap_err();
    assert_eq!((error.history().unwrap().attempts(), error.reason()), (1, Some(EndReason::NotSafeToRepeat)));
    let all = config().retry_methods(RetryMethods::All);
    assert_eq!(call(Method::POST, all).await.unwrap().status(), 200);
}

async fn the_attempt_timeout_covers_the_service(http: Http) {
    let config = config().attempt_timeout(Duration::from_millis(300));
    let backend = Backend::start("hang,ok".parse().unwrap()).await.unwrap();
    let error = send(http.clone(), config.clone(), &backend.url(), Method::POST).await.unwrap_err();
    assert_eq!((error.kind(), backend.received()), (ErrorKind::Timeout, 1), "it may have been processed");
    let backend = Backend::start("hang,ok".parse().unwrap()).await.unwrap();
    send(http, config, &backend.url(), Method::PUT).await.unwrap();
    assert_eq!(backend.received(), 2);
}

async fn a_connect_timeout_is_repeated_for_every_method(http: Http) {
    // Connecting to a listener whose backlog is full hangs.
    let socket = common::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(connection) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(connection.unwrap());
    }
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let config = config().observer(move |_| {
        count.fetch_add(1, SeqCst);
    });
    let error = send(http, config, &format!("http://{address}"), Method::POST).await.unwrap_err();
    assert_eq!((error.kind(), attempts.load(SeqCst)), (ErrorKind::Connect, 4));
}

#[tokio::test]
async fn over_hyper_util() {
    let http = hyper_util_client(LIMIT);
    a_refused_post_is_sent_once_the_server_listens(http.clone()).await;
    only_a_put_is_repeated_after_it_was_sent(http.clone()).await;
    a_listed_status_is_retried_and_its_connection_reused(http.clone()).await;
    responses_and_errors_have_their_history(http.clone()).await;
    the_attempt_timeout_covers_the_service(http).await;
    a_connect_timeout_is_repeated_for_every_method(hyper_util_client(Duration::from_millis(50))).await;
}

#[tokio::test]
async fn over_reqwest() {
    let http = reqwest_client(LIMIT);
    a_refused_post_is_sent_once_the_server_listens(http.clone()).await;
    only_a_put_is_repeated_after_it_was_sent(http.clone()).await;
    a_listed_status_is_retried_and_its_connection_reused(http.clone()).await;
    responses_and_errors_have_their_history(http.clone()).await;
    the_attempt_timeout_covers_the_service(http).await;
    a_connect_timeout_is_repeated_for_every_method(reqwest_client(Duration::from_millis(50))).await;
}

#[test]
fn invalid_settings_are_errors() {
    let error = RetryLayer::new(config().status_codes([1000])).unwrap_err();
    assert_eq!(error.to_string(), "status_codes has 1000: expected codes from 100 to 999");
}

#[tokio::test]
async fn a_refused_stream_of_http2_is_repeated_for_every_method() {
    let http = boxed(legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http());
    for script in ["refused-stream,ok", "goaway,ok"] {
        let backend = Backend::start(script.parse().unwrap()).await.unwrap();
        send(http.clone(), config(), &backend.url(), Method::POST).await.unwrap();
        assert_eq!(backend.received(), 2, "{script}");
    }
}

#[tokio::test]
async fn a_request_without_an_absolute_url_is_one_attempt() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let config = config().observer(move |_| {
        count.fetch_add(1, SeqCst);
    });
    let error = send(hyper_util_client(LIMIT), config, "", Method::PUT).await.unwrap_err();
    assert_eq!(error.message(), "client error (UserAbsoluteUriRequired)");
    assert_eq!((error.kind(), attempts.load(SeqCst)), (ErrorKind::BadInput, 1));
}

#[tokio::test]
async fn a_service_without_errors_of_hyper_is_assumed_to_have_sent_the_request() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let http = boxed(service_fn(move |_: Request<Body>| {
        let number = count.fetch_add(1, SeqCst);
        async move {
            sleep(Duration::from_millis(1)).await;
            if number == 0 { Err("no reply") } else { Ok(Response::new(Body::from("ok"))) }
        }
    }));
    assert!(send(http.clone(), config(), "http://h", Method::POST).await.is_err());
    assert_eq!(attempts.swap(0, SeqCst), 1);
    assert_eq!(send(http.clone(), config(), "http://h", Method::PUT).await.unwrap(), "ok");
    attempts.store(0, SeqCst);
    let all = config().retry_methods(RetryMethods::All);
    assert_eq!(send(http, all, "http://h", Method::POST).await.unwrap(), "ok");
}

/// In the process, without a network.
#[tokio::test]
async fn over_an_axum_router() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let handler = async |axum::extract::State(attempts): axum::extract::State<Arc<AtomicUsize>>, body: String| {
        if attempts.fetch_add(1, SeqCst) == 0 { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(body) }
    };
    let router = axum::Router::new().route("/echo", axum::routing::put(handler)).with_state(attempts);
    assert_eq!(send(boxed(router), config(), "http://h", Method::PUT).await.unwrap(), "payload");
}

/// The client takes the credentials of its base URL out; the URLs beneath a layer are the caller's.
#[tokio::test]
async fn the_credentials_in_a_url_are_neither_in_events_nor_in_errors() {
    let address = Address::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let config = config().observer(move |event| log.lock().unwrap().push(event.uri.to_string()));
    let url = format!("http://user:secret@{}", address.get());
    let error = send(hyper_util_client(LIMIT), config, &url, Method::GET).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), vec![format!("http://{}/echo", address.get()); 4]);
    let shown = format!("{error} {error:?} {}", error.history().unwrap());
    assert!(shown.contains(&format!("cannot connect to {}", address.get())) && !shown.contains("secret"), "{shown}");
}
