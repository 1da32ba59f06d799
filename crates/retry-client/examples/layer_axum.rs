//! Retries in an axum application.
//!
//! Shows a handler that calls another service through a stack with retries, and a gateway: a route that forwards requests.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use delayed_backend::Backend;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use retry_client::{Client, RetryConfig, RetryLayer, RetryPolicy, RetryService};
use tower::{Layer, ServiceExt};

#[derive(Clone)]
struct App {
    /// The stack: the layer above the client that the application has already.
    http: RetryService<legacy::Client<HttpConnector, retry_client::Body>>,
    greeter: String,
    /// The client of this crate, for the gateway.
    upstream: Client,
}

/// Calls another service. The state is a clone for each request, so the stack can be called as it is.
async fn greet(State(app): State<App>) -> Result<String, Failure> {
    let request = Request::get(format!("{}/hello", app.greeter)).body(retry_client::Body::empty())?;
    let response = app.http.oneshot(request).await?;
    let text = response.into_body().collect().await?.to_bytes();
    Ok(format!("The service says: {}", str::from_utf8(&text)?))
}

/// Forwards a request, and streams both bodies. Uploads are buffered while they are sent, up to `replay_limit`.
async fn forward(State(app): State<App>, request: Request) -> Result<impl IntoResponse, Failure> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(app.upstream.forward(&path, request).await?)
}

/// Any error becomes a 502.
struct Failure(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::BAD_GATEWAY, self.0.to_string()).into_response()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let backend = Backend::start("status=503,ok,status=503,ok,reset".parse()?).await?;
    let policy = RetryPolicy::builder().interval(Duration::from_millis(20)).build()?;
    let config = RetryConfig::new(policy).status_codes([502, 503, 504]).attempt_timeout(Duration::from_secs(2));
    let app = App {
        http: RetryLayer::new(config.clone())?.layer(legacy::Client::builder(TokioExecutor::new()).build_http()),
        greeter: backend.url(),
        upstream: Client::builder(backend.url()).retry_config(config).build()?,
    };
    let router = Router::new().route("/greet", get(greet)).fallback(forward).with_state(app);

    // A server would pass the router to `axum::serve`.
    let call = async |request| {
        let response = router.clone().oneshot(request).await?;
        let (status, body) = (response.status().as_u16(), response.into_body().collect().await?.to_bytes());
        Ok::<_, Box<dyn Error>>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let greeting = call(Request::get("/greet").body(Body::empty())?).await?;
    assert_eq!(greeting, (200, "The service says: Hello World!!!".to_owned()));
    let forwarded = call(Request::put("/echo").body(Body::from("1 tea"))?).await?;
    assert!(forwarded.0 == 200 && forwarded.1.ends_with("1 tea"), "{forwarded:?}");
    assert_eq!(backend.received(), 4, "each was sent twice");

    let (status, why) = call(Request::post("/echo").body(Body::from("1 tea"))?).await?;
    assert_eq!(status, 502, "{why}");
    assert_eq!(backend.received(), 5, "a POST that may have been processed is not sent again");
    Ok(())
}
