//! The service of the retry sample.
//!
//! `/retry` calls a backend that may be slow or absent, retries as its policy says, and answers with
//! what the backend said. The binary does this on port 9090; tests run the same service in-process:
//!
//! ```
//! use std::sync::Arc;
//! use retry_client::Client;
//! use retry_service::{App, run};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let app = Arc::new(App::new(Client::new("http://localhost:8080")?, "/hello"));
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let service = tokio::spawn(run(listener, app, async { drop(stopped.await) }));
//! // … call it …
//! drop(stop);
//! service.await?.drain(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

use std::{convert::Infallible, sync::Arc};

use hyper::service::service_fn;
use tokio::net::TcpListener;

pub mod app;
pub mod cli;
pub mod duration;
pub mod error_payload;
pub mod listen;
pub mod log_line;
pub mod serve;
pub mod signals;
pub mod usage_error;

pub use crate::{app::App, serve::Connections};

/// Serves `app` on `listener` until `stop` completes, and hands back the connections still open.
pub async fn run(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) -> Connections {
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    serve::serve(listener, service, stop).await
}
