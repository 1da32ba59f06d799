//! Deadlines that travel: clients set them in a header, and the upstream gets what is left of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the message")]

mod support;

use support::{
    backend, gateway,
    message::{Response, send},
    read_metric,
    upstream::{Reply, Upstream, ok},
};

const NAME: &str = "x-envoy-expected-rq-timeout-ms";
const HEADER: [&str; 2] = ["--deadline-header", NAME];

async fn get(service: &support::Service, deadline: &str) -> Response {
    send(service.address, &format!("GET /hello HTTP/1.1\r\n{NAME}: {deadline}"), "").await
}

/// Returns the values of the header in all requests that the upstream has received.
fn sent(upstream: &Upstream) -> Vec<String> {
    upstream.received().iter().flat_map(|request| request.fields(NAME)).map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn each_attempt_tells_the_upstream_what_is_left_of_the_clients_deadline() {
    let busy = Reply::new("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let upstream = Upstream::playing([busy, ok("done")]).await;
    let service = gateway(upstream.address, &[&HEADER[..], &["--interval", "50ms"]].concat()).await;
    assert_eq!(get(&service, "60000").await.status, 200);
    let left: Vec<u64> = sent(&upstream).iter().map(|value| value.parse().unwrap()).collect();
    assert!(left.len() == 2 && left[0] <= 60_000 && left[1] <= left[0] - 50 && left[1] > 0, "{left:?}");
}

#[tokio::test]
async fn a_client_can_shorten_its_deadline_but_not_extend_it() {
    let backend = backend("hang").await;
    let service = gateway(backend.address(), &HEADER).await;
    assert_eq!(get(&service, "100").await.status, 504);
    let service = gateway(backend.address(), &[&HEADER[..], &["--deadline", "100ms"]].concat()).await;
    assert_eq!(get(&service, "3600000").await.status, 504);
    let service = gateway(backend.address(), &["--deadline-header", "grpc-timeout"]).await;
    assert_eq!(send(service.address, "GET /hello HTTP/1.1\r\ngrpc-timeout: 100m", "").await.status, 504);
}

#[tokio::test]
async fn a_value_that_is_not_a_time_is_ignored() {
    let upstream = Upstream::playing([ok("done")]).await;
    let service = gateway(upstream.address, &[&HEADER[..], &["--deadline", "30s"]].concat()).await;
    for value in ["0", "-5", "soon"] {
        assert_eq!(get(&service, value).await.status, 200, "{value}");
    }
    let left: Vec<u64> = sent(&upstream).iter().map(|value| value.parse().unwrap()).collect();
    assert!(left.len() == 3 && left.iter().all(|left| (1..=30_000).contains(left)), "{left:?}");
}

#[tokio::test]
async fn without_the_flag_the_header_passes_through() {
    let upstream = Upstream::playing([ok("done")]).await;
    let service = gateway(upstream.address, &["--deadline", "30s"]).await;
    assert_eq!(get(&service, "1").await.status, 200);
    assert_eq!(sent(&upstream), ["1"]);
}

#[tokio::test]
async fn short_deadlines_of_clients_do_not_count_against_the_endpoints() {
    let (first, second) = (backend("hang").await, backend("hang").await);
    let other = format!("http://{}", second.address());
    let flags = ["--eject-after", "1", "--upstream", &other, "--admin", "127.0.0.1:0"];
    let mut service = gateway(first.address(), &[&HEADER[..], &flags].concat()).await;
    let admin = service.admin().await;
    for _ in 0..10 {
        assert_eq!(get(&service, "20").await.status, 504);
    }
    for endpoint in [first.address(), second.address()] {
        let ejections = format!("retry_service_endpoint_ejections_total{{endpoint=\"{endpoint}\"}}");
        assert_eq!(read_metric(admin, &ejections).await, 0.0);
    }
}
