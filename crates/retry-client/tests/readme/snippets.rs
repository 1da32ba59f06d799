//! Copied from the README by `UPDATE_DOCS=1 cargo test -p retry-client --test readme`.

mod snippet_1 {
use std::io;
use retry_core::{RetryError, RetryPolicy, retry};
use tokio::net::TcpStream;

async fn connect() -> Result<TcpStream, RetryError<io::Error>> {
    let policy = RetryPolicy::default();
    retry(policy, || TcpStream::connect("localhost:5432")).await
}
}

mod snippet_2 {
use std::time::Duration;
use retry_client::{Client, Error, RetryPolicy};

async fn hello() -> Result<String, Error> {
    let client = Client::builder("http://localhost:8080")
        .retry(RetryPolicy::SAMPLE)
        .timeout(Duration::from_secs(2))
        .status_codes([502, 503, 504])
        .build()?;
    client.get_text("/hello").await
}
}
