//! An HTTP/1.1 and HTTP/2 (prior knowledge) server with limits on its clients.

use std::{convert::Infallible, error::Error, future::pending, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
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
    time::{sleep, timeout},
};

pub(crate) mod accept;
pub(crate) mod client_io;
pub(crate) mod connection_state;
pub(crate) mod detect_protocol;
pub(crate) mod disconnect;
pub(crate) mod graceful_shutdown;
pub(crate) mod http2_streams;
pub(crate) mod limits;
pub(crate) mod lingering_close;
pub(crate) mod open_connections;
pub(crate) mod tasks;
pub(crate) mod timer;
pub(crate) mod workers;

use self::{
    accept::Acceptor,
    client_io::ClientIo,
    connection_state::ConnectionState,
    detect_protocol::{is_http2, read_preface},
    graceful_shutdown::{CLOSE_DELAY, drive},
    http2_streams::{MAX_STREAMS, STREAM_BUFFER, StreamExecutor},
    limits::Limits,
    open_connections::OpenConnections,
    tasks::Tasks,
    workers::{HandedOver, Workers},
};

/// How long to wait for a connection to end before another idle one is closed.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);

/// Serves on `listener` until `shutdown` completes, and then closes the listener and starts to drain `tasks`.
/// `new_service` creates the service of a connection, which one of the `workers` serves.
pub(crate) async fn serve<T, S, B>(
    listener: TcpListener,
    limits: Limits,
    workers: &Workers<T>,
    new_service: impl Fn(&T, SocketAddr, ConnectionState) -> S,
    tasks: &Tasks,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let server = Arc::new(Server::new(limits));
    let (permits, open) = (Arc::new(Semaphore::new(limits.max_connections)), OpenConnections::default());
    let start = |(stream, address): (TcpStream, SocketAddr), permit: Option<OwnedSemaphorePermit>| {
        let worker = workers.least_busy();
        let stream = match worker.hand_over(stream) {
            Ok(stream) => stream,
            Err(error) => return log::debug!("Connection closed before it was served: {error}"),
        };
        let state = ConnectionState::new(Some(worker.count()));
        let guards = (permit, open.insert(state.clone()));
        let service = new_service(&worker.context, address, state.clone());
        let serving = Box::pin(Arc::clone(&server).open(stream, state, service));
        // On the heap, so that the task of a waiting connection is small.
        tasks.spawn_on(&worker.runtime, async move {
            let _guards = guards;
            if let Some(driver) = serving.await
                && let Err(error) = driver.await
            {
                log::debug!("Connection ended early: {error}");
            }
        });
    };
    let mut acceptor = Acceptor::new(listener);
    // Accepted, but waiting for a permit.
    let mut accepted = None;
    let accept_all = async {
        loop {
            accepted = Some(acceptor.accept().await);
            let permit = permit(&permits, &open, limits.client_timeout).await;
            if let Some(connection) = accepted.take() {
                start(connection, Some(permit));
            }
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = shutdown => {}
    }
    // Queued connections already look established to their clients, so each is served, whatever the limit.
    accepted.take().into_iter().chain(acceptor.close()).for_each(|connection| start(connection, None));
    tasks.start_drain();
    open.close_all();
}

/// Waits for a permit for a connection, and closes idle connections meanwhile.
async fn permit(permits: &Arc<Semaphore>, open: &OpenConnections, client_timeout: Duration) -> OwnedSemaphorePermit {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return permit;
    }
    loop {
        open.close_idlest(client_timeout);
        match timeout(EVICTION_INTERVAL, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => return permit,
            // The semaphore is never closed.
            Ok(Err(_)) => pending().await,
            // No connection was idle, or the idle one has not ended yet.
            Err(_) => {}
        }
    }
}

struct Server {
    http1: http1::Builder,
    limits: Arc<Limits>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Server {
    fn new(limits: Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1.half_close(true).max_buf_size(limits.max_header_size).preserve_header_case(limits.preserve_header_case);
        Self { http1, limits: Arc::new(limits) }
    }

    /// Each connection has its own builder, because its streams share one executor.
    fn http2(&self, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
        let mut http2 = http2::Builder::new(executor);
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.max_header_size).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            // Detects clients that are gone without closing the connection.
            .keep_alive_interval(self.limits.header_timeout)
            .keep_alive_timeout(self.limits.header_timeout);
        http2
    }

    /// Detects the protocol of a connection, and returns what serves it; `None` if it ends before that.
    async fn open<S, B>(self: Arc<Self>, stream: HandedOver, state: ConnectionState, service: S) -> Option<Driver>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Limits { header_timeout, client_timeout, .. } = *self.limits;
        let mut stream = stream.register().ok()?;
        let start = self.detect_protocol(&mut stream, &state).await?;
        let is_http2 = is_http2(&start);
        let io = TokioIo::new(ClientIo::new(stream, start, is_http2, Arc::clone(&self.limits), state.clone()));
        Some(if is_http2 {
            let executor = StreamExecutor::new(client_timeout, state.clone());
            let connection = Box::pin(self.http2(executor).serve_connection(io, service));
            let graceful_shutdown = http2::Connection::graceful_shutdown;
            let idle_timeout = Some(header_timeout);
            Box::pin(drive(connection, graceful_shutdown, state, idle_timeout, client_timeout))
        } else {
            let connection = Box::pin(self.http1.serve_connection(io, service).with_upgrades());
            let graceful_shutdown = http1::UpgradeableConnection::graceful_shutdown;
            Box::pin(drive(connection, graceful_shutdown, state, None, client_timeout))
        })
    }

    /// Reads the first bytes of a connection; `None` if there are none in time, or the connection is closed.
    async fn detect_protocol(&self, stream: &mut TcpStream, state: &ConnectionState) -> Option<BytesMut> {
        let closing = async {
            state.closing().await;
            sleep(CLOSE_DELAY).await;
        };
        tokio::select! {
            biased;
            start = timeout(self.limits.header_timeout, read_preface(stream)) => start.ok()?.ok(),
            () = closing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::{
        io::AsyncWriteExt as _,
        sync::{mpsc, oneshot},
    };

    use super::*;

    /// The preface, SETTINGS, and HEADERS with `GET / HTTP/2` for the host `a`.
    const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\0\x04\0\0\0\0\0\
        \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

    #[tokio::test]
    async fn the_streams_of_an_aborted_connection_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (sender, mut requests) = mpsc::unbounded_channel();
        let new_service = move |&(): &(), _, _| {
            let sender = sender.clone();
            service_fn(move |_| {
                let (in_flight, ended) = oneshot::channel::<()>();
                sender.send(ended).unwrap();
                async move {
                    let _in_flight = in_flight;
                    pending::<Result<Response<Full<Bytes>>, Infallible>>().await
                }
            })
        };
        let tasks = Tasks::default();
        let server = tasks.clone();
        tokio::spawn(async move {
            serve(listener, Limits::default(), &Workers::new(()), new_service, &server, pending()).await;
        });
        client.write_all(REQUEST).await.unwrap();
        let ended = requests.recv().await.unwrap();
        tasks.abort();
        assert!(timeout(Duration::from_secs(20), ended).await.expect("the stream ends").is_err());
    }
}
