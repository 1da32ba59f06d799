//! Which requests are sent again, and over which connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    QUICK, Service, gateway,
    message::{exchange, get, post, read_until},
    upstream::{Reply, Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Command,
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

/// A gateway that logs each attempt, and makes up to 1001.
async fn logging(upstream: SocketAddr, flags: &[&str]) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.env("RUST_LOG", "info").args(QUICK).args(["--listen", "127.0.0.1:0", "--count", "1000"]).args(flags);
    command.args(["--max-wait-interval", "10ms", "--budget-ratio", "off", "--upstream", &format!("http://{upstream}")]);
    Service::spawn(command).await
}

#[tokio::test]
async fn a_post_that_timed_out_waiting_for_a_connection_is_sent_when_there_is_one() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let mut service = logging(address, &["--upstream-max-connections", "1", "--attempt-timeout", "100ms"]).await;
    // The response is too long to be buffered, and its body is delayed.
    let mut first = TcpStream::connect(service.address).await.unwrap();
    first.write_all(b"GET /first HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
    let mut received = Vec::new();
    within("a request", read_request(&mut server, &mut received)).await.unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
    read_until(&mut first, "\r\n\r\n").await;
    let second = tokio::spawn(post(service.address));
    service.log_line("attempt 1").await;
    let rest = vec![b'x'; 1_000_000];
    let (sent, got) = tokio::join!(server.write_all(&rest), async {
        let mut body = vec![0; rest.len()];
        within("the rest", first.read_exact(&mut body)).await
    });
    sent.unwrap();
    got.unwrap();
    // The second request may use the same connection, or a new one.
    let read = async {
        let (mut another, _) = tokio::select! {
            request = read_request(&mut server, &mut received) => return (request.unwrap(), server),
            accepted = upstream.accept() => accepted.unwrap(),
        };
        (read_request(&mut another, &mut Vec::new()).await.unwrap(), another)
    };
    let (request, mut server) = tokio::select! {
        read = within("the second request", read) => read,
        response = second => panic!("the second request is over already: {response:?}"),
    };
    assert!(request.starts_with("POST / ") && request.ends_with("hello"), "{request}");
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
}

#[tokio::test]
async fn a_post_that_timed_out_connecting_is_sent_when_it_connects() {
    // The accept queue is full, so that further connections wait.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let upstream = socket.listen(1).unwrap();
    let address = upstream.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the accept queue does not fill");
    }
    let mut service = logging(address, &["--attempt-timeout", "100ms"]).await;
    let client = tokio::spawn(post(service.address));
    service.log_line("attempt 1").await;
    drop(queued);
    let serve = async {
        loop {
            let (mut stream, _) = upstream.accept().await.unwrap();
            // Connections that were queued, or abandoned by now, send nothing.
            if let Some(request) = read_request(&mut stream, &mut Vec::new()).await {
                assert!(request.starts_with("POST / ") && request.ends_with("hello"), "{request}");
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
            }
        }
    };
    let response = tokio::select! {
        response = within("a response", client) => response.unwrap(),
        () = serve => unreachable!(),
    };
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
}

/// The connections that two requests use, the second after a pause.
async fn connections(upstream: &Upstream, service: &Service, idle: Duration, second: &str) -> (usize, usize) {
    assert_eq!(get(service.address).await.status, 200);
    sleep(idle).await;
    assert_eq!(exchange(service.address, second).await.status, 200);
    let received = upstream.received();
    assert_eq!(received.len(), 2, "{received:?}");
    (received[0].connection, received[1].connection)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_connection_that_the_upstream_is_about_to_close_is_not_reused() {
    for field in ["keep-alive: timeout=1", "Keep-Alive: max=100, Timeout=1", "keep-alive: timeout=\"1\""] {
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 0\r\n\r\n"));
        let upstream = Upstream::playing([reply]).await;
        let service = gateway(upstream.address, &[]).await;
        let taken = connections(&upstream, &service, Duration::from_millis(1200), GET).await;
        assert_eq!(taken, (0, 1), "{field}");
    }
}

#[tokio::test]
async fn a_connection_that_stays_open_is_reused() {
    for field in ["keep-alive: timeout=60", "keep-alive: timeout=x", "x-none: 1"] {
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 0\r\n\r\n"));
        let upstream = Upstream::playing([reply]).await;
        let service = gateway(upstream.address, &[]).await;
        assert_eq!(connections(&upstream, &service, Duration::from_millis(1200), GET).await, (0, 0), "{field}");
    }
}

#[tokio::test]
async fn a_post_after_a_pause_uses_a_new_connection() {
    // Even if the limit allows only one connection.
    for flags in [&[][..], &["--upstream-max-connections", "1"]] {
        let upstream = Upstream::playing([ok("")]).await;
        let service = gateway(upstream.address, flags).await;
        let taken = connections(&upstream, &service, Duration::from_millis(1200), POST).await;
        assert_eq!(taken, (0, 1), "{flags:?}");
    }
}

#[tokio::test]
async fn a_post_with_an_idempotency_key_after_a_pause_reuses_a_connection() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &[]).await;
    let request = POST.replace("\r\nhost", "\r\nidempotency-key: \"1\"\r\nhost");
    assert_eq!(connections(&upstream, &service, Duration::from_millis(1200), &request).await, (0, 0));
}

