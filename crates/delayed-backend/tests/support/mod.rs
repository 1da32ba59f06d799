//! What the tests share: a client on plain sockets, and the program as a child process.

#![allow(dead_code, reason = "each test uses only a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the message")]

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

pub(crate) mod observe;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod watchdog;

pub(crate) use watchdog::watch;

/// Sends a request, and returns everything up to the end of the connection.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
    watch();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

/// Returns a request with `Connection: close`.
pub(crate) fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
}

/// Reads one response that ends with this body, and leaves the connection open.
pub(crate) async fn read_response(stream: &mut TcpStream, body: &str) -> String {
    let mut response = Vec::new();
    while !(response.ends_with(body.as_bytes()) && contains(&response, b"\r\n\r\n")) {
        let read = stream.read_buf(&mut response).await.unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&response));
    }
    String::from_utf8(response).unwrap()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The program as a child process, which is killed when this is dropped.
pub(crate) struct Backend {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    output: Option<Lines<BufReader<ChildStdout>>>,
    pub(crate) address: SocketAddr,
    pub(crate) first_line: String,
}

impl Backend {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command).await
    }

    pub(crate) async fn spawn(mut command: Command) -> Self {
        watch();
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let first_line = log.next_line().await.unwrap().expect("a line at start");
        let (_, address) = message(&first_line).split_once("://").unwrap();
        let address = address.parse().unwrap();
        let output = child.stdout.take().map(|output| BufReader::new(output).lines());
        Self { child, log, output, address, first_line }
    }

    pub(crate) async fn next_log(&mut self) -> String {
        self.log.next_line().await.unwrap().expect("another line of the log")
    }

    /// Returns the next line of standard output, which must have been piped.
    pub(crate) async fn next_output(&mut self) -> String {
        self.output.as_mut().unwrap().next_line().await.unwrap().expect("another line of output")
    }

    pub(crate) async fn rest_of_log(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("still running").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }
}

/// Returns the message in a line of the log.
pub(crate) fn message(line: &str) -> &str {
    let (_, message) = line.split_once("message = \"").expect(line);
    message.strip_suffix('"').expect(line)
}
