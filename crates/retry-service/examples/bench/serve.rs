//! A minimal HTTP/1.1 server.

use std::convert::Infallible;

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves HTTP/1.1 until the process is killed.
pub(crate) async fn serve<B, F>(address: &str, respond: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static)
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let respond = respond.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            // Clients may disconnect.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
