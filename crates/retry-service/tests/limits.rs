//! Limits on what one client, or the upstream, can use of shared resources: time, connections, memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use support::{
    gateway,
    http2::{DATA, END_STREAM, GOAWAY, INITIAL_WINDOW, PREFACE, Peer, RST_STREAM, WINDOW_UPDATE},
    message::{Response, exchange, get, read_until},
    until_zero,
    upstream::{Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

#[tokio::test]
async fn an_incomplete_http2_preface_times_out() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &["--header-timeout", "300ms"]).await;
    for start in [&b"P"[..], b"PRI", &PREFACE[..PREFACE.len() - 1]] {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(start).await.unwrap();
        // Closed or reset.
        let _ =
            within(format_args!("the end after {}", start.escape_ascii()), client.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn a_method_may_begin_like_the_http2_preface() {
    for method in ["P", "PR", "PRI", "PRINT", "PRIVATE"] {
        let upstream = Upstream::playing([ok("printed")]).await;
        let service = gateway(upstream.address, &[]).await;
        // In two packets.
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(method.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        client.write_all(b" /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut received = Vec::new();
        within("a response", client.read_to_end(&mut received)).await.unwrap();
        let response = Response::parse(&received);
        assert_eq!((response.status, response.text().as_str()), (200, "printed"), "{method}");
        assert_eq!(upstream.only().line(), format!("{method} /x HTTP/1.1"));
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_even_if_its_client_answers_pings() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &["--header-timeout", "300ms"]).await;
    for requests in [0, 1] {
        let mut client = Peer::connect(service.address).await;
        for stream in (1..).step_by(2).take(requests) {
            client.request(END_STREAM, stream, "GET", "/", &[]).await;
            assert!(client.rest_of(stream).await.iter().all(|frame| frame.kind != GOAWAY));
        }
        // This acknowledges each PING.
        let end = async { while client.frame().await.is_some() {} };
        within(format!("the end after {requests} requests"), end).await;
    }
}

/// Its window is never opened, so that its responses never end. Each would occupy an upstream connection.
#[tokio::test]
async fn responses_that_an_http2_client_does_not_read_are_reset() {
    for length in [2, 1_000_000] {
        let upstream = Upstream::playing([ok(&"x".repeat(length))]).await;
        let flags = ["--client-timeout", "500ms", "--upstream-max-connections", "10"];
        let mut service = gateway(upstream.address, &[&flags[..], &ADMIN].concat()).await;
        let admin = service.admin().await;
        let mut client = Peer::connect_with_window(service.address, 0).await;
        let streams: Vec<u32> = (1..).step_by(2).take(20).collect();
        for stream in &streams {
            client.request(END_STREAM, *stream, "GET", "/", &[]).await;
        }
        let mut reset = Vec::new();
        while reset.len() < streams.len() {
            let frame = client.frame().await.expect("a reset of each stream");
            assert_ne!(frame.kind, GOAWAY, "{length}: {frame:?}");
            if frame.kind == RST_STREAM {
                reset.push(frame.stream);
            }
        }
        reset.sort_unstable();
        assert_eq!(reset, streams, "{length}");
        until_zero(admin, "retry_service_requests_in_flight").await;
        let response = get(service.address).await;
        assert_eq!((response.status, response.body.len(), response.is_complete), (200, length, true));
    }
}

/// An upstream whose responses have this length. Each request adds a permit.
async fn large_responses(length: usize) -> (SocketAddr, Arc<Semaphore>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let response: Arc<[u8]> = [head.into_bytes(), vec![b'x'; length]].concat().into();
    let requests = Arc::new(Semaphore::new(0));
    let count = Arc::clone(&requests);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (response, count) = (Arc::clone(&response), Arc::clone(&count));
            connections.spawn(async move {
                let mut bytes = Vec::new();
                while read_request(&mut stream, &mut bytes).await.is_some() {
                    count.add_permits(1);
                    if stream.write_all(&response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests, tasks)
}

/// The clients open the largest possible windows, and read nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn responses_that_http2_clients_do_not_read_use_little_memory() {
    const CLIENTS: u32 = 5;
    const STREAMS: u32 = 100;
    const LARGEST: u32 = i32::MAX as u32;
    rlimit::increase_nofile_limit(8192).unwrap();
    let (upstream, requests, _tasks) = large_responses(4 << 20).await;
    let service = gateway(upstream, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Peer::connect_with_window(service.address, LARGEST).await;
        client.send(WINDOW_UPDATE, 0, 0, &(LARGEST - 65_535).to_be_bytes()).await;
        for stream in (1..).step_by(2).take(STREAMS as usize) {
            client.request(END_STREAM, stream, "GET", "/", &[]).await;
        }
        clients.push(client);
    }
    let _all = within("all responses", requests.acquire_many(CLIENTS * STREAMS)).await.unwrap();
    // The gateway reads as much of them as it can buffer.
    sleep(Duration::from_secs(2)).await;
    let peak = service.peak_memory() >> 20;
    assert!(peak < 150, "{peak} MiB for {} unread responses", CLIENTS * STREAMS);
    drop(clients);
    assert_eq!(get(service.address).await.body.len(), 4 << 20);
}

#[tokio::test]
async fn idle_connections_are_closed_for_new_ones() {
    let upstream = Upstream::playing([ok("ok")]).await;
    let service = gateway(upstream.address, &["--max-connections", "5"]).await;
    let mut clients = JoinSet::new();
    let first = Arc::new(Semaphore::new(0));
    for _ in 0..5 {
        let (address, first) = (service.address, Arc::clone(&first));
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut received = Vec::new();
            for round in 0.. {
                if stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.is_err() {
                    return;
                }
                received.clear();
                while !received.ends_with(b"ok") {
                    if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                        return;
                    }
                }
                if round == 0 {
                    first.add_permits(1);
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let _all = within("all connections", first.acquire_many(5)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get(service.address).await.text(), "ok");
    }
}

/// The unread request does not delay the stop of the process either.
#[tokio::test]
async fn a_connection_to_an_upstream_that_reads_nothing_is_closed_with_its_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = ["--timeout", "500ms", "--drain-timeout", "10m"];
    let mut service = gateway(listener.local_addr().unwrap(), &[&flags[..], &ADMIN].concat()).await;
    let admin = service.admin().await;
    let length = 16 << 20;
    let mut request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, b'x');
    let client = tokio::spawn({
        let address = service.address;
        async move { exchange(address, request).await }
    });
    let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
    let mut head = Vec::new();
    // No more than the head is read.
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head", server.read_u8()).await.unwrap());
    }
    assert_eq!(within("a response", client).await.unwrap().status, 504);
    until_zero(admin, "retry_service_upstream_connections").await;
    until_zero(admin, "retry_service_requests_in_flight").await;
    service.signal("TERM").await;
    timeout(Duration::from_secs(15), service.exit()).await.expect("the exit");
    drop(server);
}

#[tokio::test]
async fn endless_interim_responses_do_not_extend_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _upstream = JoinSet::from_iter([async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                read_request(&mut stream, &mut Vec::new()).await;
                while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
    }]);
    let service = gateway(address, &["--timeout", "500ms", "--count", "1"]).await;
    for method in ["GET", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(exchange(service.address, request).await.status, 504, "{method}");
    }
}

#[tokio::test]
async fn a_disconnect_after_the_start_of_another_request_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = ["--access-log", "--timeout", "off", "--client-timeout", "10m"];
    let mut service = gateway(listener.local_addr().unwrap(), &flags).await;
    for (what, request, resets) in [
        ("fin", "GET /gone HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ("reset", "GET /gone HTTP/1.1\r\nhost: a\r\n\r\n", true),
        ("fin after a body", "POST /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi", false),
        ("reset after a body", "POST /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi", true),
    ] {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.expect(what);
        client.write_all(b"G").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        if resets {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        // The request to the upstream is canceled.
        let end = within(
            format_args!("the end of the upstream connection after {what}"),
            server.read_to_end(&mut Vec::new()),
        )
        .await;
        assert!(end.is_err() || end.unwrap() == 0, "{what}");
        let line = service.log_line(" /gone ").await;
        assert!(line.contains(" 499 "), "{what}: {line}");
    }
}

#[tokio::test]
async fn a_complete_pipelined_request_is_not_a_disconnect() {
    let upstream =
        Upstream::start(|number, _| ok(&format!("number {number}")).pausing(0, Duration::from_millis(200))).await;
    let service = gateway(upstream.address, &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    client.write_all(b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    read_until(&mut client, "number 0").await;
    read_until(&mut client, "number 1").await;
    let received = upstream.received();
    assert_eq!((received[0].line(), received[1].line()), ("GET /1 HTTP/1.1", "POST /2 HTTP/1.1"));
    assert_eq!(received[1].body(), "hello");
}

/// It always reads some of the response, but never a whole frame.
#[tokio::test]
async fn an_http2_client_that_reads_slowly_gets_the_response() {
    const STEP: usize = 8192;
    for flags in [&[][..], &["--response-buffer", "2MiB"]] {
        let (upstream, _requests, _tasks) = large_responses(1 << 20).await;
        let service = gateway(upstream, &[&["--client-timeout", "500ms"], flags].concat()).await;
        let mut client = Peer::connect_with_window(service.address, STEP as u32).await;
        client.request(END_STREAM, 1, "GET", "/", &[]).await;
        let mut received = 0;
        while received < 300 << 10 {
            let frame = client.frame().await.expect("the rest of the response");
            assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY, "{flags:?}: {frame:?} after {received} bytes");
            if frame.kind == DATA && !frame.payload.is_empty() {
                received += frame.payload.len();
                sleep(Duration::from_millis(20)).await;
                client.open_windows(1, frame.payload.len()).await;
            }
        }
    }
}

#[tokio::test]
async fn endless_interim_responses_over_http2_do_not_extend_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = ["--upstream-http2", "--timeout", "500ms", "--count", "0"];
    let service = gateway(listener.local_addr().unwrap(), &flags).await;
    let _upstream = JoinSet::from_iter([async move {
        let mut upstream = Peer::accept(&listener).await;
        let stream = upstream.next_request().await;
        loop {
            upstream.send_fields(0, stream, &[(":status", "103"), ("link", "</x>")]).await;
            sleep(Duration::from_millis(10)).await;
        }
    }]);
    assert_eq!(get(service.address).await.status, 504);
}

#[tokio::test]
async fn a_disconnect_during_an_unread_upload_frees_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = ["--timeout", "off", "--client-timeout", "10m", "--drain-timeout", "10m"];
    let mut service = gateway(listener.local_addr().unwrap(), &[&flags[..], &ADMIN].concat()).await;
    let admin = service.admin().await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
    let (server, _) = within("a connection", listener.accept()).await.unwrap();
    // Until all buffers are full.
    while timeout(Duration::from_millis(300), client.write(&[b'x'; 65_536])).await.is_ok() {}
    client.set_zero_linger().unwrap();
    drop(client);
    until_zero(admin, "retry_service_upstream_connections").await;
    until_zero(admin, "retry_service_requests_in_flight").await;
    drop(server);
}

#[tokio::test]
async fn a_connection_with_an_unread_response_is_not_idle() {
    let length = 8 << 20;
    let (upstream, _requests, _tasks) = large_responses(length).await;
    let flags = ["--response-buffer", "8MiB", "--max-connections", "1", "--header-timeout", "300ms"];
    let service = gateway(upstream, &flags).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(service.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    within("the head", client.peek(&mut [0])).await.unwrap();
    // Another connection waits for this one to close.
    let other = tokio::spawn(get(service.address));
    sleep(Duration::from_secs(1)).await;
    let mut received = Vec::new();
    let end = within("the rest", client.read_to_end(&mut received)).await;
    let response = Response::parse(&received);
    assert!(response.is_complete, "{end:?} after {} of {length} bytes", response.body.len());
    assert_eq!(within("the other response", other).await.unwrap().body.len(), length);
}

#[tokio::test]
async fn an_http2_connection_with_an_unread_response_is_not_idle() {
    // The default window does not cover the end of the response. The upstream has nothing more to send.
    let length = 100_000;
    let (upstream, _requests, _tasks) = large_responses(length).await;
    let service = gateway(upstream, &["--header-timeout", "300ms"]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(END_STREAM, 1, "GET", "/", &[]).await;
    let received = client.receive(INITIAL_WINDOW).await;
    // This acknowledges PINGs. There may be a GOAWAY, but the stream must stay complete.
    let end = timeout(Duration::from_secs(1), async { while client.frame().await.is_some() {} }).await;
    assert!(end.is_err(), "the end after {received} of {length} bytes");
    client.open_windows(1, length).await;
    client.receive(length - received).await;
}
