//! What a raw socket observes of every behavior, over HTTP/1.1 and HTTP/2, with and without TLS.
//!
//! docs/faults.md has the result. `UPDATE_DOCS=1` writes it.

#![cfg(feature = "tls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use delayed_backend::{Backend, Script};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod support;
use support::observe::{http1, http2};
use support::tls::connect;
use support::watch;

/// The documentation of the crate has a row for each behavior.
const TABLE: &str = include_str!("../src/fault/table.md");
const START: &str = "<!-- observed -->\n";
const END: &str = "<!-- end of observed -->\n";

/// The forms of all behaviors, with values.
fn forms() -> impl Iterator<Item = &'static str> {
    TABLE.lines().skip(2).flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
}

/// Returns scripts that play this form: one, or one for each kind.
fn scripts(form: &str) -> Vec<String> {
    match form {
        // A default is observed without a value.
        "delay=5s" | "huge-headers=1MiB" | "excess=5" | "drip=10ms" | "drip-head=10ms" | "close-idle=20ms" => vec![],
        "delay=1s" => vec!["delay=10ms..50ms".to_owned()],
        "reset-after=100" | "close-after=100" | "stall-after=100" => vec![form.replace("100", "20")],
        "goaway=3" => vec!["goaway=1".to_owned()],
        "down" | "blackhole" => vec![],
        "down=3s" | "blackhole=3s" => vec![form.replace("3s", "1500ms")],
        "chunked" => ["chunked", "chunked;truncate", "chunked;excess"].map(str::to_owned).into(),
        "tls=expired" => ["expired", "wrong-name", "untrusted", "stall"].map(|fault| format!("tls={fault}")).into(),
        "status=503" => ["status=503", "status=204"].map(str::to_owned).into(),
        _ if form.starts_with("retry-after") => vec![format!("status=503;{form}")],
        _ => vec![form.to_owned()],
    }
}

/// Returns what is observed over a protocol.
async fn observe(script: &str, protocol: &str) -> String {
    let parsed = format!("{script},ok").parse::<Script>().unwrap().with_delay(Duration::from_millis(10));
    let plain = Backend::start(parsed.clone()).await.unwrap();
    let tls = Backend::start_tls(parsed).await.unwrap();
    let over_tls = async {
        let protocols = [protocol];
        let stream = connect(tls.address(), "localhost", tls.ca_pem(), &protocols);
        match timeout(Duration::from_secs(3), stream).await {
            Err(_) => "the handshake does not end".to_owned(),
            Ok(Err(error)) => {
                let message = error.to_string().replace("invalid peer certificate: ", "");
                // Without the time and the names.
                format!("handshake: {}", message.split([':', ';']).next().unwrap())
            }
            Ok(Ok(stream)) if protocol == "h2" => http2(stream).await,
            Ok(Ok(stream)) => http1(stream).await,
        }
    };
    if script.starts_with("tls=") {
        let observed = over_tls.await;
        assert!(connect(tls.address(), "localhost", tls.ca_pem(), &[protocol]).await.is_ok(), "{script}");
        return observed;
    }
    let over_tcp = async {
        let stream = TcpStream::connect(plain.address()).await.unwrap();
        if protocol == "h2" { http2(stream).await } else { http1(stream).await }
    };
    let (over_tcp, over_tls, meanwhile) = tokio::join!(over_tcp, over_tls, connect_meanwhile(script, &plain));
    assert_eq!(over_tcp, over_tls, "{script} over TCP and over TLS");
    over_tcp + meanwhile
}

/// Returns what becomes of another connection during an outage.
async fn connect_meanwhile(script: &str, backend: &Backend) -> &'static str {
    if !script.starts_with("down") && !script.starts_with("blackhole") {
        return "";
    }
    while backend.received() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The outage may start only later, on a busy machine.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match timeout(Duration::from_millis(200), TcpStream::connect(backend.address())).await {
            Err(_) => return "; meanwhile, connecting takes time",
            Ok(Err(_)) => return "; meanwhile, connections are refused",
            Ok(Ok(_)) => {}
        }
    }
    "; meanwhile, connections are accepted"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_behavior_is_observed_as_documented() {
    watch();
    let mut running = JoinSet::new();
    for (index, script) in forms().flat_map(scripts).enumerate() {
        running.spawn(async move {
            let (http1, http2) = tokio::join!(observe(&script, "http/1.1"), observe(&script, "h2"));
            (index, format!("| `{script}` | {http1} | {http2} |\n"))
        });
    }
    let mut rows = running.join_all().await;
    rows.sort();
    let mut table = "| script | HTTP/1.1 | HTTP/2 |\n|---|---|---|\n".to_owned();
    for (_, row) in rows {
        table.write_str(&row).unwrap();
    }

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let document = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = document.split_once(START).unwrap();
    let (documented, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else {
        for form in forms() {
            let name = form.split('=').next().unwrap();
            let starts = |script: &str| script.starts_with(name) || script.contains(&format!(";{name}"));
            let rows = after.lines().filter(|row| row.split('`').nth(1).is_some_and(starts)).count();
            assert!(rows >= 2, "run scripts/faults.sh --write: clients have not seen {name}");
        }
        for (observed, documented) in table.lines().zip(documented.lines()) {
            assert_eq!(observed, documented, "run UPDATE_DOCS=1 cargo test -p delayed-backend --test observed");
        }
        assert_eq!(table.lines().count(), documented.lines().count());
    }
}