/// Checks the response to a request that finds an idle upstream connection on which something has just happened.
///
/// While the gateway is suspended, the request arrives first, then bytes on more connections than epoll reports at once,
/// and then `event` happens on the idle connection. The gateway handles the request before epoll reports the event.
#[cfg(target_os = "linux")]
async fn check_after_event(request: &str, event: impl AsyncFn(&mut TcpStream)) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(upstream.local_addr().unwrap(), &["--header-timeout", "10m"]).await;
    let mut others = Vec::new();
    rlimit::increase_nofile_limit(8192).unwrap();
    for _ in 0..1100 {
        let mut other = TcpStream::connect(service.address).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        others.push(other);
    }
    let mut wrong = Vec::new();
    for _ in 0..20 {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await.unwrap();
        read_until(&mut client, "first").await;
        service.suspend().await;
        client.write_all(request.as_bytes()).await.unwrap();
        for other in &mut others {
            other.write_all(b"x").await.unwrap();
        }
        event(&mut server).await;
        wait_for_delivery(&server).await;
        service.resume().await;
        let serve = async {
            let mut connections = JoinSet::new();
            loop {
                let (mut another, _) = upstream.accept().await.unwrap();
                // The gateway may open a connection without using it.
                connections.spawn(async move {
                    if read_request(&mut another, &mut Vec::new()).await.is_some() {
                        let reply = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecond";
                        another.write_all(reply.as_bytes()).await.unwrap();
                    }
                });
            }
        };
        let mut response = Vec::new();
        tokio::select! {
            end = within("a response", client.read_to_end(&mut response)) => drop(end),
            () = serve => unreachable!(),
        };
        let response = support::message::Response::parse(&response);
        if (response.status, response.text().as_str()) != (200, "second") {
            wrong.push((response.status, response.text()));
        }
    }
    assert!(wrong.is_empty(), "{} of 20: {:?}", wrong.len(), wrong[0]);
}

