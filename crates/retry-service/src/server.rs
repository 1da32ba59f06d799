//! Accepts connections and serves HTTP/1.1 and HTTP/2 (prior knowledge) on them, within limits.
//!
//! Stopping has two steps, because requests in flight deserve their answers: the server stops
//! accepting and hands back the [`Connections`] still open; [`Connections::drain`] lets them
//! finish, for as long as the caller has patience.

use std::{
    convert::Infallible, error::Error, future::pending, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration,
};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::server::{
    client_io::{Patience, Patient},
    connection::{Driven, Entry, LAST_WORD, Open},
    connection_state::Line,
    detect_protocol::Start,
    http2_streams::Streams,
    shutdown::Tasks,
};

pub(crate) mod client_io;
pub(crate) mod connection;
pub(crate) mod connection_state;
pub(crate) mod detect_protocol;
pub(crate) mod http2_streams;
mod parse_errors;
pub(crate) mod room;
pub mod shutdown;

/// How many requests a caller may have in flight on a connection of HTTP/2, and how much of each response waits for its
/// window. HAProxy and nginx allow as many.
const MAX_STREAMS: u32 = 100;
const STREAM_BUFFER: usize = 64 * 1024;

/// How long to leave a listener alone that cannot accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that is logged, at most.
const ACCEPT_LINES: Duration = Duration::from_secs(1);

/// How long a connection waits for a place before one more is asked to give way.
const PLACE_PAUSE: Duration = Duration::from_millis(50);

/// What one caller, or all of them together, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further callers wait in the system's queue.
    pub connections: usize,
    /// Bytes in the head of a request, at least 8 KiB; a larger one is answered 431.
    pub header_size: usize,
    /// How long the head of a request may take, and a connection be kept without one.
    pub header_time: Duration,
    /// How long a caller may take none of the bytes that wait for it.
    pub caller_time: Duration,
    /// Whether header names keep their case over HTTP/1.1.
    pub preserve_header_case: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            header_size: 16 * 1024,
            header_time: Duration::from_secs(30),
            caller_time: Duration::from_secs(60),
            preserve_header_case: false,
        }
    }
}

/// Serves on `listener` until `stop` completes; the listener is closed then. `service` is asked for a service
/// for each connection, by the caller's address.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    limits: Limits,
    service: impl Fn(SocketAddr, Line) -> S,
    tasks: &Tasks,
    stop: impl Future<Output = ()>,
) -> Connections
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let protocols = Arc::new(Protocols::new(limits));
    let (places, open) = (Arc::new(Semaphore::new(limits.connections)), Open::default());
    let start = |(stream, caller): (TcpStream, SocketAddr), place: Option<OwnedSemaphorePermit>| {
        let line = Line::default();
        let service = service(caller, line.clone());
        let held = (place, open.enter(line.clone()));
        tasks.spawn(Arc::clone(&protocols).serve(stream, line, service, tasks.clone(), held));
    };
    // Accepted, and waiting for a place.
    let mut waiting = None;
    let mut told = None;
    let accept_all = async {
        loop {
            waiting = Some(accept(&listener, &mut told).await);
            let place = place(&places, &open, limits.caller_time).await;
            if let Some(connection) = waiting.take() {
                start(connection, Some(place));
            }
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = stop => {}
    }
    // Queued connections already look established to their clients, so each is served, whatever the limit.
    waiting.take().into_iter().chain(queued(listener)).for_each(|connection| start(connection, None));
    tasks.stop();
    Connections(tasks.clone())
}

/// A place among the connections that may be open; an idle one gives way for it.
async fn place(places: &Arc<Semaphore>, open: &Open, patience: Duration) -> OwnedSemaphorePermit {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return place;
    }
    loop {
        open.close_idlest(patience);
        match timeout(PLACE_PAUSE, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => return place,
            // The semaphore is never closed.
            Ok(Err(_)) => pending().await,
            // None was idle then, or it takes its time to end.
            Err(_) => {}
        }
    }
}

/// The connections that the kernel has accepted, without the runtime, which may not know of them yet.
fn queued(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        loop {
            match listener.as_ref()?.accept() {
                Ok((stream, caller)) => {
                    stream.set_nonblocking(true).ok()?;
                    let stream = TcpStream::from_std(stream).ok()?;
                    let _ = stream.set_nodelay(true);
                    return Some((stream, caller));
                }
                Err(error) if is_the_peers(&error) => {}
                Err(_) => return None,
            }
        }
    })
}

