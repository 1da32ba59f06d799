#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test file uses a part, and a failed expectation is the message"
)]
//! Servers for tests: one that answers by a script and remembers what arrived, and one that speaks bytes.

use std::{
    convert::Infallible,
    future::{pending, ready},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use retry_client::{Client, ClientBuilder, RetryPolicy};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[path = "../../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

pub(crate) use watchdog::watch;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Never answers.
    Hang,
    /// Answers 200 with this text.
    Ok(&'static str),
    /// Answers with this status and text.
    Status(u16, &'static str),
}

/// What arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) connection: usize,
}

/// A server that replies by script, the last reply for ever; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, script, |_, stream| ready(Some(stream)))
    }

    /// Speaks HTTP on what `shake` makes of each connection, told its number from 0; None closes it.
    pub(crate) fn start_on<S, F>(
        listener: TcpListener,
        script: impl IntoIterator<Item = Reply>,
        shake: impl Fn(usize, TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        watch();
        let address = listener.local_addr().unwrap();
        let script: Arc<[Reply]> = script.into_iter().collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&seen);
        tasks.spawn(async move {
            let connections = AtomicUsize::new(0);
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = connections.fetch_add(1, SeqCst);
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                let shaking = shake(connection, stream);
                serving.spawn(async move {
                    let Some(stream) = shaking.await else { return };
                    let service =
                        service_fn(|request| answer(request, connection, Arc::clone(&script), Arc::clone(&log)));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// A builder for a client of this server with three retries and short waits, and a timeout that no
    /// healthy answer on this machine misses.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.address)).retry(quick(3)).timeout(Duration::from_millis(500))
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    script: Arc<[Reply]>,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return pending().await };
    let reply = {
        let mut log = log.lock().unwrap();
        log.push(Seen {
            method: head.method,
            target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            version: head.version,
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
            connection,
        });
        script[(log.len() - 1).min(script.len() - 1)].clone()
    };
    let (status, text) = match reply {
        Reply::Hang => pending().await,
        Reply::Ok(text) => (200, text),
        Reply::Status(status, text) => (status, text),
    };
    let response = Response::builder().status(status).header("content-type", "text/plain");
    Ok(response.body(Full::from(text)).unwrap())
}

/// So many retries with waits too short to notice.
pub(crate) fn quick(count: u32) -> RetryPolicy {
    RetryPolicy::builder().count(count).interval(Duration::from_millis(1)).build().unwrap()
}

/// A server that reads one request's head from each connection, writes the next of `answers` and closes.
/// Returns how many connections it has had, too.
pub(crate) async fn raw_server(answers: Vec<&'static [u8]>) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, SeqCst);
            let answer = answers[number.min(answers.len() - 1)];
            read_head(&mut stream).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, connections, tasks)
}

/// Reads up to the end of a request's head, or of the stream.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
}
