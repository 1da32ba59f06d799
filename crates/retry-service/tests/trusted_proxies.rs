//! Which forwarding headers the gateway trusts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use support::{
    gateway_and_upstream,
    http2::{DATA, END_STREAM, Peer},
    message::{exchange, send},
    upstream::Received,
};
use tokio::process::Command;

/// A request with forwarding headers.
const CLAIMS: &str = "GET / HTTP/1.1\r\nx-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\
    x-forwarded-host: outer.example\r\nx-forwarded-proto: https\r\nx-forwarded-port: 444\r\nx-forwarded-prefix: /evil\r\n\
    x-real-ip: 3.3.3.3\r\nforwarded: for=4.4.4.4;host=outer.example;proto=https\r\nx-request-id: theirs";

/// The request that the upstream gets.
async fn forwarded(flags: &[&str]) -> Received {
    let (upstream, service) = gateway_and_upstream(flags).await;
    let response = send(service.address, CLAIMS, "").await;
    assert_eq!(response.status, 200);
    let request = upstream.only();
    assert_eq!(request.fields("x-request-id"), response.fields("x-request-id"));
    request
}

/// The forwarding headers of a request.
fn forwarding_headers(request: &Received) -> Vec<(&'static str, String)> {
    let names = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-real-ip",
        "forwarded",
    ];
    names.into_iter().flat_map(|name| request.fields(name).into_iter().map(move |value| (name, value.into()))).collect()
}

