//! Reloads on SIGHUP: settings are read again, and apply to new requests.
//!
//! `RELOAD_REQUESTS` and `RELOADS` set the number of both; `scripts/reload.sh` sets them to 100,000 and 20.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{
    convert::Infallible,
    env, fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use support::{
    Service, call, message::send, read_metric, refusing, temp_file::TempFile, upstream, upstream::Upstream, within,
};
use tokio::{
    net::TcpListener,
    process::Command,
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

/// A gateway with a configuration file.
async fn start(file: &TempFile, arguments: &[&str]) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.env("RUST_LOG", "info,retries=off,retry_client=off");
    command.args(["--forward", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]);
    command.arg(file.path()).args(arguments);
    Service::spawn(command).await
}

/// Reloads, and returns the log line about it.
async fn reload(service: &mut Service) -> String {
    service.signal("HUP").await;
    service.log_line("Reload").await
}

#[tokio::test]
async fn a_reload_changes_settings_and_names_those_that_need_a_restart() {
    let (first, second) =
        (Upstream::playing([upstream::ok("first")]).await, Upstream::playing([upstream::ok("second")]).await);
    let file = TempFile::new(&format!("upstream = \"http://{}\"\nmax-body-size = 1\n", first.address));
    let mut service = start(&file, &[]).await;
    let (address, admin) = (service.address, service.admin().await);
    let post = "POST / HTTP/1.1\r\ncontent-length: 5";
    assert_eq!(send(address, post, "hello").await.status, 413);
    assert!(call(admin, "GET", "/config").await.text().starts_with("# generation 1, in force since 2"));
    let began = read_metric(admin, "retry_service_config_reload_timestamp_seconds").await;

    file.write(&format!(
        "upstream = \"http://me:hush@{}\"\nmax-connections = 5\nlisten = \"127.0.0.1:1\"\nlog-format = \"json\"\ncuont = 1",
        second.address
    ));
    let refused = reload(&mut service).await;
    let location = format!("{}:5", file.path());
    assert!(
        refused.contains("ERROR") && refused.contains("Reload failed; keeping the current settings: "),
        "{refused}"
    );
    assert!(refused.contains(&format!("{location}: unknown setting 'cuont'")), "{refused}");
    assert_eq!(send(address, post, "hello").await.status, 413);
    assert_eq!(read_metric(admin, "retry_service_config_generation").await, 1.0);
    assert_eq!(read_metric(admin, "retry_service_config_reload_successful").await, 0.0);
    assert!(call(admin, "GET", "/config").await.text().contains("; the last reload failed\n"));

    let text = fs::read_to_string(file.path()).unwrap();
    file.write(&text.replace("cuont", "count"));
    service.signal("HUP").await;
    let restart = service.log_line("after a restart").await;
    // The flag `--listen` takes precedence over the file.
    assert!(restart.ends_with("\"These settings take effect only after a restart: max-connections\"}"), "{restart}");
    let line = service.log_line("Reloaded").await;
    let expected = format!(". Forwarding to http://***@{} (configuration file ", second.address);
    assert!(line.contains(&expected), "{line}");
    assert!(line.contains("Reloaded: generation 2, changed: upstream, count, max-body-size, log-format. "), "{line}");
    let response = send(address, post, "hello").await;
    assert_eq!((response.status, response.text().as_str()), (200, "second"));
    assert_eq!(read_metric(admin, "retry_service_config_generation").await, 2.0);
    assert_eq!(read_metric(admin, "retry_service_config_reload_successful").await, 1.0);
    assert!(read_metric(admin, "retry_service_config_reload_timestamp_seconds").await >= began);
    // Counters keep their values.
    assert_eq!(read_metric(admin, "retry_service_requests_total{method=\"POST\",code=\"413\"}").await, 2.0);
    let config = call(admin, "GET", "/config").await.text();
    assert!(config.starts_with("# generation 2, in force since 2"), "{config}");
    assert!(config.contains("\nmax-connections = \"20000\"") && config.contains("\ncount = \"1\""), "{config}");
    assert!(!config.contains("hush"), "{config}");

    let line = reload(&mut service).await;
    assert!(line.contains("Reloaded: generation 3, nothing changed. "), "{line}");
    assert_eq!((first.received().len(), second.received().len()), (0, 1));
    assert!(service.stop().await.iter().any(|line| line.contains("Stopping")));
}

