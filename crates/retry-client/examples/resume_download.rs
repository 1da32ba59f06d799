//! Downloads a file over connections that break.
//!
//! Shows that a range request fetches the rest, so that no byte is downloaded twice.

use std::{error::Error, time::Duration};

use delayed_backend::{Backend, known_byte};
use http_body_util::BodyExt;
use retry_client::{Client, RetryPolicy};

const LENGTH: u64 = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The response has a strong `ETag`, and the server supports `Range` and `If-Range`.
    let backend = Backend::start("reset-after=5000,close-after=9000,ok".parse()?).await?;
    let client = Client::builder(backend.url())
        .policy(RetryPolicy::builder().interval(Duration::from_millis(10)).build()?)
        .resume(true)
        .build()?;

    let mut body = client.get(&format!("/bytes/{LENGTH}")).await?.into_body();
    let mut received = Vec::new();
    // Constant memory: a program would write each piece to its file.
    while let Some(frame) = body.frame().await {
        received.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
    }
    assert!(received.into_iter().eq((0..LENGTH).map(known_byte)));
    assert_eq!(backend.received(), 3);

    // Without `resume`, the error says how far it got.
    let backend = Backend::start("reset-after=5000,ok".parse()?).await?;
    let response = Client::new(backend.url())?.get(&format!("/bytes/{LENGTH}")).await?;
    assert!(response.into_body().collect().await.is_err());
    Ok(())
}
