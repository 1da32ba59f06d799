//! What the tests share: the built binary as a child process, raw clients, and upstreams.
#![allow(dead_code, reason = "each test crate uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use delayed_backend::{Backend, Script};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

pub(crate) mod http2;
pub(crate) mod message;
pub(crate) mod upstream;
#[path = "../../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

pub(crate) use watchdog::watch;

/// The limit on every wait: far longer than anything takes that happens at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `what`, which fails the test if it takes longer than [`LIMIT`].
#[track_caller]
pub(crate) fn within<F: IntoFuture>(what: impl std::fmt::Display, future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    async move { timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{at}: waited in vain for {what}")) }
}

/// Sends a request and reads until the server closes.
pub(crate) async fn call(address: SocketAddr, method: &str, target: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn parse(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
        let (status, headers) = head.split_once("\r\n").unwrap();
        Self {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn has_header(&self, line: &str) {
        assert!(self.headers.lines().any(|header| header == line), "{line:?} is not among {:?}", self.headers);
    }

    pub(crate) fn field(&self, name: &str) -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&self.body).expect(&self.body)[name].clone()
    }
}

/// `retry-service` as a child process; it dies with its handle.
pub(crate) struct Service {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub(crate) address: SocketAddr,
}

impl Service {
    pub(crate) async fn start(upstream: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.args(["--listen", "127.0.0.1:0", "--upstream", &format!("http://{upstream}")]).args(arguments);
        Self::spawn(command).await
    }

    pub(crate) async fn spawn(mut command: Command) -> Self {
        watch();
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = String::new();
        let address = loop {
            let line = within("a line with the address", log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the service did not start: {told}"));
            told += &line;
            if let Some((_, address)) = line.split_once("Serving http://") {
                break address.split('"').next().unwrap().parse().unwrap();
            }
        };
        Self { child, log, address }
    }

    /// The address of the admin listener, which the second line of the log names.
    pub(crate) async fn admin(&mut self) -> SocketAddr {
        let line = self.next_log().await;
        let (_, address) = line.split_once("Admin on http://").expect(&line);
        address.split('"').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn next_log(&mut self) -> String {
        within("another line of the log", self.log.next_line()).await.unwrap().expect("another line of the log")
    }

    pub(crate) async fn rest_of_log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    /// The next line of the log that contains `part`.
    pub(crate) async fn log_line(&mut self, part: &str) -> String {
        let mut told = String::new();
        let line = async {
            loop {
                let line = self.next_log().await;
                if line.contains(part) {
                    return line;
                }
                told = told.clone() + &line + "\n";
            }
        };
        match timeout(LIMIT, line).await {
            Ok(line) => line,
            Err(_) => panic!("{part:?} is not in the log: {told}"),
        }
    }

    /// Asks it to stop, and returns the lines of its log that have not been read.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.signal("TERM").await;
        within("the end of the log", self.rest_of_log()).await
    }

    /// Suspends the process until [`resume`](Self::resume): what arrives meanwhile is seen at once.
    #[cfg(target_os = "linux")]
    pub(crate) async fn suspend(&self) {
        self.signal("STOP").await;
        let stat = format!("/proc/{}/stat", self.id());
        let suspended = async {
            loop {
                let stat = std::fs::read_to_string(&stat).unwrap();
                // The state stands after the name, which is in parentheses.
                if stat.rsplit_once(") ").unwrap().1.starts_with('T') {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        within("the process to be suspended", suspended).await;
    }

    /// Ends a suspension.
    pub(crate) async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// The most memory that it has taken so far, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let (_, peak) = status.split_once("VmHWM:").expect(&status);
        let (kilobytes, _) = peak.trim_start().split_once(" kB").expect(&status);
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    fn id(&self) -> u32 {
        self.child.id().expect("still running")
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }
}

/// The value of one metric, labels included in its name.
#[track_caller]
pub(crate) fn metric(told: &str, name: &str) -> f64 {
    let line = told.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in {told}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until this metric is 0.
pub(crate) async fn until_zero(admin: SocketAddr, name: &str) {
    let is_zero = async {
        while metric(&call(admin, "GET", "/metrics").await.body, name) > 0.0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(format!("{name} to be 0"), is_zero).await;
}

/// A gateway's waits so short that no test notices them, and exact.
pub(crate) const QUICK: [&str; 5] = ["--forward", "--interval", "1ms", "--jitter", "none"];

pub(crate) async fn gateway(upstream: SocketAddr, more: &[&str]) -> Service {
    Service::start(upstream, &[&QUICK[..], more].concat()).await
}

pub(crate) async fn backend(script: &str) -> Backend {
    Backend::start(script.parse().unwrap()).await.unwrap()
}

/// The message of a line of the log.
pub(crate) fn message(line: &str) -> &str {
    let (_, message) = line.split_once("message = \"").expect(line);
    message.strip_suffix('"').expect(line)
}

/// The sample's backend in this process, late by `delay` but for every fourth request.
pub(crate) async fn delayed_backend(delay: Duration) -> (SocketAddr, Backend) {
    let backend = Backend::start(Script::default().with_delay(delay)).await.unwrap();
    (backend.address(), backend)
}

/// A backend that gives every request the same bytes, counts them and closes; nothing at all is a hang.
pub(crate) async fn raw_backend(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let requests = Arc::clone(&count);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            count.fetch_add(1, SeqCst);
            if answer.is_empty() {
                held.push(stream);
            } else {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (address, requests, tasks)
}

/// An address that refuses connections, and belongs to nobody else while the socket is held: bound,
/// and not listening yet.
pub(crate) fn refusing() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}
