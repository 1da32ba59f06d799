//! Shared parts of the targets that use sockets: a gateway, its upstream, its clients, and a strict parser for the messages
//! between them.
//!
//! Everything runs in the fuzzer's thread while it waits for a result, so that nothing started by one input continues
//! during the next.

use std::{
    ffi::OsString,
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use retry_service::{LoadedSettings, Service};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::Notify,
    task::yield_now,
    time::{sleep, timeout},
};

pub mod http1;
pub mod mutate;

use http1::{End, Fault, Head, Reading, Request};

/// The longest wait. Anything slower is an error.
const LIMIT: Duration = Duration::from_secs(10);

/// After this time without a byte, a client assumes that the gateway is waiting for the rest of a request.
const QUIET: Duration = Duration::from_millis(3);

/// After this many turns of the runtime, written bytes have been noticed.
const TURNS: usize = 4;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// Runs a future, and all spawned tasks, until the future completes.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// A gateway and its upstream, which both run until the process ends.
pub struct Bench {
    gateway: SocketAddr,
    service: Service,
    upstream: Arc<Upstream>,
}

impl Bench {
    /// Starts both. The gateway makes one attempt for each request and keeps its Host.
    pub fn start() -> Self {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("the port");
            let upstream = Arc::<Upstream>::default();
            tokio::spawn(Arc::clone(&upstream).serve(listener));
            let (gateway, service) = start_gateway(address).await;
            Self { gateway, service, upstream }
        })
    }

    /// Connects to the gateway. The connection is reset when dropped, so that its port is free again at once.
    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.gateway).await.expect("the gateway listens");
        prepare(&stream);
        stream
    }

    /// Sets how the upstream responds from here on.
    pub fn respond(&self, response: Respond) {
        *self.upstream.state() = State { respond: response, ..State::default() };
    }

    /// Waits until no request is in flight, and closes connections on which the upstream has received part of a request.
    /// Has to be called after the clients are gone. Returns what the upstream received.
    pub async fn settle(&self) -> Received {
        let idle = async {
            while self.service.requests_in_flight() > 0 {
                yield_now().await;
            }
        };
        timeout(LIMIT, idle).await.expect("requests end once their clients are gone");
        // Everything sent to the upstream has arrived by now. After a few turns it has also been read.
        for _ in 0..TURNS {
            yield_now().await;
        }
        self.upstream.abort.notify_waiters();
        yield_now().await;
        std::mem::take(&mut self.upstream.state().received)
    }
}

async fn start_gateway(upstream: SocketAddr) -> (SocketAddr, Service) {
    let upstream = format!("--upstream=http://{upstream}");
    let args = ["retry-service", "--forward", &upstream, "--count=0", "--host=keep"];
    let limits = ["--timeout=5s", "--connect-timeout=5s", "--header-timeout=5s", "--client-timeout=5s"];
    let args = args.iter().chain(&limits).map(OsString::from);
    let settings = LoadedSettings::from_args(args).expect("the settings are valid");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the port");
    let service = Service::new(settings);
    tokio::spawn(service.clone().run(listener, pending()));
    (address, service)
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("a TCP option");
    stream.set_zero_linger().expect("a TCP option");
}

/// What a client received.
#[derive(Debug)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// `None` if the connection was still open.
    pub end: Option<End>,
}

/// Sends bytes, and reads until the gateway closes the connection or sends nothing more.
pub async fn call(stream: &mut TcpStream, bytes: &[u8]) -> Seen {
    let mut seen = Seen { bytes: Vec::new(), end: None };
    let (mut reader, mut writer) = stream.split();
    let mut send = pin!(writer.write_all(bytes));
    let mut sent = false;
    loop {
        let read = reader.read_buf(&mut seen.bytes);
        tokio::select! {
            biased;
            read = read => match read {
                Ok(0) => seen.end = Some(End::Closed),
                Ok(_) => continue,
                Err(_) => seen.end = Some(End::Reset),
            },
            // If this fails, reading reports why.
            _ = &mut send, if !sent => {
                sent = true;
                continue;
            }
            () = sleep(QUIET), if sent => {}
        }
        return seen;
    }
}

/// Sends bytes, and reads until the gateway closes the connection.
pub async fn call_to_the_end(stream: &mut TcpStream, bytes: &[u8]) -> (Vec<u8>, End) {
    let mut seen = Vec::new();
    let end = async {
        // If this fails, reading reports why.
        let _ = stream.write_all(bytes).await;
        match stream.read_to_end(&mut seen).await {
            Ok(_) => End::Closed,
            Err(_) => End::Reset,
        }
    };
    let end = timeout(LIMIT, end).await.expect("a response, or the end of the connection");
    (seen, end)
}

/// How the upstream responds.
#[derive(Clone, Default)]
pub enum Respond {
    /// With an empty 200 to each complete request, on a persistent connection.
    #[default]
    Ok,
    /// With these bytes to each request head, in several writes, and then closes the connection.
    Bytes(Vec<Vec<u8>>),
}