#[tokio::test]
async fn a_reload_adds_and_removes_upstreams() {
    let upstreams = [Upstream::playing([upstream::ok("")]).await, Upstream::playing([upstream::ok("")]).await];
    let url = |number: usize| format!("'http://{}'", upstreams[number].address);
    let received = || upstreams.each_ref().map(|upstream| upstream.received().len());
    let file = TempFile::new(&format!("upstream = {}", url(0)));
    let mut service = start(&file, &[]).await;
    let (address, admin) = (service.address, service.admin().await);
    assert_eq!(call(address, "GET", "/").await.status, 200);
    assert_eq!(received(), [1, 0]);

    file.write(&format!("upstream = [{}, {}]", url(0), url(1)));
    let line = reload(&mut service).await;
    assert!(line.contains("changed: upstream. "), "{line}");
    assert!(line.contains(&format!("{}, http://{} (", upstreams[0].address, upstreams[1].address)), "{line}");
    let second = async {
        while received()[1] == 0 {
            assert_eq!(call(address, "GET", "/").await.status, 200);
        }
    };
    within("a request to the second upstream", second).await;

    file.write(&format!("upstream = {}", url(1)));
    assert!(reload(&mut service).await.contains("changed: upstream. "));
    let before = received();
    assert_eq!(call(address, "GET", "/").await.status, 200);
    assert_eq!(received(), [before[0], before[1] + 1]);
    let metrics = call(admin, "GET", "/metrics").await.text();
    assert!(!metrics.contains(&format!("endpoint=\"{}\"", upstreams[0].address)), "{metrics}");

    file.write(&format!("upstream = [{}, {}]", url(1), url(1)));
    let line = reload(&mut service).await;
    assert!(line.contains("Reload failed") && line.contains("expected each host and port only once"), "{line}");
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_configuration() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = listener.local_addr().unwrap();
    let (arrived, resume) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, wait) = (Arc::clone(&arrived), Arc::clone(&resume));
    let _upstream = tokio::spawn(async move {
        // The connection is closed after the reload: the second attempt goes to the same upstream.
        for response in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            upstream::read_request(&mut stream, &mut bytes).await.unwrap();
            notify.notify_one();
            if response.is_empty() {
                wait.notified().await;
            }
            tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes()).await.unwrap();
        }
    });
    let second = Upstream::playing([upstream::ok("second")]).await;
    let file = TempFile::new(&format!("upstream = \"http://{first}\"\nserver-timing = true\nmax-in-flight = 2\n"));
    let mut service = start(&file, &[]).await;
    let (address, admin) = (service.address, service.admin().await);
    let first = tokio::spawn(send(address, "GET / HTTP/1.1", ""));
    within("the request", arrived.notified()).await;

    file.write(&format!("upstream = \"http://{}\"\ncount = 0\nmax-in-flight = 1\n", second.address));
    assert!(reload(&mut service).await.contains("Reloaded"));
    // Both configurations count.
    assert_eq!(read_metric(admin, "retry_service_requests_in_flight").await, 1.0);
    assert_eq!(read_metric(admin, "retry_service_upstream_connections").await, 1.0);
    assert_eq!(send(address, "GET / HTTP/1.1", "").await.status, 503);
    resume.notify_one();
    let response = within("the response", first).await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "first"));
    assert_eq!(response.fields("server-timing").len(), 1);
    let response = send(address, "GET / HTTP/1.1", "").await;
    assert_eq!((response.status, response.text().as_str()), (200, "second"));
    assert!(response.fields("server-timing").is_empty());
}

#[tokio::test]
async fn the_budget_is_kept_unless_its_settings_change() {
    let upstream = Upstream::playing([upstream::ok("")]).await;
    let settings = format!("upstream = \"http://{}\"\nbudget-min-per-sec = 0\n", upstream.address);
    let file = TempFile::new(&(settings.clone() + "budget-ratio = 0.5"));
    let mut service = start(&file, &[]).await;
    let admin = service.admin().await;
    for _ in 0..4 {
        assert_eq!(call(service.address, "GET", "/").await.status, 200);
    }
    let available = read_metric(admin, "retry_service_retry_budget_available").await;
    assert!(available > 0.0 && available <= 2.0, "{available}");
    file.write(&(settings.clone() + "budget-ratio = 0.5\ncount = 1"));
    assert!(reload(&mut service).await.contains("changed: count"));
    assert_eq!(read_metric(admin, "retry_service_retry_budget_available").await, available);
    file.write(&(settings + "budget-ratio = 0.25"));
    assert!(reload(&mut service).await.contains("changed: count, budget-ratio"));
    assert_eq!(read_metric(admin, "retry_service_retry_budget_available").await, 0.0);
}

#[tokio::test]
async fn a_reload_can_turn_the_sample_into_a_gateway() {
    let upstream = Upstream::playing([upstream::ok("forwarded")]).await;
    let settings = format!("listen = \"127.0.0.1:0\"\nupstream = \"http://{}\"\n", upstream.address);
    let file = TempFile::new(&settings);
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.arg("--config").arg(file.path());
    let mut service = Service::spawn(command).await;
    assert_eq!(call(service.address, "GET", "/").await.status, 404);
    file.write(&(settings + "forward = true"));
    let line = reload(&mut service).await;
    assert!(
        line.contains(&format!("Forwarding to http://{} ", upstream.address)) && line.contains("interval"),
        "{line}"
    );
    let response = call(service.address, "GET", "/").await;
    assert_eq!((response.status, response.text().as_str()), (200, "forwarded"));
}

