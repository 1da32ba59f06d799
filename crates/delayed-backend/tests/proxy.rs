//! The proxy: what the upstream gets, and what becomes of its responses.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::net::SocketAddr;

use bytes::Bytes;
use delayed_backend::Backend;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

mod support;
use support::{exchange, request, watch};

/// A proxy in front of a backend that plays scripts of its own.
struct Pair {
    upstream: Backend,
    proxy: Backend,
}

impl Pair {
    async fn start(upstream: &str, script: &str) -> Self {
        watch();
        let upstream = Backend::start(upstream.parse().unwrap()).await.unwrap();
        let proxy = proxy(&upstream.url(), script).await;
        Self { upstream, proxy }
    }

    async fn get(&self, target: &str) -> String {
        exchange(self.proxy.address(), &request("GET", target)).await
    }
}

async fn proxy(upstream: &str, script: &str) -> Backend {
    let builder = Backend::builder().upstream(upstream.parse().unwrap());
    builder.script(script.parse().unwrap()).start().await.unwrap()
}

/// Returns the status of a response, or 0 if there is none.
fn status(response: &str) -> u16 {
    response.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// An upstream of one connection on a plain socket.
struct RawUpstream {
    listener: TcpListener,
}

impl RawUpstream {
    async fn bind() -> Self {
        watch();
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Accepts a connection, and reads until this.
    async fn accept(&self, end: &str) -> (TcpStream, String) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let text = read_until(&mut stream, end).await;
        (stream, text)
    }
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut buffer = Vec::with_capacity(1024);
        let length = stream.read_buf(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer).unwrap());
    }
    text
}

async fn http2(address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_request_that_comes_back_is_not_passed_on_again() {
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    watch();
    let proxy = proxy(&format!("http://{}", relay.local_addr().unwrap()), "ok").await;
    let address = proxy.address();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = relay.accept().await.unwrap();
            let mut server = TcpStream::connect(address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let response = exchange(proxy.address(), &request("GET", "/hello")).await;
    assert_eq!(status(&response), 508, "{response}");
    assert!(response.contains("the request has come back: the upstream http://127.0.0.1:"), "{response}");
    assert_eq!(proxy.received(), 2);
}

#[tokio::test]
async fn the_upstream_gets_the_request_and_the_client_the_response() {
    let pair = Pair::start("ok", "ok").await;
    let request = "POST /echo?a=b HTTP/1.1\r\nhost: proxy\r\nconnection: close, x-hop\r\nx-hop: 1\r\nx-own: 2\r\n\
                   content-length: 3\r\n\r\nabc";
    let response = exchange(pair.proxy.address(), request).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(head), 200);
    assert!(head.contains("content-type: message/http") && head.contains("content-length: "), "{head}");
    let expected = format!(
        "POST /echo?a=b HTTP/1.1\r\nx-own: 2\r\ncontent-length: 3\r\nhost: {}\r\nvia: {}\r\n\r\nabc",
        pair.upstream.address(),
        pair.upstream.requests()[0].headers["via"].to_str().unwrap(),
    );
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(body), sorted(&expected));
    let recorded = &pair.proxy.requests()[0];
    assert_eq!((&*recorded.target, recorded.body.as_ref().unwrap().text().as_ref()), ("/echo?a=b", "abc"));
    assert_eq!(recorded.response.as_ref().unwrap().length, body.len() as u64);
}

