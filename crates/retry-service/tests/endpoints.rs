//! Several upstreams, and how operators see which of them is up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the message")]

mod support;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use support::{
    LIMIT, Service, backend, call, gateway,
    message::{Response, fields, send},
    read_metric, refusing,
    upstream::{Reply, Upstream, ok},
    within,
};
use tokio::{task::JoinSet, time::sleep};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// A gateway to two upstreams.
async fn gateway_to(upstreams: [SocketAddr; 2], more: &[&str]) -> Service {
    let second = format!("http://{}", upstreams[1]);
    gateway(upstreams[0], &[&["--upstream", &second], more].concat()).await
}

/// A redirect of an upstream to itself.
async fn redirecting() -> Upstream {
    Upstream::start(|_, request| {
        let host = fields(request, "host")[0];
        Reply::new(format!("HTTP/1.1 302 Found\r\nlocation: http://{host}/next\r\ncontent-length: 0\r\n\r\n"))
    })
    .await
}

/// Waits until a metric has a value.
async fn until(admin: SocketAddr, name: &str, value: f64) {
    let reached = async {
        while read_metric(admin, name).await != value {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(format!("{name} to be {value}"), reached).await;
}

#[tokio::test]
async fn each_upstream_gets_its_own_host_and_no_redirect_to_one_reaches_the_client() {
    let upstreams = [redirecting().await, redirecting().await];
    for (flags, host) in [(&["--host", "rewrite"][..], None), (&["--host", "keep"], Some("shop.example"))] {
        let service = gateway_to([upstreams[0].address, upstreams[1].address], flags).await;
        let before = upstreams.each_ref().map(|upstream| upstream.received().len());
        let both = async {
            while upstreams.iter().zip(before).any(|(upstream, before)| upstream.received().len() == before) {
                let response = send(service.address, "GET / HTTP/1.1", "").await;
                assert_eq!(response.field("location"), Some("http://shop.example/next"));
            }
        };
        within("a request to each upstream", both).await;
        for (upstream, before) in upstreams.iter().zip(before) {
            for request in &upstream.received()[before..] {
                let own = upstream.address.to_string();
                assert_eq!(request.fields("host"), [host.unwrap_or(&own)]);
                assert_eq!(request.fields("x-forwarded-host"), ["shop.example"]);
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_visible_and_no_get_fails() {
    let (failing, healthy) = (backend("status=503").await, backend("ok").await);
    let mut service = gateway_to([failing.address(), healthy.address()], &ADMIN).await;
    let admin = service.admin().await;
    let of = |name: &str, address: SocketAddr| format!("retry_service_endpoint_{name}{{endpoint=\"{address}\"}}");
    let ejected = async {
        while read_metric(admin, &of("ejections_total", failing.address())).await < 1.0 {
            assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
        }
    };
    within("the ejection", ejected).await;
    assert!(read_metric(admin, &of("failures_total", failing.address())).await >= 5.0);
    assert_eq!(read_metric(admin, &of("up", failing.address())).await, 0.0);
    assert_eq!(read_metric(admin, &of("up", healthy.address())).await, 1.0);
    assert_eq!(read_metric(admin, &of("failures_total", healthy.address())).await, 0.0);
    assert_eq!(read_metric(admin, &of("requests_in_flight", healthy.address())).await, 0.0);
    let probed = async {
        while read_metric(admin, &of("probes_total", failing.address())).await < 1.0 {
            assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
        }
    };
    within("a probe", probed).await;
    let line = service.log_line("is down").await;
    assert!(line.contains(&format!("endpoint {} is down: 5 failures in a row", failing.address())), "{line}");
}

async fn readyz(admin: SocketAddr) -> (u16, String) {
    let response: Response = call(admin, "GET", "/readyz").await;
    (response.status, response.text())
}

#[tokio::test]
async fn readiness_can_need_an_upstream() {
    let (address, socket) = refusing();
    let ready = (200, "ready\n".to_owned());
    let mut service =
        gateway(address, &[&ADMIN[..], &["--ready-needs-upstream", "--outage-wait", "1ms"]].concat()).await;
    let admin = service.admin().await;
    assert_eq!(readyz(admin).await, ready);
    assert_eq!(call(service.address, "GET", "/").await.status, 503);
    assert_eq!(readyz(admin).await, (503, "no upstream is up\n".to_owned()));
    service.log_line(&format!("endpoint {address} is down: ")).await;

    // By default, it does not.
    let mut other = gateway(address, &[&ADMIN[..], &["--outage-wait", "1ms"]].concat()).await;
    assert_eq!(call(other.address, "GET", "/").await.status, 503);
    assert_eq!(readyz(other.admin().await).await, ready);

    // A single endpoint that requests do not wait for is not watched.
    let mut unwatched =
        gateway(address, &[&ADMIN[..], &["--ready-needs-upstream", "--outage-wait", "off"]].concat()).await;
    assert_eq!(call(unwatched.address, "GET", "/").await.status, 502);
    assert_eq!(readyz(unwatched.admin().await).await, ready);

    let _listener = socket.listen(16).unwrap();
    let is_back = async {
        while readyz(admin).await != ready {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("the upstream", is_back).await;
    service.log_line(&format!("endpoint {address} is up again after ")).await;
}

#[tokio::test]
async fn parked_requests_are_counted() {
    let (address, socket) = refusing();
    let mut service = gateway(address, &[&ADMIN[..], &["--outage-wait", "1h"]].concat()).await;
    let admin = service.admin().await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        calls.spawn(call(service.address, "POST", "/"));
    }
    until(admin, "retry_service_requests_parked", 3.0).await;
    assert_eq!(read_metric(admin, "retry_service_requests_in_flight").await, 3.0);
    let _upstream = delayed_backend::Backend::start_on(socket.listen(16).unwrap(), "ok".parse().unwrap()).unwrap();
    for response in within("the responses", calls.join_all()).await {
        assert_eq!(response.status, 404);
    }
    assert_eq!(read_metric(admin, "retry_service_requests_parked").await, 0.0);
    assert_eq!(read_metric(admin, "retry_service_parked_duration_seconds_count").await, 3.0);
    assert_eq!(read_metric(admin, "retry_service_attempts_total{outcome=\"404\"}").await, 3.0);
    assert_eq!(read_metric(admin, "retry_service_attempts_total{outcome=\"connect\"}").await, 0.0);
}

#[tokio::test]
async fn an_outage_is_the_reason_in_logs_and_metrics() {
    let (address, _socket) = refusing();
    let flags = [&ADMIN[..], &["--outage-wait", "1ms", "--log-format", "json"]].concat();
    let mut service = gateway(address, &flags).await;
    let admin: Value = serde_json::from_str(&service.next_log().await).unwrap();
    let admin = admin["message"].as_str().unwrap().strip_prefix("Admin on http://").unwrap().parse().unwrap();
    assert_eq!(call(service.address, "POST", "/a").await.status, 503);
    let failed: Value = serde_json::from_str(&service.log_line("\"retries\"").await).unwrap();
    assert_eq!(
        (&failed["status"], &failed["outcome"], &failed["reason"]),
        (&503.into(), &"outage".into(), &"outage".into())
    );
    let message = failed["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("POST /a: no endpoint is up: cannot connect to {address}: ")), "{message}");
    for name in ["give_ups_total{reason=\"outage\"}", "attempts_total{outcome=\"outage\"}"] {
        assert_eq!(read_metric(admin, &format!("retry_service_{name}")).await, 1.0, "{name}");
    }
    assert_eq!(read_metric(admin, "retry_service_give_ups_total{reason=\"not_safe_to_repeat\"}").await, 0.0);
    assert_eq!(read_metric(admin, "retry_service_attempt_duration_seconds_count").await, 0.0);
}

#[tokio::test]
async fn requests_use_every_upstream() {
    let upstreams = [Upstream::playing([ok("one")]).await, Upstream::playing([ok("other")]).await];
    let service = gateway_to([upstreams[0].address, upstreams[1].address], &[]).await;
    let both = async {
        while upstreams.iter().any(|upstream| upstream.received().is_empty()) {
            assert_eq!(call(service.address, "POST", "/").await.status, 200);
        }
    };
    within("a request to each upstream", both).await;
}

#[tokio::test]
async fn a_request_that_one_upstream_is_slow_to_respond_to_is_sent_to_the_other() {
    let silent = Upstream::playing([ok("late").pausing(0, 2 * LIMIT)]).await;
    let healthy = backend("ok").await;
    let flags = [&ADMIN[..], &["--hedge-after", "50ms"]].concat();
    let mut service = gateway_to([silent.address, healthy.address()], &flags).await;
    let admin = service.admin().await;
    let hedged = async {
        while silent.received().len() < 3 {
            assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
            let upload = send(service.address, "PUT /echo HTTP/1.1\r\ncontent-length: 7", "content").await;
            assert!(upload.status == 200 && upload.text().ends_with("\r\n\r\ncontent"), "{upload:?}");
        }
    };
    within("requests that are sent twice", hedged).await;
    until(admin, "retry_service_hedges_total{outcome=\"won\"}", silent.received().len() as f64).await;
    let endpoint = format!("{{endpoint=\"{}\"}}", silent.address);
    for (name, labels) in [
        ("hedges_total", "{outcome=\"lost\"}"),
        ("endpoint_failures_total", &endpoint),
        ("endpoint_requests_in_flight", &endpoint),
    ] {
        assert_eq!(read_metric(admin, &format!("retry_service_{name}{labels}")).await, 0.0, "{name}");
    }
    let line = service.log_line("hedged").await;
    assert!(
        line.contains(&format!(": attempt 1 at {} returned 200 OK (", healthy.address()))
            && line.contains("), hedged after 50ms: won; id "),
        "{line}"
    );
}