/// The next connection, however many attempts at one fail before it.
/// The next connection. `told` is when the log was last told that there can be none.
async fn accept(listener: &TcpListener, told: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, caller)) => {
                // An answer is written at once; only its own packets would wait for each other.
                let _ = stream.set_nodelay(true);
                return (stream, caller);
            }
            Err(error) if is_the_peers(&error) => {
                log::debug!("Connection lost before it was accepted: {error}");
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= ACCEPT_LINES) {
                    *told = Some(Instant::now());
                    let tip = if is_want_of_descriptors(&error) { ": raise the limit on them (ulimit -n)" } else { "" };
                    log::warn!("Cannot accept connections: {error}{tip}");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no `ErrorKind`.
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// Whether the failure is of one connection, and says nothing of the next.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Both versions of HTTP, with their limits set.
struct Protocols {
    http1: http1::Builder,
    limits: Limits,
    patience: Arc<Patience>,
}

/// What a connection takes up until it ends.
type Held = (Option<OwnedSemaphorePermit>, Entry);

type Conversation = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Protocols {
    fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1.half_close(true).max_buf_size(limits.header_size).preserve_header_case(limits.preserve_header_case);
        let patience = Arc::new(Patience { to_ask: limits.header_time, to_take: limits.caller_time });
        Self { http1, limits, patience }
    }

    /// The streams of a connection of HTTP/2 share its limits, so each connection has a builder of its own.
    fn http2(&self, tasks: &Tasks, line: Line) -> http2::Builder<Streams> {
        let mut http2 = http2::Builder::new(Streams::new(tasks.clone(), self.limits.caller_time, line));
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.header_size).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            // Finds out callers that are gone without a word.
            .keep_alive_interval(self.limits.header_time)
            .keep_alive_timeout(self.limits.header_time);
        http2
    }

    /// Serves one connection to its end.
    ///
    /// Each stage is on the heap by itself, and none of it in the task, which is to be small: most of a connection's
    /// time passes in waiting.
    fn serve<S, B>(
        self: Arc<Self>,
        stream: TcpStream,
        line: Line,
        service: S,
        tasks: Tasks,
        held: Held,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let opening = Box::pin(self.open(stream, line, service, tasks));
        async move {
            let _held = held;
            if let Some(conversation) = opening.await
                && let Err(error) = conversation.await
            {
                log::debug!("Connection ended early: {error}");
            }
        }
    }

    /// What serves the connection, once it is known what the caller speaks; none if it says nothing.
    async fn open<S, B>(
        self: Arc<Self>,
        mut stream: TcpStream,
        line: Line,
        service: S,
        tasks: Tasks,
    ) -> Option<Conversation>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let start = self.start(&mut stream, &line, &tasks).await?;
        let stream = Patient::new(stream, start.bytes(), Arc::clone(&self.patience), line.clone());
        let stop = tasks.heard();
        Some(if start.is_http2() {
            let connection = self.http2(&tasks, line.clone()).serve_connection(TokioIo::new(stream.shared()), service);
            let shut_down = http2::Connection::graceful_shutdown;
            Box::pin(Driven::new(
                connection,
                shut_down,
                line,
                stop,
                Some(self.limits.header_time),
                self.limits.caller_time,
            ))
        } else {
            let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
            let shut_down = http1::UpgradeableConnection::graceful_shutdown;
            Box::pin(Driven::new(connection, shut_down, line, stop, None, self.limits.caller_time))
        })
    }

    /// The first bytes of a connection; none if there are none in time, or it is to end.
    async fn start(&self, stream: &mut TcpStream, line: &Line, tasks: &Tasks) -> Option<Start> {
        let unwanted = async {
            tokio::select! {
                () = tasks.stopping() => {}
                () = line.closed() => {}
            }
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            biased;
            start = timeout(self.limits.header_time, Start::read(stream)) => start.ok()?.ok(),
            () = unwanted => None,
        }
    }
}

/// The connections a server has open. Dropping this cuts them off.
#[derive(Debug)]
pub struct Connections(Tasks);

impl Connections {
    /// Lets requests in flight finish and closes idle connections, until all are closed or
    /// `patience` completes; whatever is still open then is cut off. Returns how many those are.
    pub async fn drain(self, patience: impl Future<Output = ()>) -> usize {
        tokio::select! {
            biased;
            () = self.0.all_ended() => 0,
            () = patience => self.0.count(),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.cut();
    }
}
