//! The service of the retry sample.
//!
//! `/retry` calls a backend that may be slow or absent, retries as its policy says, and answers with
//! what the backend said. The binary does this on port 9090; tests run the same service in-process:
//!
//! ```
//! use std::sync::Arc;
//! use retry_client::Client;
//! use retry_service::{App, Front, Limits, Routes, Tasks, run};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let app = App::new(Client::new("http://localhost:8080")?, "/hello");
//! let front = Arc::new(Front::new(Routes::Sample(app), 100));
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let stopped = async { drop(stopped.await) };
//! let service = tokio::spawn(run(listener, front, Limits::default(), Tasks::default(), stopped));
//! // … call it …
//! drop(stop);
//! service.await?.drain(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

use std::{convert::Infallible, sync::Arc};

use hyper::service::service_fn;
use tokio::net::TcpListener;

pub mod admin;
pub mod common;
pub(crate) mod exchange;
pub mod gateway;
pub mod generation;
pub mod reload;
pub mod router;
pub mod sample;
pub mod server;
pub mod settings;
pub mod telemetry;

pub use crate::{
    admin::Admin,
    exchange::response_body::Outgoing,
    gateway::{Gateway, GatewaySettings, downstream::Downstream},
    generation::{Generation, Routes},
    reload::Reload,
    router::Front,
    sample::App,
    server::{Connections, Limits, shutdown::Tasks},
    telemetry::metrics::Metrics,
};

/// Serves on `listener` until `stop` completes, and hands back the connections still open.
pub async fn run(
    listener: TcpListener,
    front: Arc<Front>,
    limits: Limits,
    tasks: Tasks,
    stop: impl Future<Output = ()>,
) -> Connections {
    let service = |address, line| {
        let (front, downstream) = (Arc::clone(&front), Arc::new(Downstream::new(address, line)));
        service_fn(move |request| {
            let (front, downstream) = (Arc::clone(&front), Arc::clone(&downstream));
            // On the heap: each of the futures around one another would hold it otherwise.
            let request = Box::new(request);
            async move { Ok::<_, Infallible>(front.answer(&downstream, request).await) }
        })
    };
    server::serve(listener, limits, service, &tasks, stop).await
}
