//! https with real handshakes: trusted certificates, protocols, and which failures are retried.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the test's message"
)]

mod common;
#[path = "common/https.rs"]
mod https;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use common::{LIMIT, quick, read_head, watch};
use http::Version;
use https::{Authority, BOTH, Https, file};
use retry_client::{
    Client, ClientBuilder, EndReason, Error, ErrorKind,
    rustls::crypto::{CryptoProvider, ring},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Returns a listener, its acceptor for HTTP/1.1 over TLS, and a client for it.
async fn listen() -> (TcpListener, TlsAcceptor, ClientBuilder) {
    watch();
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &["http/1.1"], None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("https://{}", listener.local_addr().unwrap())).ca_file(authority.file());
    (listener, acceptor, client)
}

/// Checks that there was one attempt.
fn assert_permanent(error: &Error, server: &Https, why: &str) {
    assert_eq!(error.message(), format!("cannot connect to {}: {why}", server.server.address));
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connect, Some(EndReason::Permanent)));
    assert_eq!((server.connections(), server.server.seen().len()), (1, 0));
}

#[tokio::test]
async fn an_unknown_authority_is_one_attempt_and_one_clear_error() {
    let server = Https::start(Authority::new().acceptor("127.0.0.1", BOTH, None), 0).await;
    for stranger in [None, Some(Authority::new().file())] {
        let client = match stranger {
            None => server.client(),
            Some(path) => server.client().ca_file(path),
        };
        let error = client.build().unwrap().get("/").await.unwrap_err();
        assert_permanent(
            &error,
            &server,
            "invalid peer certificate: unknown certificate authority; trust it with ca_file or ca_pem",
        );
        server.connections.store(0, SeqCst);
    }
}

#[tokio::test]
async fn the_server_chooses_the_protocol() {
    let authority = Authority::new();
    let check = async |offered: &[&str], http2, expected| {
        let server = Https::start(authority.acceptor("127.0.0.1", offered, None), 0).await;
        let client = server.client().ca_file(authority.file()).http2_prior_knowledge(http2).build().unwrap();
        for _ in 0..2 {
            let response = client.post("/x?y").body("body").await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (200, expected), "{offered:?}");
            assert_eq!(response.into_body().text().await.unwrap(), "ok");
        }
        let seen = server.server.seen();
        assert_eq!((seen[0].target.as_str(), seen[0].version, &*seen[0].body), ("/x?y", expected, &b"body"[..]));
        assert_eq!(server.connections(), 1);
    };
    check(BOTH, false, Version::HTTP_2).await;
    check(&["http/1.1"], false, Version::HTTP_11).await;
    check(&[], false, Version::HTTP_11).await;
    check(BOTH, true, Version::HTTP_2).await;
}

#[tokio::test]
async fn with_prior_knowledge_nothing_but_http2_is_offered() {
    let authority = Authority::new();
    let server = Https::start(authority.acceptor("127.0.0.1", &["http/1.1"], None), 0).await;
    let client = server.client().ca_file(authority.file()).http2_prior_knowledge(true).build().unwrap();
    let error = client.get("/").await.unwrap_err();
    assert_permanent(&error, &server, "the server rejected the handshake: NoApplicationProtocol");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_rejected() {
    let authority = Authority::new();
    let server = Https::start(authority.acceptor("elsewhere.example", BOTH, None), 0).await;
    let error = server.client().ca_file(authority.file()).build().unwrap().get("/").await.unwrap_err();
    let why = "invalid peer certificate: certificate not valid for name \"127.0.0.1\"; \
               certificate is only valid for DnsName(\"elsewhere.example\")";
    assert_permanent(&error, &server, why);
}

#[tokio::test]
async fn an_incomplete_handshake_is_retried_for_every_method() {
    let authority = Authority::new();
    let server = Https::start(authority.acceptor("127.0.0.1", BOTH, None), 2).await;
    let client = server.client().ca_file(authority.file()).build().unwrap();
    client.post("/").body("once").await.unwrap();
    assert_eq!((server.connections(), server.server.seen().len()), (3, 1));
}

#[tokio::test]
async fn a_handshake_counts_as_connecting() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(200);
    let client = Client::builder(format!("https://{address}")).policy(quick(0)).connect_timeout(limit);
    let client = client.timeout(Duration::from_millis(10)).build().unwrap();
    let begin = Instant::now();
    let error = client.get("/").await.unwrap_err();
    assert!((limit..20 * limit).contains(&begin.elapsed()));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.message(), format!("cannot connect to {address}: no connection within 200ms"));
}

