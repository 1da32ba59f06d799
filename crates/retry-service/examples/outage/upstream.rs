//! The upstream: a process that can be killed, and that logs each request when it arrives and when it is responded to.

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io::Write as _,
    net::TcpListener as PortProbe,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::{Micros, now};

/// Serves until the process is killed, or on SIGTERM until all requests have been responded to.
pub(crate) async fn serve(address: &str, delay: Duration, log: &Path) {
    let log = Arc::new(OpenOptions::new().append(true).create(true).open(log).unwrap());
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    write(&log, '=', "listening");
    let listener = TcpListener::bind(address).await.unwrap();
    println!("listening");
    let (stopped, connections) = (CancellationToken::new(), TaskTracker::new());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = terminated.recv() => break,
        };
        stream.set_nodelay(true).unwrap();
        let (log, stopped) = (Arc::clone(&log), stopped.clone());
        connections.spawn(async move {
            let service = service_fn(|request| respond(request, delay, &log));
            let mut connection = Box::pin(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = &mut connection => return,
                () = stopped.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    stopped.cancel();
    connections.close();
    connections.wait().await;
}

async fn respond(
    request: Request<Incoming>,
    delay: Duration,
    log: &File,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let name = format!("{} {}", request.method(), request.uri().path());
    write(log, '+', &name);
    let path = request.uri().path().to_owned();
    request.into_body().collect().await?;
    sleep(delay).await;
    write(log, '-', &name);
    Ok(Response::new(Full::from(path)))
}

/// Writes a line at once, so that nothing is lost when the process is killed.
fn write(mut log: &File, event: char, what: &str) {
    log.write_all(format!("{} {event} {what}\n", now()).as_bytes()).unwrap();
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Event {
    Listening,
    Arrived,
    Responded,
}

/// A line of the log.
pub(crate) struct Record {
    pub(crate) at: Micros,
    pub(crate) event: Event,
    /// The number of the request, which is its path.
    pub(crate) request: usize,
}

/// The process, and how it is started again.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    delay: Duration,
    log: PathBuf,
    process: Option<Child>,
    /// From when the process was told to stop until it listened again.
    pub(crate) outages: Vec<Range<Micros>>,
}

impl Upstream {
    pub(crate) async fn start(folder: &Path, delay: Duration) -> Self {
        let mut upstream =
            Self { port: free_port(), delay, log: folder.join("upstream.log"), process: None, outages: Vec::new() };
        upstream.listen().await;
        upstream
    }

    /// Starts the process, and waits until it listens.
    pub(crate) async fn listen(&mut self) {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("upstream").arg(format!("127.0.0.1:{}", self.port)).arg(self.delay.as_millis().to_string());
        let mut process = command.arg(&self.log).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        lines.next_line().await.unwrap().expect("the upstream starts");
        self.process = Some(process);
    }

    /// Stops the process with a signal.
    pub(crate) async fn stop(&mut self, signal: &str) -> Micros {
        let mut process = self.process.take().unwrap();
        let id = process.id().unwrap().to_string();
        let begin = now();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().await.unwrap().success());
        process.wait().await.unwrap();
        begin
    }

    /// Stops the process, and starts it after some time.
    pub(crate) async fn restart(&mut self, signal: &str, away: Duration) {
        let begin = self.stop(signal).await;
        sleep(away).await;
        self.listen().await;
        self.outages.push(begin..now());
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Record {
    let fields: Vec<_> = line.split(' ').collect();
    let event = match fields[1] {
        "=" => Event::Listening,
        "+" => Event::Arrived,
        _ => Event::Responded,
    };
    let request = fields.get(3).map_or(0, |path| path[1..].parse().unwrap());
    Record { at: fields[0].parse().unwrap(), event, request }
}

/// Returns a port below those of clients. Otherwise a client could get it while nobody listens, and connect to itself.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..30_000);
        if PortProbe::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
