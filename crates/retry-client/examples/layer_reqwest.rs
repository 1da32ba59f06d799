//! Adds retries to reqwest's client, in a tower stack.
//!
//! Shows the adapter between the types of reqwest and those of the crate `http`, and that the layer finds in reqwest's
//! errors whether a request was sent.

use std::{error::Error, time::Duration};

use delayed_backend::Backend;
use http::{Request, Response};
use retry_client::{Body, ErrorKind, RetryConfig, RetryLayer, RetryPolicy};
use tokio::{net::TcpSocket, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// Adds retries to a client, with its settings: its proxies, its cookies, its certificates.
fn with_retries(
    client: reqwest::Client,
    retries: RetryLayer,
) -> impl Service<Request<Body>, Response = Response<reqwest::Body>, Error = retry_client::Error> + Clone {
    ServiceBuilder::new().layer(retries).service(service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let request = request.map(reqwest::Body::wrap).try_into()?;
            client.execute(request).await.map(Response::from)
        }
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = reqwest::Client::builder()
        // These limit each attempt. The first one ends before anything is sent, so that even a POST is retried.
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(2))
        .build()?;
    let policy = RetryPolicy::builder().interval(Duration::from_millis(20)).count(10).build()?;
    let retries = RetryLayer::new(RetryConfig::new(policy).status_codes([502, 503, 504]))?;
    let client = with_retries(client, retries);

    let backend = Backend::start("status=503,ok".parse()?).await?;
    let mut service = client.clone();
    let request = Request::get(format!("{}/hello", backend.url())).body(Body::empty())?;
    let response = service.ready().await?.call(request).await?;
    // reqwest's methods again: text, json, bytes_stream.
    assert_eq!(reqwest::Response::from(response).text().await?, "Hello World!!!");
    assert_eq!(backend.received(), 2);

    // The connection is reset when the server has the request: it may have been processed.
    let backend = Backend::start("reset".parse()?).await?;
    let request = Request::post(format!("{}/echo", backend.url())).body("1 tea".into())?;
    let outcome = client.clone().oneshot(request).await.map(drop).map_err(|error| error.kind());
    assert_eq!((outcome, backend.received()), (Err(ErrorKind::ConnectionClosed), 1), "a POST is not sent twice");

    // Connections are refused until the server listens: nothing was sent.
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let request = Request::post(format!("http://{}/echo", socket.local_addr()?)).body("1 tea".into())?;
    let script = "ok".parse()?;
    let server = tokio::spawn(async move {
        sleep(Duration::from_millis(50)).await;
        Backend::start_on(socket.listen(16)?, script)
    });
    let response = client.clone().oneshot(request).await?;
    assert_eq!((response.status().as_u16(), server.await??.received()), (200, 1));
    Ok(())
}
