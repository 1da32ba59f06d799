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
pub mod app;
mod connections;
pub mod duration;
pub mod error_payload;
mod finish;
pub mod front;
pub mod gateway;
pub mod generation;
pub mod json_line;
mod line;
pub mod listen;
pub mod log_filter;
pub mod log_line;
pub mod log_queue;
pub mod metrics;
mod outgoing;
mod patient;
mod preface;
mod problem;
mod prometheus_text;
mod record;
mod refusals;
pub mod reload;
mod room;
pub mod serve;
pub mod settings;
pub mod signals;
mod streams;
pub mod tasks;
mod unread;
pub mod usage_error;

pub use crate::{
    admin::Admin,
    app::App,
    front::Front,
    gateway::{
        Addressing, AddressingSettings, Caller, Forwarded, Gateway, GatewaySettings, TrustedProxies, Tunnels,
        UpstreamName,
    },
    generation::{Generation, Routes},
    metrics::Metrics,
    outgoing::Outgoing,
    reload::Reload,
    serve::{Connections, Limits},
    tasks::Tasks,
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
        let (front, caller) = (Arc::clone(&front), Arc::new(Caller::new(address, line)));
        service_fn(move |request| {
            let (front, caller) = (Arc::clone(&front), Arc::clone(&caller));
            // On the heap: each of the futures around one another would hold it otherwise.
            let request = Box::new(request);
            async move { Ok::<_, Infallible>(front.answer(&caller, request).await) }
        })
    };
    serve::serve(listener, limits, service, &tasks, stop).await
}
