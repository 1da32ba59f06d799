//! Shared by the tests: the built binary as a child process, raw clients, and upstreams.
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
use message::{Response, send};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpSocket},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
    time::{sleep, timeout},
};
use upstream::{Upstream, ok};

pub(crate) mod http2;
pub(crate) mod message;
pub(crate) mod temp_file;
pub(crate) mod upstream;
#[path = "../../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;
mod within;

pub(crate) use watchdog::watch;
pub(crate) use within::{LIMIT, within};

/// Sends a request and reads its complete response.
pub(crate) async fn call(address: SocketAddr, method: &str, target: &str) -> Response {
    let response = send(address, &format!("{method} {target} HTTP/1.1"), "").await;
    assert!(response.is_complete || method == "HEAD", "incomplete: {response:?}");
    response
}

/// `retry-service` as a child process, which is killed when this is dropped.
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
        let mut logged = String::new();
        let address = loop {
            let line = within("the line with the address", log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the service did not start: {logged}"));
            logged += &line;
            if let Some((_, address)) = line.split_once("Serving http://") {
                break address.split('"').next().unwrap().parse().unwrap();
            }
        };
        Self { child, log, address }
    }

    /// The address of the admin listener, from the second line of the log.
    pub(crate) async fn admin(&mut self) -> SocketAddr {
        let line = self.next_log().await;
        let (_, address) = line.split_once("Admin on http://").expect(&line);
        address.split('"').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn next_log(&mut self) -> String {
        within("a log line", self.log.next_line()).await.unwrap().expect("a log line")
    }

    pub(crate) async fn rest_of_log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    /// Returns the next log line that contains `part`.
    pub(crate) async fn log_line(&mut self, part: &str) -> String {
        let mut skipped = String::new();
        let line = async {
            loop {
                let line = self.next_log().await;
                if line.contains(part) {
                    return line;
                }
                skipped = skipped.clone() + &line + "\n";
            }
        };
        match timeout(LIMIT, line).await {
            Ok(line) => line,
            Err(_) => panic!("{part:?} is not in the log: {skipped}"),
        }
    }

    /// Asks the process to stop, and returns the log lines that have not been read.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.signal("TERM").await;
        within("the end of the log", self.rest_of_log()).await
    }

    /// Suspends the process until [`resume`](Self::resume): it sees everything that arrives in between at once.
    #[cfg(target_os = "linux")]
    pub(crate) async fn suspend(&self) {
        self.signal("STOP").await;
        let stat = format!("/proc/{}/stat", self.id());
        let suspended = async {
            loop {
                let stat = std::fs::read_to_string(&stat).unwrap();
                // The state follows the name, which is in parentheses.
                if stat.rsplit_once(") ").unwrap().1.starts_with('T') {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        within("the suspension", suspended).await;
    }

    /// Resumes a suspended process.
    pub(crate) async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// The peak memory of the process so far, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let (_, peak) = status.split_once("VmHWM:").expect(&status);
        let (kilobytes, _) = peak.trim_start().split_once(" kB").expect(&status);
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    fn id(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }
}

/// The value of a metric. `name` includes the labels.
#[track_caller]
pub(crate) fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Reads the value of a metric from the admin listener.
pub(crate) async fn read_metric(admin: SocketAddr, name: &str) -> f64 {
    metric(&call(admin, "GET", "/metrics").await.text(), name)
}

/// Waits until a metric is 0.
pub(crate) async fn until_zero(admin: SocketAddr, name: &str) {
    until_metric(admin, name, |value| value == 0.0).await;
}

/// Waits until the value of a metric is as wanted.
pub(crate) async fn until_metric(admin: SocketAddr, name: &str, is_wanted: impl Fn(f64) -> bool) {
    let is_reached = async {
        while !is_wanted(read_metric(admin, name).await) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    within(format!("another value of {name}"), is_reached).await;
}

/// Flags of a gateway with short delays without jitter.
pub(crate) const QUICK: [&str; 5] = ["--forward", "--interval", "1ms", "--jitter", "none"];

pub(crate) async fn gateway(upstream: SocketAddr, more: &[&str]) -> Service {
    Service::start(upstream, &[&QUICK[..], more].concat()).await
}

/// A gateway to an upstream that responds to every request with an empty 200.
pub(crate) async fn gateway_and_upstream(flags: &[&str]) -> (Upstream, Service) {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, flags).await;
    (upstream, service)
}

pub(crate) async fn backend(script: &str) -> Backend {
    Backend::start(script.parse().unwrap()).await.unwrap()
}

/// The message of a log line.
pub(crate) fn message(line: &str) -> &str {
    let (_, message) = line.split_once("message = \"").expect(line);
    message.strip_suffix('"').expect(line)
}

/// The sample's backend, in this process. It delays all but every fourth response by `delay`.
pub(crate) async fn delayed_backend(delay: Duration) -> (SocketAddr, Backend) {
    let backend = Backend::start(Script::default().with_delay(delay)).await.unwrap();
    (backend.address(), backend)
}

/// A backend that counts requests, sends the same bytes in response to each, and closes the connection. If there are no
/// bytes it keeps the connection open.
pub(crate) async fn raw_backend(response: &'static str) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
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
            if response.is_empty() {
                held.push(stream);
            } else {
                let _ = stream.write_all(response.as_bytes()).await;
            }
        }
    });
    (address, requests, tasks)
}

/// An address that refuses connections: the socket is bound, so that no one else gets the address, but does not listen.
pub(crate) fn refusing() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}