/// Waits until the kernel has delivered what was sent. Over loopback it usually does so during the call that sends, but
/// not on a busy machine.
#[cfg(target_os = "linux")]
async fn wait_for_delivery(stream: &TcpStream) {
    const FIN_WAIT1: &str = "04";
    let local = format!(":{:04X}", stream.local_addr().unwrap().port());
    let peer = format!(":{:04X}", stream.peer_addr().unwrap().port());
    let is_delivered = |table: &str| {
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut sockets = sockets.filter(|fields| fields[1].ends_with(&local) && fields[2].ends_with(&peer));
        let [_, _, _, state, queues, ..] = sockets.next().unwrap()[..] else { unreachable!() };
        // A FIN is acknowledged, and no data is unacknowledged.
        state != FIN_WAIT1 && queues.starts_with("00000000:")
    };
    let delivered = async {
        while !is_delivered(&std::fs::read_to_string("/proc/net/tcp").unwrap()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within("the delivery", delivered).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_response_that_arrived_before_the_request_is_discarded() {
    let unsolicited = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for request in [GET, POST] {
        check_after_event(request, async |server| server.write_all(unsolicited).await.unwrap()).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_post_is_not_sent_on_a_connection_that_the_upstream_has_closed() {
    check_after_event(POST, async |server| server.shutdown().await.unwrap()).await;
}

#[tokio::test]
async fn the_idle_timeout_of_upstream_connections_can_be_set() {
    for (limit, expected) in [("200ms", (0, 1)), ("1h", (0, 0))] {
        let upstream = Upstream::playing([ok("")]).await;
        let service = gateway(upstream.address, &["--upstream-idle-timeout", limit]).await;
        assert_eq!(connections(&upstream, &service, Duration::from_millis(1200), GET).await, expected, "{limit}");
    }
}

#[tokio::test]
async fn a_long_response_arrives_even_if_every_connection_is_closed_after_part_of_it() {
    const LENGTH: usize = 4 << 20;
    const PART: usize = 512 << 10;
    let body = || (0..).flat_map(|number: u32| format!("{number},").into_bytes()).take(LENGTH);
    let all: Vec<u8> = body().collect();
    let upstream = Upstream::start(move |_, request| {
        let start = request.split_once("range: bytes=").map(|(_, rest)| rest.split('-').next().unwrap());
        let (first, status) = match start {
            None => (0, "200 OK".to_owned()),
            Some(first) => {
                let range = format!("content-range: bytes {first}-{}/{LENGTH}", LENGTH - 1);
                (first.parse().unwrap(), format!("206 Partial Content\r\n{range}"))
            }
        };
        let head = format!("HTTP/1.1 {status}\r\netag: \"v1\"\r\ncontent-length: {}\r\n\r\n", LENGTH - first);
        let part = &all[first..(first + PART).min(LENGTH)];
        Reply::new([head.as_bytes(), part].concat()).then_close()
    })
    .await;
    let service = gateway(upstream.address, &["--count", "3"]).await;
    let response = get(service.address).await;
    assert_eq!((response.status, response.body.len(), response.is_complete), (200, LENGTH, true));
    assert!(response.body.into_iter().eq(body()));
    assert_eq!(upstream.received().len(), 8);
}

#[tokio::test]
async fn a_long_response_without_progress_is_incomplete() {
    let incomplete = Reply::new("HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 1000000\r\n\r\nsome").then_close();
    let nothing = "HTTP/1.1 206 Partial Content\r\netag: \"v1\"\r\ncontent-length: 999996\r\n\
                   content-range: bytes 4-999999/1000000\r\n\r\n";
    let upstream = Upstream::playing([incomplete, Reply::new(nothing).then_close()]).await;
    let service = gateway(upstream.address, &["--count", "3"]).await;
    let response = get(service.address).await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, "some", false));
    assert_eq!(upstream.received().len(), 4);
}

/// h2 closes the connection, and with it all streams, if a response head is far too large.
#[tokio::test]
async fn a_request_whose_http2_connection_is_closed_by_another_response_is_retried() {
    let (requests, slow) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let respond = {
        let (requests, slow) = (Arc::clone(&requests), Arc::clone(&slow));
        move |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            let is_first = !requests.lock().unwrap().contains(&path);
            requests.lock().unwrap().push(path.clone());
            let slow = Arc::clone(&slow);
            async move {
                let mut response = Response::builder();
                match &*path {
                    "/slow" if is_first => {
                        slow.notify_one();
                        pending::<()>().await;
                    }
                    "/huge" if is_first => {
                        for number in 0..300 {
                            response = response.header(format!("x-{number}"), "v".repeat(1000));
                        }
                    }
                    _ => {}
                }
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from(path)).unwrap())
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--upstream-http2", "--threads", "1"]).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let _upstream = JoinSet::from_iter([{
        let connections = Arc::clone(&connections);
        async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, SeqCst);
                let server = http2::Builder::new(TokioExecutor::new());
                tasks.spawn(server.serve_connection(TokioIo::new(stream), service_fn(respond.clone())));
            }
        }
    }]);
    let address = service.address;
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        tokio::spawn(async move { exchange(address, request).await })
    };
    let first = ask("/slow");
    within("the request for /slow", slow.notified()).await;
    let second = ask("/huge");
    let response = within("/slow", first).await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "/slow"));
    within("/huge", second).await.unwrap();
    let requests = requests.lock().unwrap();
    assert_eq!(requests[..2], ["/slow", "/huge"]);
    assert_eq!(requests.iter().filter(|path| *path == "/slow").count(), 2, "{requests:?}");
    assert_eq!(connections.load(SeqCst), 2, "the first connection was shared");
}

/// The connection stays open with the body unsent, so that it cannot be used for another request.
#[tokio::test]
async fn a_rejected_response_to_an_unsent_body_closes_its_connection() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(upstream.local_addr().unwrap(), &["--upstream-max-connections", "1"]).await;
    let request = POST.replace("\r\nhost", "\r\nexpect: 100-continue\r\nhost").replace("hello", "");
    let client = tokio::spawn(exchange(service.address, request));
    let (mut first, _) = within("a connection", upstream.accept()).await.unwrap();
    let head = read_until(&mut first, "\r\n\r\n").await;
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    let both = "content-length: 3\r\ntransfer-encoding: chunked";
    first.write_all(format!("HTTP/1.1 401 No\r\n{both}\r\n\r\n3\r\nno!\r\n0\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(within("a response", client).await.unwrap().status, 502);
    let client = tokio::spawn(get(service.address));
    let (mut second, _) = within("another connection", upstream.accept()).await.unwrap();
    within("a request", read_request(&mut second, &mut Vec::new())).await.unwrap();
    second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
    assert_eq!(within("a response", client).await.unwrap().text(), "fine");
}
