//! What `scripts/bench.sh` measures the gateway with and against; each part is a process of its own.
//!
//! ```text
//! bench backend <address> ok|flaky|busy|hang
//! bench bare-proxy <address> <upstream>
//! bench hold <address> <requests>
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a bench stops at the first surprise")]

use std::{convert::Infallible, env};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime};

mod backend;
mod bare_proxy;
mod hold;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        match arguments[..] {
            ["backend", address, behaviour] => backend::run(address, behaviour).await,
            ["bare-proxy", address, upstream] => bare_proxy::run(address, upstream).await,
            ["hold", address, requests] => hold::run(address, requests.parse().unwrap()).await,
            _ => panic!("usage: bench backend|bare-proxy|hold …"),
        }
    });
}

/// Serves HTTP/1.1 for ever.
async fn serve<B, F>(address: &str, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static)
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // A caller that leaves is none of the bench's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