#[tokio::test]
async fn the_sample_can_be_reloaded() {
    let (backend, _socket) = refusing();
    let mut service = Service::start(backend, &[]).await;
    let line = reload(&mut service).await;
    let expected = format!(
        "Reloaded: generation 2, nothing changed. Requesting /hello from http://{backend} (no configuration file)"
    );
    assert!(line.contains(&expected), "{line}");
    assert_eq!(call(service.address, "GET", "/").await.status, 404);
    service.signal("TERM").await;
    assert!(within("the exit", service.exit()).await.success());
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Two upstreams: how often each of them was asked for each path. A response says which forwarding headers it got.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<[u8; 2]>>>);

impl Asked {
    /// Every tenth path gets a 503 first: all its attempts must go to the same upstream.
    async fn respond(self, upstream: usize, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path: usize = request.uri().path()[1..].parse().unwrap();
        let first = {
            let mut all = self.0.lock().unwrap();
            let length = all.len().max(path + 1);
            all.resize(length, [0; 2]);
            all[path][upstream] += 1;
            all[path][upstream] == 1
        };
        let has = |name| request.headers().contains_key(name);
        let mut response = Response::new(format!("{upstream} {} {}", has("x-forwarded-for"), has("forwarded")).into());
        if first && path.is_multiple_of(10) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        Ok(response)
    }

    async fn serve(self, upstream: usize, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let asked = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| asked.clone().respond(upstream, request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }
}

/// The responses that clients got.
#[derive(Default)]
struct Tally {
    next: AtomicUsize,
    by_upstream: [AtomicUsize; 2],
    failed: Mutex<Vec<String>>,
}

async fn call_all(gateway: SocketAddr, requests: usize, tally: Arc<Tally>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    loop {
        let path = tally.next.fetch_add(1, Relaxed);
        if path >= requests {
            return;
        }
        let uri = format!("http://{gateway}/{path}").parse().unwrap();
        let exchange = async {
            let response = client.get(uri).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>((status, body))
        };
        match timeout(support::LIMIT, exchange).await {
            Ok(Ok((200, body))) if &body[..] == b"0 true false" => drop(tally.by_upstream[0].fetch_add(1, Relaxed)),
            Ok(Ok((200, body))) if &body[..] == b"1 false true" => drop(tally.by_upstream[1].fetch_add(1, Relaxed)),
            other => tally.failed.lock().unwrap().push(format!("{path}: {other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_no_response_and_mix_no_configurations() {
    let (requests, reloads) = (number("RELOAD_REQUESTS", 4000), number("RELOADS", 8));
    let asked = Asked::default();
    let mut upstreams = JoinSet::new();
    let mut files = Vec::new();
    for (number, family) in ["x-forwarded", "forwarded"].into_iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        files.push(format!(
            "upstream = \"http://{address}\"\nforwarded = \"{family}\"\ncount = 2\ninterval = \"1ms\"\n"
        ));
        upstreams.spawn(asked.clone().serve(number, listener));
    }
    let file = TempFile::new(&files[0]);
    let mut service = start(&file, &["--budget-ratio", "off"]).await;
    let admin = service.admin().await;

    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        clients.spawn(call_all(service.address, requests, Arc::clone(&tally)));
    }
    let (mut good, mut broken) = (0, 0);
    for reloading in 1..=reloads {
        let due = async {
            while tally.next.load(Relaxed) < reloading * requests / (reloads + 1) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(300), due).await.unwrap();
        let is_broken = reloading % 4 == 2;
        if is_broken {
            // The first lines are valid, for the other upstream.
            file.write(&(files[(good + 1) % 2].clone() + "count = \"many\""));
            assert!(reload(&mut service).await.contains("Reload failed"));
            broken += 1;
        } else {
            good += 1;
            file.write(&files[good % 2]);
            assert!(reload(&mut service).await.contains(&format!("Reloaded: generation {},", good + 1)));
        }
    }
    while let Some(client) = timeout(Duration::from_secs(300), clients.join_next()).await.unwrap() {
        client.unwrap();
    }

    let by_upstream = [0, 1].map(|upstream| tally.by_upstream[upstream].load(Relaxed));
    let asked = asked.0.lock().unwrap().clone();
    let by_both = asked.iter().filter(|counts| counts[0] > 0 && counts[1] > 0).count();
    let failed = tally.failed.lock().unwrap().clone();
    println!(
        "{requests} requests, {reloads} reloads, {broken} of them broken: {} failed, {by_both} served by two \
         configurations, {by_upstream:?} by each upstream",
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!((by_both, by_upstream[0] + by_upstream[1]), (0, requests));
    assert!(by_upstream[0] > 0 && by_upstream[1] > 0);
    assert_eq!(read_metric(admin, "retry_service_config_generation").await, (good + 1) as f64);
    assert_eq!(read_metric(admin, "retry_service_requests_total{method=\"GET\",code=\"200\"}").await, requests as f64);
}
