#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "each test file uses a part, and a failed expectation is the message"
)]
//! Servers for tests: one that replies by a script and records the requests, and one that sends bytes.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
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
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

#[path = "../../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

pub(crate) use watchdog::watch;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Does not reply.
    Hang,
    /// Replies 200 with this text.
    Ok(&'static str),
    /// Replies 200 with this text after this time.
    Late(Duration, &'static str),
    /// Replies 200, unless this is set: then resets it, and does not reply.
    HangOnce(Arc<AtomicBool>),
    /// Replies with this status and text.
    Status(u16, &'static str),
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) version: Version,
    /// That of the URL, which only HTTP/2 has.
    pub(crate) authority: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) connection: usize,
}

/// A server that replies by a script and repeats the last reply. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, script, |_, stream| ready(Some(stream)))
    }

    /// Serves what `shake` returns for each connection and its number, from 0. `None` closes the connection.
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
                        service_fn(|request| response(request, connection, Arc::clone(&script), Arc::clone(&log)));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen, tasks }
    }

    /// Stops listening, and then closes the connections.
    pub(crate) async fn stop(mut self) -> Vec<Seen> {
        self.tasks.shutdown().await;
        self.seen()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns a builder for a client of this server, with three retries, short waits, and a timeout that is long enough
    /// for any response.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.address)).policy(quick(3)).timeout(Duration::from_millis(500))
    }
}

/// An address that nothing else listens on, for a server that goes away and comes back. Until a server listens,
/// connections are refused.
pub(crate) struct Address(TcpSocket);

impl Address {
    pub(crate) fn new() -> Self {
        watch();
        Self(bind("127.0.0.1:0".parse().unwrap()).unwrap())
    }

    pub(crate) fn get(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn listen(&self) -> TcpListener {
        bind(self.get()).unwrap().listen(1024).unwrap()
    }

    pub(crate) fn serve(&self, script: impl IntoIterator<Item = Reply>) -> Server {
        Server::start_on(self.listen(), script, |_, stream| ready(Some(stream)))
    }

    /// Returns a builder for a client, with three retries and short waits.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.get())).policy(quick(3))
    }
}

/// Returns a socket whose address another one may have too, as long as only one of them listens.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, met).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Longer than anything takes in a test.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

async fn response(
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
            authority: head.uri.authority().map(ToString::to_string),
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
            connection,
        });
        script[(log.len() - 1).min(script.len() - 1)].clone()
    };
    let (status, text) = match reply {
        Reply::Hang => pending().await,
        Reply::HangOnce(flag) if flag.swap(false, SeqCst) => pending().await,
        Reply::HangOnce(_) => (200, ""),
        Reply::Ok(text) => (200, text),
        Reply::Late(time, text) => {
            sleep(time).await;
            (200, text)
        }
        Reply::Status(status, text) => (status, text),
    };
    let response = Response::builder().status(status).header("content-type", "text/plain");
    Ok(response.body(Full::from(text)).unwrap())
}

/// Returns a policy with short waits.
pub(crate) fn quick(count: u32) -> RetryPolicy {
    RetryPolicy::builder().count(count).interval(Duration::from_millis(1)).build().unwrap()
}

/// Starts a server that reads the head of one request from each connection, writes the next of `responses` and closes.
/// Returns its address and the number of connections.
pub(crate) async fn raw_server(responses: Vec<&'static [u8]>) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
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
            let response = responses[number.min(responses.len() - 1)];
            read_head(&mut stream).await;
            let _ = stream.write_all(response).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, connections, tasks)
}

/// Reads to the end of a request's head, or of the stream.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
}