/// What the upstream received.
#[derive(Debug, Default)]
pub struct Received {
    /// The number of heads, complete or not.
    pub heads: usize,
    /// The complete requests.
    pub requests: Vec<Request>,
    /// Why some of it is not what a gateway may send.
    pub faults: Vec<String>,
}

#[derive(Default)]
struct State {
    respond: Respond,
    received: Received,
}

/// An upstream with a strict parser.
#[derive(Default)]
struct Upstream {
    state: Mutex<State>,
    /// Closes connections on which part of a request has arrived.
    abort: Notify,
}

impl Upstream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            prepare(&stream);
            let upstream = Arc::clone(&self);
            tokio::spawn(async move { upstream.connection(stream).await });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let respond = self.state().respond.clone();
            let complete = match respond {
                Respond::Ok => self.complete_request(&mut stream, &mut bytes).await?,
                Respond::Bytes(parts) => return self.play(&mut stream, &mut bytes, &parts).await,
            };
            if !complete {
                return Ok(());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
        }
    }

    /// Returns whether another request arrived and was valid for a gateway to send.
    async fn complete_request(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let Some(head) = self.head(stream, bytes).await? else { return Ok(false) };
        if head.all("expect").iter().any(|expected| expected.eq_ignore_ascii_case(b"100-continue")) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        loop {
            match Request::read(bytes, &head) {
                Ok(request) => {
                    bytes.drain(..request.size);
                    self.state().received.requests.push(request);
                    return Ok(true);
                }
                Err(Fault::Incomplete) if self.more(stream, bytes).await? => {}
                Err(Fault::Incomplete) => return Ok(false),
                Err(Fault::Invalid(what)) => {
                    self.fault(what, bytes);
                    return Ok(false);
                }
            }
        }
    }

    /// Returns the next head when it is complete. `None` if there is none or it is invalid.
    async fn head(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<Head>> {
        loop {
            let head = Head::read(bytes, Reading::Strict).and_then(|head| {
                check(&head)?;
                Ok(head)
            });
            match head {
                Ok(head) => {
                    self.state().received.heads += 1;
                    return Ok(Some(head));
                }
                Err(Fault::Incomplete) if self.more(stream, bytes).await? => {}
                Err(Fault::Incomplete) => return Ok(None),
                Err(Fault::Invalid(what)) => {
                    self.fault(what, bytes);
                    return Ok(None);
                }
            }
        }
    }

    /// Reads more bytes. Returns whether there were any.
    async fn more(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let partial = !bytes.is_empty();
        tokio::select! {
            biased;
            read = stream.read_buf(bytes) => Ok(read? > 0),
            () = self.abort.notified(), if partial => Ok(false),
        }
    }

    async fn play(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>, parts: &[Vec<u8>]) -> io::Result<()> {
        if self.head(stream, bytes).await?.is_none() {
            return Ok(());
        }
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                // The gateway handles what arrived before on its own.
                sleep(Duration::from_millis(1)).await;
            }
            stream.write_all(part).await?;
        }
        stream.shutdown().await?;
        // Closing with unread bytes would send a reset, which could overtake the response.
        let end = async {
            while self.more(stream, bytes).await? {}
            Ok(())
        };
        timeout(LIMIT, end).await.unwrap_or(Ok(()))
    }

    fn fault(&self, what: String, bytes: &[u8]) {
        self.state().received.faults.push(format!("{what}\nin: {}", bytes.escape_ascii()));
    }
}

/// Checks that a gateway may send this head.
fn check(head: &Head) -> Result<(), Fault> {
    let fault = |what: String| Err(Fault::Invalid(what));
    let parts: Vec<_> = head.start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return fault(format!("an invalid request line: {:?}", head.start));
    };
    if !http1::is_token(method.as_bytes()) {
        return fault(format!("an invalid method: {method:?}"));
    }
    let is_path = target.starts_with('/') || target == "*" && method == "OPTIONS";
    if !is_path || target.contains(|c: char| c == '#' || c.is_control()) {
        return fault(format!("an invalid target: {target:?}"));
    }
    let hosts = head.all("host");
    if !matches!(hosts[..], [host] if is_host(host)) {
        return fault(format!("an invalid Host: \"{}\"", hosts.join(&b"\", \""[..]).escape_ascii()));
    }
    head.framing(Reading::Strict).map(drop)
}

/// Returns whether this is a host with an optional port (RFC 9110, section 7.2), which may be empty.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (value, ""),
    };
    let is_port = port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_name = || {
        let escapes = host.split('%').skip(1);
        let is_escape = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte)) && { escapes }
            .all(is_escape)
    };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok() || is_future_address(address),
        None => is_name(),
    };
    is_host && is_port
}

/// `IPvFuture` (RFC 3986, section 3.2.2).
fn is_future_address(text: &str) -> bool {
    let parts = text.strip_prefix(['v', 'V']).and_then(|text| text.split_once('.'));
    parts.is_some_and(|(version, address)| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(is_part)
    })
}
