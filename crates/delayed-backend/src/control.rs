//! The control server: changes the backend while it runs, on a port of its own.
//!
//! It is off unless asked for, and has no authentication: anybody who can reach the port can use it.

mod api;
mod endpoints;
mod event_stream;
mod page;
mod reply;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::server::Server;
use crate::server::accept::accept;
use crate::server::drain::Connections;

/// The limits of the control server, so that clients that do nothing cannot keep others from using it.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The maximum number of connections. More wait in the backlog.
    connections: usize,
    /// The time that a client has for the head of a request, also for the first byte of the next one.
    head_time: Duration,
    /// The time that a client has for the body of a request.
    body_time: Duration,
    /// The time for which a client can read nothing while there is something for it.
    stall_time: Duration,
}

/// Four times as many connections as there can be readers of the events. The times are long for a local network, and for
/// what a person types into `nc`.
const LIMITS: Limits = Limits {
    connections: 256,
    head_time: Duration::from_secs(30),
    body_time: Duration::from_secs(30),
    stall_time: Duration::from_secs(60),
};

/// Serves the control API of `server` on this listener, until it is dropped.
pub(crate) async fn run(listener: TcpListener, server: Arc<Server>) -> Infallible {
    run_within(LIMITS, listener, server).await
}

async fn run_within(limits: Limits, listener: TcpListener, server: Arc<Server>) -> Infallible {
    let mut connections = Connections::default();
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Fails only if the semaphore is closed, which it never is.
        let permit = Arc::clone(&permits).acquire_owned().await.ok();
        let (stream, _) = accept(&listener).await;
        // Other systems have no such option. Fails only if the connection has ended.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stall_time));
        let server = Arc::clone(&server);
        let is_local = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        connections.add(|watcher| async move {
            let service = service_fn(|request| api::handle(&server, is_local, limits.body_time, request));
            let mut protocol = http1::Builder::new();
            protocol.timer(TokioTimer::new()).header_read_timeout(limits.head_time);
            if let Err(error) = watcher.watch(protocol.serve_connection(TokioIo::new(stream), service)).await {
                log::debug!("Control connection closed: {error}");
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::script::Script;

    const LONG: Duration = Duration::from_secs(60);

    const LIMITS: Limits = Limits { connections: 2, head_time: LONG, body_time: LONG, stall_time: LONG };
    const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// Starts a control server with these limits and stubs, and connections to it that send a text and do nothing more. Sends another
    /// text, and returns what arrives for it first.
    async fn exchange(limits: Limits, stubs: &str, others: &[&str], text: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server::new(Script::ok()));
        server.set_stubs(stubs.parse().unwrap());
        let _running = tokio::spawn(run_within(limits, listener, server));
        let mut connections = Vec::new();
        for text in others {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            connections.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut response = Vec::with_capacity(4096);
        timeout(LONG, stream.read_buf(&mut response)).await.unwrap().unwrap();
        String::from_utf8(response).unwrap()
    }

    #[tokio::test]
    async fn silent_connections_do_not_keep_others_out() {
        let limits = Limits { head_time: Duration::from_millis(50), ..LIMITS };
        let response = exchange(limits, "", &[""; 5], HEALTH).await;
        assert!(response.ends_with("\r\n\r\nok"), "{response}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn clients_that_read_nothing_do_not_keep_others_out() {
        let limits = Limits { stall_time: Duration::from_millis(50), ..LIMITS };
        // More than the kernel buffers.
        let stubs = format!("#{}", "x".repeat(16 << 20));
        let response = exchange(limits, &stubs, &["GET /stubs HTTP/1.1\r\nhost: localhost\r\n\r\n"; 3], HEALTH).await;
        assert!(response.ends_with("\r\n\r\nok"), "{response}");
    }

    #[tokio::test]
    async fn a_body_has_a_time_limit() {
        let limits = Limits { body_time: Duration::from_millis(50), ..LIMITS };
        let text = "PUT /script HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\no";
        let response = exchange(limits, "", &[], text).await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        assert!(response.ends_with(r#"{"error":"the body has not arrived within 50ms"}"#), "{response}");
    }
}
