//! Accepts connections and serves HTTP/1.1 and HTTP/2 (prior knowledge) on them, within limits.
//!
//! Stopping has two steps, because requests in flight deserve their answers: the server stops
//! accepting and hands back the [`Connections`] still open; [`Connections::drain`] lets them
//! finish, for as long as the caller has patience.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    line::Line,
    patient::{Patience, Patient},
    preface,
    tasks::Tasks,
};

/// How long to leave a listener alone that cannot accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a caller that has just come when the server stops has to say what it wants.
const LAST_WORD: Duration = Duration::from_millis(100);

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
    let patience = Arc::new(Patience { to_ask: limits.header_time, to_take: limits.caller_time });
    let room = Arc::new(Semaphore::new(limits.connections));
    let accept_all = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (stream, caller) = accept(&listener).await;
            let line = Line::default();
            let service = service(caller, line.clone());
            let stream = Patient::new(stream, Arc::clone(&patience), line);
            tasks.spawn(Arc::clone(&protocols).serve(stream, service, tasks.clone(), place));
        }
    };
    let mut accept_all = pin!(accept_all);
    tokio::select! {
        () = &mut accept_all => {}
        () = stop => {
            // Who is in the system's queue by now has been accepted as far as they can tell.
            let _ = poll_fn(|cx| Poll::Ready(accept_all.as_mut().poll(cx))).await;
        }
    }
    tasks.stop();
    Connections(tasks.clone())
}

/// The next connection, however many attempts at one fail before it.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
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
                log::warn!("Cannot accept connections: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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
    http2: http2::Builder<TokioExecutor>,
    limits: Limits,
}

impl Protocols {
    fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1.half_close(true).max_buf_size(limits.header_size).preserve_header_case(limits.preserve_header_case);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
            // Finds out callers that are gone without a word.
            .keep_alive_interval(limits.header_time)
            .keep_alive_timeout(limits.header_time);
        Self { http1, http2, limits }
    }

    /// Serves one connection to its end; it takes up a place for as long.
    ///
    /// Each stage is on the heap by itself, and none of it in the task, which is to be small: most of a connection's
    /// time passes in waiting.
    fn serve<S, B>(
        self: Arc<Self>,
        stream: Patient<TcpStream>,
        service: S,
        tasks: Tasks,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let opening = Box::pin(self.open(stream, service, tasks));
        async move {
            let _place = place;
            if let Some(connection) = opening.await
                && let Err(error) = connection.await
            {
                log::debug!("Connection ended early: {error}");
            }
        }
    }

    /// What serves the connection, once it is known what the caller speaks; none if it says nothing.
    async fn open<S, B>(
        self: Arc<Self>,
        stream: Patient<TcpStream>,
        service: S,
        tasks: Tasks,
    ) -> Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Some(if self.begin(stream.stream(), &tasks).await? {
            let connection = self.http2.serve_connection(TokioIo::new(stream.shared()), service);
            Box::pin(tasks.graceful(connection, http2::Connection::graceful_shutdown))
        } else {
            let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
            Box::pin(tasks.graceful(connection, http1::UpgradeableConnection::graceful_shutdown))
        })
    }

    /// Whether the caller speaks HTTP/2; none if it says nothing.
    async fn begin(&self, stream: &TcpStream, tasks: &Tasks) -> Option<bool> {
        let silent = async {
            tasks.stopping().await;
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            begin = timeout(self.limits.header_time, preface::is_http2(stream)) => begin.ok()?.ok(),
            () = silent => None,
        }
    }
}

/// The connections a server has open. Dropping this cuts them off.
#[derive(Debug)]
pub struct Connections(Tasks);

impl Connections {
    /// Lets requests in flight finish and closes idle connections, until all are closed or
    /// `patience` completes; whatever is still open then is cut off.
    pub async fn drain(self, patience: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.0.all_ended() => {}
            () = patience => {
                let left = self.0.count();
                log::warn!("Connections cut off, as they did not end in time: {left}");
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.cut();
    }
}