fn owned(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[tokio::test]
async fn forwarding_headers_of_an_untrusted_client_are_replaced() {
    let x_forwarded =
        owned(&[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", "shop.example"), ("x-forwarded-proto", "http")]);
    let standard = owned(&[("forwarded", "for=127.0.0.1;host=\"shop.example\";proto=http")]);
    let other = &["--trusted-proxies", "10.0.0.0/8,::1"][..];
    for trust in [&[][..], other] {
        for (mode, expected) in [("x-forwarded", &x_forwarded), ("forwarded", &standard), ("off", &Vec::new())] {
            let request = forwarded(&[trust, &["--forwarded", mode]].concat()).await;
            assert_eq!(forwarding_headers(&request), *expected, "{mode}, {trust:?}");
            assert_ne!(request.fields("x-request-id"), ["theirs"], "{mode}, {trust:?}");
        }
    }
}

#[tokio::test]
async fn forwarding_headers_of_a_trusted_proxy_are_extended() {
    let request = forwarded(&["--trusted-proxies", "127.0.0.1"]).await;
    assert_eq!(request.fields("x-forwarded-for").join(", "), "1.1.1.1, 2.2.2.2, 127.0.0.1");
    assert_eq!(request.fields("x-forwarded-host"), ["outer.example"]);
    assert_eq!(request.fields("x-forwarded-proto"), ["https"]);
    assert_eq!(request.fields("x-request-id"), ["theirs"]);

    let request = forwarded(&["--trusted-proxies", "127.0.0.1", "--forwarded", "forwarded"]).await;
    let forwarded = request.fields("forwarded").join(", ");
    assert!(forwarded.starts_with("for=4.4.4.4;host=outer.example;proto=https, for=127.0.0.1;"), "{forwarded}");
    assert_eq!(request.fields("x-request-id"), ["theirs"]);
}

#[tokio::test]
async fn the_access_log_names_the_client_that_a_trusted_proxy_names() {
    let trust = &["--trusted-proxies", "127.0.0.1,10.0.0.0/8,fd00::/8"][..];
    let standard = &["--trusted-proxies", "127.0.0.1,10.0.0.0/8,fd00::/8", "--forwarded", "forwarded"][..];
    for (flags, field, expected) in [
        (trust, "x-forwarded-for: 9.9.9.9, 203.0.113.7", "203.0.113.7"),
        (trust, "x-forwarded-for: 9.9.9.9, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (trust, "x-forwarded-for: 9.9.9.9\r\nx-forwarded-for: 203.0.113.7\r\nx-forwarded-for: 10.0.0.1", "203.0.113.7"),
        (trust, "x-forwarded-for: 9.9.9.9, 2001:db8::7,fd00::1", "2001:db8::7"),
        (trust, "x-none: 1", "127.0.0.1"),
        (trust, "forwarded: for=203.0.113.7", "127.0.0.1"),
        (standard, "forwarded: for=9.9.9.9, For=203.0.113.7;proto=https, for=10.0.0.1", "203.0.113.7"),
        (standard, "forwarded: for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
        (standard, "forwarded: proto=http;for=\"203.0.113.7:80\"", "203.0.113.7"),
        (standard, "x-forwarded-for: 203.0.113.7", "127.0.0.1"),
        (&["--trusted-proxies", "10.0.0.0/8"], "x-forwarded-for: 203.0.113.7", "127.0.0.1"),
        (&["--count", "0"], "x-forwarded-for: 203.0.113.7", "127.0.0.1"),
    ] {
        let (_upstream, mut service) = gateway_and_upstream(&[flags, &["--access-log"]].concat()).await;
        send(service.address, &format!("GET /named HTTP/1.1\r\n{field}"), "").await;
        let line = service.log_line(" GET /named 200 ").await;
        assert!(support::message(&line).starts_with(&format!("{expected} GET ")), "{flags:?}, {field:?}: {line}");
    }
}

#[tokio::test]
async fn trusted_proxies_are_addresses_and_networks_of_both_families() {
    let (v4, v6, both) = ("127.0.0.1:0", "[::1]:0", "[::]:0");
    for (listen, proxies, is_trusted) in [
        (v4, "127.0.0.1", true),
        (v4, "127.0.0.1/32", true),
        (v4, "127.0.0.0/8", true),
        (v4, "0.0.0.0/0", true),
        (v4, "10.0.0.0/8,127.0.0.0/24", true),
        (v4, "127.0.0.2", false),
        (v4, "127.0.0.0/32", false),
        (v4, "126.0.0.0/8", false),
        (v4, "::1,::/0", false),
        (v6, "::1", true),
        (v6, "::1/128", true),
        (v6, "::/0", true),
        (v6, "::/64", true),
        (v6, "fe80::/10", false),
        (v6, "127.0.0.1,0.0.0.0/0", false),
        (both, "127.0.0.1", true),
    ] {
        let (upstream, service) = gateway_and_upstream(&["--listen", listen, "--trusted-proxies", proxies]).await;
        let mut address = service.address;
        if listen == both {
            address.set_ip("127.0.0.1".parse().unwrap());
        }
        let request = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\nconnection: close\r\n\r\n";
        assert_eq!(exchange(address, request).await.status, 200);
        let expected = if is_trusted { "https" } else { "http" };
        assert_eq!(upstream.only().fields("x-forwarded-proto"), [expected], "{proxies} for {listen}");
    }
}

#[tokio::test]
async fn an_invalid_network_is_reported_in_one_line() {
    for (sent, wrong) in [
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("::1/129", "::1/129"),
        ("10.0.0.0/8/8", "10.0.0.0/8/8"),
        ("10.0.0.0/", "10.0.0.0/"),
        ("10.0.0/8", "10.0.0/8"),
        ("10.0.0.0/-1", "10.0.0.0/-1"),
        ("localhost", "localhost"),
        ("10.0.0.0/8,nonsense", "nonsense"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.args(["--forward", "--listen", "127.0.0.1:0", "--trusted-proxies", sent]).kill_on_drop(true);
        let output = support::within("the error", command.output()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{sent}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{sent}: {stderr}");
        assert!(stderr.contains("--trusted-proxies") && stderr.contains(wrong), "{sent}: {stderr}");
    }
}

#[tokio::test]
async fn connection_options_do_not_remove_the_forwarding_headers_of_a_trusted_proxy() {
    for connection in ["X-Forwarded-For", "x-forwarded-for, x-forwarded-host, X-Forwarded-Proto"] {
        let (upstream, service) = gateway_and_upstream(&["--trusted-proxies", "127.0.0.1"]).await;
        let claims = "x-forwarded-for: 1.1.1.1\r\nx-forwarded-host: outer.example\r\nx-forwarded-proto: https";
        let head = format!("GET / HTTP/1.1\r\n{claims}\r\nconnection: {connection}");
        assert_eq!(send(service.address, &head, "").await.status, 200);
        let expected = owned(&[
            ("x-forwarded-for", "1.1.1.1, 127.0.0.1"),
            ("x-forwarded-host", "outer.example"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(forwarding_headers(&upstream.only()), expected, "{connection}");
    }
}

/// CGI, for example, does not distinguish them: it turns hyphens into underscores.
#[tokio::test]
async fn other_spellings_of_forwarding_headers_are_removed() {
    for flags in [&[][..], &["--trusted-proxies", "127.0.0.1"]] {
        for name in ["X_Forwarded_For", "x-forwarded_for", "X_Forwarded_Host", "X_Real_IP", "x_request_id"] {
            let (upstream, service) = gateway_and_upstream(flags).await;
            send(service.address, &format!("GET / HTTP/1.1\r\n{name}: 6.6.6.6"), "").await;
            let request = upstream.only();
            assert!(!request.text.contains("6.6.6.6"), "{name}, {flags:?}: {request:?}");
        }
    }
}

#[tokio::test]
async fn forwarding_headers_are_removed_from_trailers() {
    for flags in [&[][..], &["--trusted-proxies", "127.0.0.1"]] {
        let (upstream, service) = gateway_and_upstream(flags).await;
        let head = "POST / HTTP/1.1\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                    trailer: x-sum, x-forwarded-for, x-request-id";
        let trailers = "x-sum: 5\r\nx-forwarded-for: 6.6.6.6\r\nX-Request-Id: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6";
        send(service.address, head, &format!("5\r\nhello\r\n0\r\n{trailers}\r\n\r\n")).await;
        let mut client = Peer::connect(service.address).await;
        client.request(0, 1, "POST", "/", &[("trailer", "x-sum, x-forwarded-for, x-request-id")]).await;
        client.send(DATA, 0, 1, b"hello").await;
        let trailers = [("x-sum", "5"), ("x-forwarded-for", "6.6.6.6"), ("x-request-id", "6.6.6.6")];
        client.send_fields(END_STREAM, 1, &trailers).await;
        client.rest_of(1).await;
        let received = upstream.received();
        assert_eq!(received.len(), 2, "{received:?}");
        for request in received {
            assert!(request.body().contains("\r\n0\r\nx-sum: 5\r\n"), "{request:?}");
            assert!(!request.text.contains("6.6.6.6"), "{request:?}");
        }
    }
}
