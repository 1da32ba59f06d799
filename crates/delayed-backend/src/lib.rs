//! The mock backend of the retry sample.
//!
//! `GET /hello` is answered `Hello World!!!`, five seconds late but for every fourth request,
//! which mimics network delays and a service that recovers. The binary does this on port 8080;
//! tests run the same backend in-process:
//!
//! ```
//! use std::sync::Arc;
//!
//! use delayed_backend::{App, Script, run};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}", listener.local_addr()?);
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let app = Arc::new(App::new(Script::default()));
//! let server = tokio::spawn(run(listener, app, async { drop(stopped.await) }));
//! // … call `url` …
//! # let _ = url;
//! drop(stop);
//! let connections = server.await?;
//! connections.drain(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use hyper::service::service_fn;
use tokio::net::TcpListener;

pub mod app;
pub mod cli;
pub mod duration;
pub mod error_payload;
pub mod listen;
pub mod log_line;
pub mod script;
pub mod serve;
pub mod signals;
pub mod usage_error;

pub use crate::app::App;
pub use crate::script::Script;
pub use crate::serve::Connections;

/// Serves `app` on `listener` until `stop` completes, and hands back the connections still open.
pub async fn run(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) -> Connections {
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    serve::serve(listener, service, stop).await
}
