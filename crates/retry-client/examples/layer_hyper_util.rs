//! Adds retries to hyper-util's client, in a tower stack.
//!
//! Shows the type of the stack, how a clone of it is called, and that a POST is sent again only if it was never sent.

use std::{error::Error, time::Duration};

use delayed_backend::Backend;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use retry_client::{Body, ErrorKind, RetryConfig, RetryLayer, RetryPolicy, RetryService, http::Request};
use tokio::{net::TcpSocket, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt};

/// hyper-util's client with retries. It is cheap to clone, and clones share the connections.
type HttpClient = RetryService<Client<HttpConnector, Body>>;

fn http_client() -> Result<HttpClient, Box<dyn Error>> {
    let policy = RetryPolicy::builder().interval(Duration::from_millis(20)).count(10).build()?;
    let retries = RetryLayer::new(
        RetryConfig::new(policy)
            .status_codes([502, 503, 504])
            // The layer has no other timeout: hyper-util's client waits for ever.
            .attempt_timeout(Duration::from_secs(2)),
    )?;
    let mut connector = HttpConnector::new();
    // A connection that cannot be made in time was certainly not used, so even a POST is retried.
    connector.set_connect_timeout(Some(Duration::from_secs(1)));
    Ok(ServiceBuilder::new().layer(retries).service(Client::builder(TokioExecutor::new()).build(connector)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = http_client()?;

    // A response with a listed status is read to its end and dropped, so that its connection can be used again.
    let backend = Backend::start("status=503,ok".parse()?).await?;
    let mut service = client.clone();
    let request = Request::get(format!("{}/hello", backend.url())).body(Body::empty())?;
    let response = service.ready().await?.call(request).await?;
    assert_eq!(response.status(), 200);
    // The body is read after the call: the layer does not retry if that fails.
    assert_eq!(response.into_body().collect().await?.to_bytes(), "Hello World!!!");
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
