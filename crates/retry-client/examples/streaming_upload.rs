//! Uploads a file that is read while it is sent, and sent again if the server fails.
//!
//! Shows that what was read is buffered for other attempts, and that an upload larger than the buffer is sent once.

use std::{error::Error, io, time::Duration};

use delayed_backend::Backend;
use futures_util::TryStreamExt;
use http_body_util::StreamBody;
use retry_client::{Body, Client, ErrorKind, RetryPolicy, http_body::Frame};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

/// A body that reads the file when it is sent.
async fn file(path: &str) -> io::Result<Body> {
    let file = File::open(path).await?;
    Ok(Body::new(StreamBody::new(ReaderStream::new(file).map_ok(Frame::data))))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let length = std::fs::metadata(path)?.len();

    // A PUT may be repeated. For a POST, the server would have to know an `Idempotency-Key`.
    let backend = Backend::start("reset,status=503,ok".parse()?).await?;
    let client = Client::builder(backend.url())
        .policy(RetryPolicy::builder().interval(Duration::from_millis(10)).build()?)
        .status_codes([503])
        // The most that one upload may use; `replay_memory` limits all of them together.
        .replay_limit(1024 * 1024)
        .build()?;
    let response = client.put("/echo").body(file(path).await?).await?;
    assert_eq!(response.status(), 200);
    let received: Vec<_> = backend.requests().into_iter().map(|request| request.body.map(|body| body.length)).collect();
    assert_eq!(received, [Some(length); 3]);

    // Beyond the limit, the first attempt is complete, and the only one.
    let backend = Backend::start("reset,ok".parse()?).await?;
    let client = Client::builder(backend.url()).replay_limit(100).build()?;
    let outcome = client.put("/echo").body(file(path).await?).await.map(drop).map_err(|error| error.kind());
    assert_eq!((outcome, backend.received()), (Err(ErrorKind::ConnectionClosed), 1));
    Ok(())
}
