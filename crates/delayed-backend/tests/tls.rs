//! HTTPS: the handshake, and faults below TLS.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the message")]

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

mod support;
use support::tls::connect;
use support::{request, watch};

async fn backend(script: &str) -> delayed_backend::Backend {
    watch();
    delayed_backend::Backend::start_tls(script.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn hello_is_served_over_tls() {
    let backend = backend("ok").await;
    assert!(backend.url().starts_with("https://127.0.0.1:"));
    for name in ["127.0.0.1", "localhost"] {
        let mut stream = connect(backend.address(), name, backend.ca_pem(), &["http/1.1"]).await.unwrap();
        stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("Hello World!!!"), "{response}");
    }
}

#[tokio::test]
async fn protocols_are_negotiated() {
    let backend = backend("ok").await;
    for (offered, chosen) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = connect(backend.address(), "127.0.0.1", backend.ca_pem(), offered).await.unwrap();
        let negotiated = stream.get_ref().1.alpn_protocol();
        assert_eq!(negotiated, chosen.map(str::as_bytes));
    }
}

#[tokio::test]
async fn clients_reject_an_unknown_ca() {
    let backend = backend("ok").await;
    let error = connect(backend.address(), "127.0.0.1", None, &[]).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(backend.received(), 0);
}

#[tokio::test]
async fn faults_apply_below_tls() {
    for (script, expected, end) in [
        ("close", "", Ok(())),
        ("reset", "", Err(io::ErrorKind::ConnectionReset)),
        ("reset-after=12", "HTTP/1.1 200", Err(io::ErrorKind::ConnectionReset)),
        ("close-after=12", "HTTP/1.1 200", Ok(())),
    ] {
        let backend = backend(script).await;
        let mut stream = connect(backend.address(), "127.0.0.1", backend.ca_pem(), &[]).await.unwrap();
        stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
        let mut response = Vec::new();
        let read = stream.read_to_end(&mut response).await;
        assert_eq!(String::from_utf8(response).unwrap(), expected, "{script}");
        assert_eq!(read.map(drop).map_err(|error| error.kind()), end, "{script}");
    }
}

#[tokio::test]
async fn the_filler_of_a_blackhole_takes_no_turn() {
    let backend = backend("blackhole=200ms,tls=expired,ok").await;
    let connect = || connect(backend.address(), "localhost", backend.ca_pem(), &[]);
    let mut stream = connect().await.unwrap();
    stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let error = connect().await.unwrap_err().to_string();
    assert!(error.contains("certificate expired"), "{error}");
    connect().await.unwrap();
}

#[tokio::test]
async fn a_connection_takes_the_turn_of_a_handshake_fault() {
    let backend = backend("ok,tls=expired,tls=untrusted,status=503").await;
    let connect = || connect(backend.address(), "localhost", backend.ca_pem(), &[]);
    // The response before asks for another connection.
    let mut stream = connect().await.unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.contains("connection: close\r\n") && response.ends_with("Hello World!!!"), "{response}");
    for expected in ["certificate expired", "UnknownIssuer"] {
        let error = connect().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut stream = connect().await.unwrap();
    stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    let behaviors: Vec<_> = backend.requests().into_iter().map(|request| request.behavior).collect();
    assert_eq!(behaviors, ["ok", "status=503"]);
}

#[tokio::test]
async fn plain_http_fails_the_handshake_of_its_own_connection_only() {
    let backend = backend("ok").await;
    let mut stream = TcpStream::connect(backend.address()).await.unwrap();
    stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    connect(backend.address(), "127.0.0.1", backend.ca_pem(), &[]).await.unwrap();
}

#[tokio::test]
async fn the_binary_serves_https_and_writes_the_certificate() {
    let file = std::env::temp_dir().join(format!("delayed-backend-{}.pem", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
    command.args(["--listen", "127.0.0.1:0", "--script", "ok", "--tls", "--tls-cert-out"]).arg(&file);
    let backend = support::Backend::spawn(command).await;
    assert!(backend.first_line.contains("Serving https://127.0.0.1:"), "{}", backend.first_line);
    let pem = std::fs::read_to_string(&file).expect("the certificate");
    std::fs::remove_file(&file).unwrap();
    let mut stream = connect(backend.address, "localhost", Some(&pem), &[]).await.unwrap();
    stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("Hello World!!!"), "{response}");
}