#[tokio::test]
async fn a_client_certificate_is_presented_on_request() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Https::start(authority.acceptor("127.0.0.1", BOTH, Some(&clients)), 0).await;
    let (certificate, key) = clients.issue("client.example");
    let key_pem = key.serialize_pem();
    let builder = server
        .client()
        .ca_file(authority.file())
        .client_certificate(file("client.pem", &certificate.pem()), file("key.pem", &key_pem));
    let secret = key_pem.lines().nth(1).unwrap();
    assert!(!format!("{builder:?}").contains(secret));
    let client = builder.build().unwrap();
    assert!(!format!("{client:?}").contains(secret));
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_missing_client_certificate_is_one_attempt() {
    let authority = Authority::new();
    // In TLS 1.3 the alert comes after the handshake, and then h2 keeps only its text.
    let server = Https::start(authority.acceptor("127.0.0.1", &["http/1.1"], Some(&authority)), 0).await;
    let error = server.client().ca_file(authority.file()).build().unwrap().get("/").await.unwrap_err();
    assert_permanent(&error, &server, "the server rejected the handshake: CertificateRequired");
}

#[tokio::test]
async fn the_wrong_scheme_in_the_url_is_explained() {
    let failure = async |url: String| {
        let client = Client::builder(url).policy(quick(0)).build().unwrap();
        timeout(Duration::from_secs(20), client.get("/")).await.unwrap().unwrap_err()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_u8().await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // Not a reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let expected = "the server does not speak TLS: a URL for plain HTTP starts with http://";
    let error = failure(format!("https://{plain}")).await;
    assert_eq!(error.message(), format!("cannot connect to {plain}: {expected}"));

    let server = Https::start(Authority::new().acceptor("127.0.0.1", BOTH, None), 0).await;
    let error = failure(format!("http://{}", server.server.address)).await;
    assert_eq!(error.kind(), ErrorKind::BadResponse);
    assert!(error.message().ends_with("the URL of a server that speaks TLS starts with https://"), "{error}");
}

#[tokio::test]
async fn the_stall_timeout_counts_the_bytes_beneath_tls() {
    let (listener, acceptor, client) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        read_head(&mut stream).await;
        // Four bytes every 100 ms, in total more than twice the timeout; then one byte less than announced.
        for bytes in b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok".chunks(4) {
            sleep(Duration::from_millis(100)).await;
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
        }
        sleep(Duration::from_secs(60)).await;
    });
    let timeout = Duration::from_millis(400);
    let client = client.policy(quick(0)).timeout(timeout).build().unwrap();
    let begin = Instant::now();
    let response = client.get("/").await.unwrap();
    assert!(begin.elapsed() > 2 * timeout);
    assert_eq!(response.into_body().text().await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Requests of other pools that are still connecting have no claim to the connections of this one, at the limit neither.
#[tokio::test]
async fn a_pool_uses_its_idle_connection_while_another_pool_connects() {
    for limit in [9, 2] {
        let (listener, acceptor, client) = listen().await;
        let client = client.policy(quick(0)).pool_max_connections(limit).build().unwrap();
        // Only the first connection gets its handshake.
        let _server = JoinSet::from_iter([async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            loop {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                stream.flush().await.unwrap();
            }
        }]);
        client.get("/").text().await.unwrap();
        let other = client.with_own_pool();
        let _connecting = JoinSet::from_iter([async move { other.get("/").text().await }]);
        while client.connections() < 2 {
            yield_now().await;
        }
        assert_eq!(client.get("/").text().await.unwrap(), "ok");
        assert_eq!(client.connections(), 2, "no third connection");
    }
}