#[tokio::test]
async fn there_are_no_routes_but_stubs_come_first() {
    let pair = Pair::start("ok", "ok").await;
    pair.proxy.set_stubs("[[stub]]\npath = '/hello'\nresponse = { text = 'stub' }".parse().unwrap());
    assert!(pair.get("/hello").await.ends_with("stub"));
    assert_eq!(pair.upstream.received(), 0);
    assert!(pair.get("/bytes/3").await.contains("content-length: 3\r\n"));
    assert_eq!(status(&pair.get("/other").await), 404);
    assert!(pair.get("/requests").await.contains(r#""received":2"#), "the upstream's");
    assert_eq!(pair.proxy.received(), 4);
}

#[tokio::test]
async fn the_faults_of_the_script_apply_to_the_responses_of_the_upstream() {
    let script = "ok,truncate=5,close-after=12,chunked,header=x-a: 1;delay=1ms,excess=3,bad-chunk;chunked,drip=1ms,ok";
    let pair = Pair::start("ok", script).await;
    let hello = "\r\n\r\nHello World!!!";
    let first = pair.get("/hello").await;
    assert!(first.ends_with(hello));
    assert!(pair.get("/hello").await.ends_with("\r\n\r\nHello"));
    assert_eq!(pair.get("/hello").await, "HTTP/1.1 200");
    let chunked = pair.get("/hello").await;
    assert!(chunked.contains("transfer-encoding: chunked\r\n") && !chunked.contains("content-length"), "{chunked}");
    assert!(pair.get("/hello").await.contains("x-a: 1\r\n"));
    assert!(pair.get("/hello").await.ends_with(&format!("{hello}xxx")));
    assert!(pair.get("/hello").await.ends_with("not a size\r\n"));
    assert!(pair.get("/hello").await.ends_with(hello));
    let last = pair.get("/hello").await;
    let without_date = |text: &str| text.lines().filter(|line| !line.starts_with("date")).collect::<String>();
    assert_eq!(without_date(&last), without_date(&first));
    assert_eq!(pair.upstream.received(), 9);
}

#[tokio::test]
async fn the_upstream_does_not_get_requests_that_the_script_responds_to() {
    let script = "status=503;retry-after=1,body=own,close,close-after=0,rst=CANCEL,close-after=1,early;status=413";
    let pair = Pair::start("ok", script).await;
    let mut responses = Vec::new();
    for _ in 0..7 {
        responses.push(pair.get("/hello").await);
    }
    assert_eq!(responses.iter().map(|response| status(response)).collect::<Vec<_>>(), [503, 200, 0, 0, 0, 0, 413]);
    assert!(responses[0].contains("retry-after: 1\r\n") && responses[1].ends_with("\r\n\r\nown"));
    assert_eq!(responses[5], "H");
    assert_eq!(pair.upstream.received(), 1, "only the response to the sixth was the upstream's");
    assert_eq!(pair.proxy.received(), 7);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502_that_says_so() {
    watch();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let proxy = proxy(&url, "ok,status=200").await;
    let response = exchange(proxy.address(), &request("GET", "/a")).await;
    assert_eq!(status(&response), 502);
    assert!(response.contains(&format!("cannot connect to the upstream {url}: ")), "{response}");
    assert_eq!(status(&exchange(proxy.address(), &request("GET", "/a")).await), 200);
    let recorded = proxy.requests();
    assert_eq!(recorded[0].response.as_ref().unwrap().status, 502);
}

#[tokio::test]
async fn a_response_that_breaks_off_does_so_for_the_client_and_nothing_is_sent_twice() {
    let pair = Pair::start("truncate=5,close,garbage,ok", "ok").await;
    assert!(pair.get("/hello").await.ends_with("\r\n\r\nHello"));
    let closed = pair.get("/hello").await;
    assert!(status(&closed) == 502 && closed.contains("no valid response from the upstream"), "{closed}");
    assert_eq!(status(&pair.get("/hello").await), 502);
    assert_eq!(status(&pair.get("/hello").await), 200);
    assert_eq!(pair.upstream.received(), 4);
    let responses: Vec<_> = pair.proxy.requests().into_iter().map(|one| one.response.unwrap()).collect();
    let complete: Vec<_> = responses.iter().map(|one| (one.status, one.complete)).collect();
    assert_eq!(complete, [(200, false), (502, true), (502, true), (200, true)]);
}

#[tokio::test]
async fn bodies_are_passed_on_as_they_arrive() {
    let upstream = RawUpstream::bind().await;
    let proxy = proxy(&upstream.url(), "ok").await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    let (mut stream, text) = upstream.accept("abc").await;
    assert!(text.starts_with("POST /a HTTP/1.1\r\n") && text.contains("transfer-encoding: chunked\r\n"), "{text}");
    client.write_all(b"3\r\ndef\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;

    // An interim response is not passed on. A body without a length is chunked.
    stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.0 200 Fine\r\n\r\nghi").await.unwrap();
    let response = read_until(&mut client, "ghi\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 Fine\r\n") && response.contains("chunked"), "{response}");
    stream.write_all(b"jkl").await.unwrap();
    read_until(&mut client, "jkl\r\n").await;
    drop(stream);
    read_until(&mut client, "0\r\n\r\n").await;
    assert_eq!(proxy.requests()[0].body.as_ref().unwrap().text(), "abcdef");
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_request_to_the_upstream() {
    let upstream = RawUpstream::bind().await;
    let proxy = proxy(&upstream.url(), "ok").await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut stream, _) = upstream.accept("\r\n\r\n").await;
    drop(client);
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn responses_without_content_keep_their_length() {
    for (method, reply) in [("HEAD", "200 OK\r\ncontent-length: 5"), ("GET", "304 Not Modified\r\netag: \"a\"")] {
        let upstream = RawUpstream::bind().await;
        let proxy = proxy(&upstream.url(), "ok").await;
        let respond = async {
            let (mut stream, _) = upstream.accept("\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 {reply}\r\n\r\n").as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(async { exchange(proxy.address(), &request(method, "/")).await }, respond);
        assert!(response.starts_with(&format!("HTTP/1.1 {reply}\r\n")), "{response}");
        assert!(response.ends_with("\r\n\r\n"), "{response}");

        let mut sender = http2(proxy.address()).await;
        let request = Request::builder().method(method).uri("http://proxy/").body(Full::default()).unwrap();
        let respond = async {
            let (mut stream, _) = upstream.accept("\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 {reply}\r\n\r\n").as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(sender.send_request(request), respond);
        let response = response.unwrap();
        let (name, value) = reply.split_once("\r\n").unwrap().1.split_once(": ").unwrap();
        assert_eq!(response.headers()[name], value);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn trailers_reach_http2_clients_whatever_follows_the_response() {
    for script in ["ok", "chunked", "goaway=1", "close-idle=1h"] {
        let upstream = RawUpstream::bind().await;
        let proxy = proxy(&upstream.url(), script).await;
        let mut sender = http2(proxy.address()).await;
        let request = Request::get("http://proxy/a").header("te", "trailers").body(Full::default()).unwrap();
        let respond = async {
            let (mut stream, head) = upstream.accept("\r\n\r\n").await;
            assert!(head.contains("te: trailers\r\n"), "{head}");
            let reply = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
            stream.write_all(reply.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(sender.send_request(request), respond);
        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "6");
        assert_eq!(body.to_bytes(), "abc");
        assert!(proxy.requests()[0].response.as_ref().unwrap().complete, "{script}");
    }
}

#[tokio::test]
async fn a_request_with_trailers_is_passed_on_and_recorded() {
    let upstream = RawUpstream::bind().await;
    let proxy = proxy(&upstream.url(), "ok").await;
    let respond = async {
        let (mut stream, head) = upstream.accept("x-sum: 6\r\n\r\n").await;
        assert!(head.contains("trailer: x-sum\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    let head =
        "POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    let request = format!("{head}3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
    let (response, ()) = tokio::join!(async { exchange(proxy.address(), &request).await }, respond);
    assert_eq!(status(&response), 200);
    let body = proxy.requests()[0].body.clone().unwrap();
    assert_eq!((body.length, &body.trailers[..]), (3, &["x-sum: 6".to_owned()][..]));
}

#[tokio::test]
async fn over_http2_faults_apply_to_a_stream_and_a_broken_body_resets_it() {
    let pair = Pair::start("ok", "ok,rst=CANCEL,refused-stream,truncate=5,ok").await;
    let mut sender = http2(pair.proxy.address()).await;
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        let request = Request::get("http://proxy/hello").body(Full::default()).unwrap();
        let outcome = match sender.send_request(request).await {
            Ok(response) => response.into_body().collect().await.map(Collected::to_bytes),
            Err(error) => Err(error),
        };
        outcomes.push(outcome.map_or_else(|_| "error".to_owned(), |body| String::from_utf8(body.into()).unwrap()));
    }
    // The fourth lacks the rest of its length.
    let hello = "Hello World!!!";
    assert_eq!(outcomes, [hello, "error", "error", "error", hello, hello]);
    assert_eq!(pair.upstream.received(), 4);
    let request = Request::get("http://proxy/hello").body(Full::default()).unwrap();
    pair.proxy.set_script("ok".parse().unwrap());
    pair.upstream.set_script("truncate=5".parse().unwrap());
    let response = sender.send_request(request).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn tunnels_are_rejected_and_upgrades_are_ordinary_requests() {
    let pair = Pair::start("ok", "ok").await;
    let connect = "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(pair.proxy.address(), connect).await), 501);
    let upgrade = "GET /echo HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    let response = exchange(pair.proxy.address(), upgrade).await;
    assert!(status(&response) == 200 && !response.contains("websocket"), "{response}");
    assert_eq!(pair.upstream.received(), 1);
}

#[tokio::test]
async fn the_path_of_the_upstream_comes_first() {
    watch();
    let upstream = Backend::start("ok".parse().unwrap()).await.unwrap();
    let proxy = proxy(&format!("{}/bytes/", upstream.url()), "ok").await;
    assert!(exchange(proxy.address(), &request("GET", "/3")).await.contains("content-length: 3\r\n"));
    assert_eq!(upstream.requests()[0].target, "/bytes/3");
}

#[tokio::test]
async fn a_request_whose_body_is_incomplete_is_not_completed() {
    let upstream = RawUpstream::bind().await;
    let proxy = proxy(&upstream.url(), "ok").await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    let (mut stream, _) = upstream.accept("abc").await;
    drop(client);
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0);
    assert_eq!(proxy.requests()[0].body, None);
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let pair = Pair::start("ok", "ok").await;
    let mut sender = http2(pair.proxy.address()).await;
    let content = Bytes::from(vec![b'x'; 3 << 20]);
    let request = Request::post("http://proxy/echo").body(Full::new(content.clone())).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(&content));
    assert_eq!(pair.proxy.requests()[0].body.as_ref().unwrap().length, content.len() as u64);
}
