//! An HTTP/1.1 and HTTP/2 (prior knowledge) server with limits on its clients.

use std::{
    convert::Infallible, error::Error, future::pending, hint::black_box, net::SocketAddr, pin::Pin, sync::Arc,
    time::Duration,
};

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

/// The initial size of hyper's buffers.
const HYPER_BUFFER_SIZE: usize = 8 * 1024;

/// How long to wait for a connection to end before another idle one is closed.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);

/// How much of a request body is read at once, at least if as much has arrived. hyper's buffer may become twice as large.
const READ_SIZE: usize = 64 * 1024;

/// How many connections have such buffers. Those that are opened while there are as many have buffers for the largest
/// head: many connections must not take much memory, and are rarely all fast.
const LARGE_BUFFERS: usize = 256;

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
        let read_size = if open.count() < LARGE_BUFFERS { READ_SIZE } else { 0 };
        let guards = (permit, open.insert(state.clone()));
        let service = new_service(&worker.context, address, state.clone());
        let serving = Box::pin(Arc::clone(&server).open(stream, state, read_size, service));
        // On the heap, so that the task of a waiting connection is small.
        tasks.spawn_on(&worker.runtime, async move {
            if let Some(driver) = serving.await
                && let Err(error) = driver.await
            {
                log::debug!("Connection ended early: {error}");
            }
            drop(guards);
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
    limits: Arc<Limits>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Server {
    fn new(limits: Limits) -> Self {
        Self { limits: Arc::new(limits) }
    }

    /// The limit on heads is the same whatever the size of the buffers, which is at least that of a head.
    fn http1(&self, read_size: usize) -> http1::Builder {
        let Limits { max_header_size, preserve_header_case, .. } = *self.limits;
        let mut http1 = http1::Builder::new();
        http1
            .half_close(true)
            .max_header_size(max_header_size)
            .max_buf_size(read_size.max(max_header_size))
            .preserve_header_case(preserve_header_case);
        http1
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
    async fn open<S, B>(
        self: Arc<Self>,
        stream: HandedOver,
        state: ConnectionState,
        read_size: usize,
        service: S,
    ) -> Option<Driver>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Limits { header_timeout, client_timeout, .. } = *self.limits;
        let registered = stream.register();
        let mut stream =
            registered.inspect_err(|error| log::debug!("Connection closed before it was served: {error}")).ok()?;
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
            // hyper allocates the write buffer first, but while a request waits, only the read buffer is in use. This leaves
            // memory that was used before to the read buffer, and to the write buffer memory that takes no space yet.
            let used_before = black_box(Vec::<u8>::with_capacity(HYPER_BUFFER_SIZE));
            let connection = Box::pin(self.http1(read_size).serve_connection(io, service).with_upgrades());
            drop(used_before);
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
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::service::service_fn;
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
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

    /// A connection that records the size of the largest buffer that hyper offers it.
    struct Recorded {
        io: DuplexStream,
        largest: Arc<AtomicUsize>,
    }

    impl AsyncRead for Recorded {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.largest.fetch_max(buf.remaining(), Relaxed);
            Pin::new(&mut self.io).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Recorded {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    /// Serves a connection whose requests are answered with the length of the largest frame of their bodies. Returns its
    /// client, and the size of the largest buffer of its reads.
    fn serve_one(read_size: usize) -> (DuplexStream, Arc<AtomicUsize>) {
        let (near, far) = duplex(2 << 20);
        let largest = Arc::<AtomicUsize>::default();
        let io = TokioIo::new(Recorded { io: near, largest: Arc::clone(&largest) });
        let service = service_fn(async |request: Request<Incoming>| {
            let (mut body, mut longest) = (request.into_body(), 0);
            while let Some(Ok(frame)) = body.frame().await {
                longest = longest.max(frame.data_ref().map_or(0, Bytes::len));
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(longest.to_string()))))
        });
        let connection = Server::new(Limits::default()).http1(read_size).serve_connection(io, service);
        tokio::spawn(connection);
        (far, largest)
    }

    /// Reads a response, whose body is not empty.
    async fn read_response(client: &mut DuplexStream) -> String {
        let mut read = Vec::new();
        let complete = async {
            while String::from_utf8_lossy(&read).split_once("\r\n\r\n").is_none_or(|(_, body)| body.is_empty()) {
                if client.read_buf(&mut read).await.unwrap() == 0 {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(20), complete).await.expect("a response");
        String::from_utf8(read).unwrap()
    }

    fn upload(length: usize) -> Vec<u8> {
        format!("PUT / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length)).into_bytes()
    }

    /// A head of this length.
    fn head(length: usize) -> Vec<u8> {
        let (start, end) = ("GET / HTTP/1.1\r\nx: ", "\r\n\r\n");
        format!("{start}{}{end}", "y".repeat(length - start.len() - end.len())).into_bytes()
    }

    #[tokio::test]
    async fn bodies_are_read_in_large_pieces_and_buffers_are_limited() {
        let max_head = Limits::default().max_header_size;
        for (read_size, size) in [(READ_SIZE, READ_SIZE), (0, max_head)] {
            let (mut client, largest) = serve_one(read_size);
            client.write_all(&upload(1 << 20)).await.unwrap();
            let response = read_response(&mut client).await;
            let (_, longest) = response.rsplit_once('\n').unwrap();
            assert!((size..2 * size).contains(&longest.parse().unwrap()), "{response}");
            // A slow head gets no larger buffer, whatever came before it.
            for byte in head(max_head) {
                client.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            assert!(read_response(&mut client).await.starts_with("HTTP/1.1 200 "));
            assert!(largest.load(Relaxed) < 2 * size, "{largest:?}");
        }
    }

    #[tokio::test]
    async fn the_limit_on_heads_does_not_depend_on_the_size_of_reads() {
        let max_head = Limits::default().max_header_size;
        for read_size in [READ_SIZE, 0] {
            for before in [Vec::new(), head(100), upload(100), upload(100_000)] {
                for piece in [usize::MAX, 5000] {
                    for (length, status) in [(max_head, "200"), (max_head + 1, "431")] {
                        let (mut client, _) = serve_one(read_size);
                        let sent = [&before[..], &head(length)].concat();
                        for piece in sent.chunks(piece.min(sent.len())) {
                            client.write_all(piece).await.unwrap();
                            tokio::task::yield_now().await;
                        }
                        client.shutdown().await.unwrap();
                        let mut responses = String::new();
                        timeout(Duration::from_secs(20), client.read_to_string(&mut responses)).await.unwrap().unwrap();
                        let last = responses.rfind("HTTP/1.1 ").map(|at| &responses[at + 9..at + 12]);
                        let context = format!("{read_size}, behind {} bytes, by {piece}", before.len());
                        assert_eq!(last, Some(status), "{context}: {responses}");
                        assert_eq!(
                            responses.matches("HTTP/1.1 ").count(),
                            1 + usize::from(!before.is_empty()),
                            "{context}"
                        );
                    }
                }
            }
        }
    }
}
