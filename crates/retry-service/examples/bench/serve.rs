//! A minimal HTTP server.

use std::{convert::Infallible, net::SocketAddr};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Serves HTTP/1.1, or else HTTP/2, until the process is killed.
pub(crate) async fn serve<B, F>(
    address: &str,
    is_http2: bool,
    respond: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
) where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let respond = respond.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(request, peer);
                async { Ok::<_, Infallible>(response.await) }
            });
            let stream = TokioIo::new(stream);
            // Clients may disconnect.
            let _ = if is_http2 {
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
            } else {
                http1::Builder::new().serve_connection(stream, service).await
            };
        });
    }
}