/// TLS holds the end of an upload that the socket does not take.
#[tokio::test]
async fn an_upload_is_sent_to_its_end_after_the_response() {
    const SIZE: usize = 16 * 1024 * 1024;
    let (listener, acceptor, client) = listen().await;
    let client = client.build().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let (mut left, mut piece) = (SIZE, vec![0; 16 * 1024]);
        while left > 0 {
            left -= stream.read(&mut piece).await.unwrap();
            // The client is always faster.
            sleep(Duration::from_micros(100)).await;
        }
        stream
    });
    let response = client.put("/").body(vec![b'x'; SIZE]).await.unwrap();
    assert_eq!(response.status(), 202);
    server.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_order() {
    let (listener, acceptor, client) = listen().await;
    let client = client.build().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        // Without TLS's own message, the end would be an error.
        stream.read(&mut [0]).await
    });
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
    drop(client);
    assert_eq!(server.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn certificates_may_be_in_memory() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Https::start(authority.acceptor("127.0.0.1", BOTH, Some(&clients)), 0).await;
    let (certificate, key) = clients.issue("client.example");
    let key_pem = key.serialize_pem();
    // The second authority is in addition to the first.
    let builder = server
        .client()
        .ca_pem(Authority::new().pem())
        .ca_pem(authority.pem())
        .client_certificate_pem(certificate.pem(), &key_pem);
    let secret = key_pem.lines().nth(1).unwrap();
    assert!(!format!("{builder:?}").contains(secret));
    assert_eq!(builder.build().unwrap().get("/").text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_configuration_of_rustls_decides_what_is_trusted_and_offered() {
    let authority = Authority::new();
    let server = Https::start(authority.acceptor("127.0.0.1", BOTH, None), 0).await;
    let version = async |protocols: &[&str], http2| {
        let mut config = authority.client_config(ring::default_provider());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client =
            server.client().http2_prior_knowledge(http2).tls_config(config).build().map_err(|e| e.to_string())?;
        Ok(client.get("/").await.unwrap().version())
    };
    assert_eq!(version(&[], false).await, Ok(Version::HTTP_2), "those of the client");
    assert_eq!(version(&["http/1.1"], false).await, Ok(Version::HTTP_11), "its own");
    assert_eq!(version(&["h2"], true).await, Ok(Version::HTTP_2));
    let error = "tls_config: alpn_protocols has 'h3': expected h2, http/1.1 or both";
    assert_eq!(version(&["h2", "h3"], false).await, Err(error.to_owned()));
    let error = "tls_config: alpn_protocols has 'http/1.1': expected only h2, because of http2_prior_knowledge";
    assert_eq!(version(BOTH, true).await, Err(error.to_owned()));

    let stranger = Arc::new(Authority::new().client_config(ring::default_provider()));
    let error = server.client().tls_config(stranger).build().unwrap().get("/").await.unwrap_err();
    let expected = "invalid peer certificate: unknown certificate authority";
    assert!(error.message().ends_with(expected), "no hint of settings that do not apply: {error}");
}

#[tokio::test]
async fn a_configuration_of_rustls_brings_its_own_cryptography() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", BOTH, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let expected = ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let provider = CryptoProvider { cipher_suites: vec![expected], ..ring::default_provider() };
    let config = authority.client_config(provider);
    let client = Client::builder(url).policy(quick(0)).tls_config(config).build().unwrap();
    let _request = JoinSet::from_iter([async move { client.get("/").await.map(drop) }]);
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let stream = timeout(LIMIT, acceptor.accept(stream)).await.unwrap().unwrap();
    assert_eq!(stream.get_ref().1.negotiated_cipher_suite(), Some(expected));
}

#[test]
fn invalid_certificates_are_errors() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.issue("a"), authority.issue("b"));
    let (chain, key) = (file("chain.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
    let other = file("other.pem", &other_key.serialize_pem());
    let (empty, missing) = (file("empty.pem", "nothing"), PathBuf::from("/no/such/file"));
    let junk = file("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let check = |set: &dyn Fn(ClientBuilder) -> ClientBuilder, expected: String| {
        // Also for http, where they are not used.
        for url in ["https://h", "http://h"] {
            let error = set(Client::builder(url)).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert_eq!(error.to_string(), expected);
        }
    };
    let ca = |path: &PathBuf, why: &str| {
        check(&|client| client.ca_file(path), format!("ca_file '{}': {why}", path.display()));
    };
    ca(&missing, "No such file or directory (os error 2)");
    ca(&empty, "expected PEM with a certificate, found none");
    ca(&junk, "invalid peer certificate: BadEncoding");
    let identity = |chain: &PathBuf, key: &PathBuf, expected: String| {
        check(&|client| client.client_certificate(chain, key), expected);
    };
    let (key_at, other_at) = (key.display(), other.display());
    identity(&missing, &key, "client_certificate '/no/such/file': No such file or directory (os error 2)".to_owned());
    identity(
        &chain,
        &missing,
        "client_certificate: key '/no/such/file': No such file or directory (os error 2)".to_owned(),
    );
    let no_key = "expected PEM with a private key that is not encrypted";
    identity(&chain, &empty, format!("client_certificate: key '{}': {no_key}", empty.display()));
    identity(&key, &key, format!("client_certificate '{key_at}': expected PEM with a certificate, found none"));
    let mixed = format!("client_certificate: key '{other_at}': expected the key of the certificate, found another");
    identity(&chain, &other, mixed);

    let (chain, other) = (certificate.pem(), other_key.serialize_pem());
    let in_memory = |chain: &str, key: &str, expected: &str| {
        check(&|client| client.client_certificate_pem(chain, key), expected.to_owned());
    };
    check(&|client| client.ca_pem("nothing"), "ca_pem: expected PEM with a certificate, found none".to_owned());
    in_memory("", &other, "client_certificate_pem: expected PEM with a certificate, found none");
    in_memory(&chain, "", &format!("client_certificate_pem: key: {no_key}"));
    in_memory(&chain, &other, "client_certificate_pem: key: expected the key of the certificate, found another");

    let config = Arc::new(authority.client_config(ring::default_provider()));
    let ignored = "not used with tls_config, which has certificates of its own";
    check(&|client| client.ca_pem(&chain).tls_config(Arc::clone(&config)), format!("ca_pem: {ignored}"));
    check(
        &|client| client.client_certificate_pem(&chain, &other).tls_config(Arc::clone(&config)),
        format!("client_certificate_pem: {ignored}"),
    );
}

/// Environment variables often lose their line breaks, and one text may have both certificate and key.
#[test]
fn a_malformed_key_is_not_quoted() {
    for pem in
        ["-----BEGIN PRIVATE KEY----- c2VjcmV0 -----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY----- c2VjcmV0"]
    {
        let error = Client::builder("https://h").client_certificate_pem(pem, pem).build().unwrap_err();
        let expected = "client_certificate_pem: expected PEM with a certificate, found PEM that is malformed";
        assert_eq!(error.to_string(), expected);
    }
}
