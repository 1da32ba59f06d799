//! The control API, over HTTP, as a client in any language uses it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use delayed_backend::{Backend, Script};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

mod support;
use support::{exchange, request, watch};

async fn backend(script: &str) -> Backend {
    watch();
    Backend::builder().script(script.parse().unwrap()).control().start().await.unwrap()
}

fn control_address(backend: &Backend) -> SocketAddr {
    backend.control_url().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

/// Sends a request to the control API, and returns the status and the body.
async fn control(backend: &Backend, request_line: &str, body: &str) -> (u16, String) {
    send(control_address(backend), request_line, "", body).await
}

async fn send(address: SocketAddr, request_line: &str, fields: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{request_line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}");
    let response = exchange(address, &format!("{head}\r\n{fields}\r\n{body}")).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Returns the status of the next response of the backend; 0 if there is none.
async fn status(backend: &Backend) -> u16 {
    let response = exchange(backend.address(), &request("GET", "/hello")).await;
    response.get(9..12).map_or(0, |status| status.parse().unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[tokio::test]
async fn the_script_can_be_read_and_replaced() {
    let backend = backend("status=503,ok").await;
    assert_eq!(control(&backend, "GET /script", "").await, (200, "status=503,ok".to_owned()));
    assert_eq!(status(&backend).await, 503);
    assert_eq!(control(&backend, "PUT /script", "status=500,status=501\n").await, (204, String::new()));
    assert_eq!((status(&backend).await, status(&backend).await), (500, 501));
    assert_eq!(control(&backend, "GET /script", "").await.1, "status=500,status=501");
}

#[tokio::test]
async fn a_recording_stays_one_when_it_is_edited() {
    watch();
    let recording = "status=503".parse::<Script>().unwrap().as_recording();
    let backend = Backend::builder().script(recording).control().start().await.unwrap();
    let (_, text) = control(&backend, "GET /script", "").await;
    assert_eq!(control(&backend, "PUT /script", &text.replace("503", "502")).await.0, 204);

    let responses = [
        exchange(backend.address(), &request("GET", "/any")).await,
        exchange(backend.address(), &request("GET", "/any")).await,
    ];
    assert!(responses[0].starts_with("HTTP/1.1 502"), "{}", responses[0]);
    assert!(responses[1].starts_with("HTTP/1.1 200"), "{}", responses[1]);
    let (status, error) = control(&backend, "POST /seed", "7").await;
    assert_eq!((status, error.as_str()), (400, r#"{"error":"a recording is played in order, without a seed"}"#));
}

#[tokio::test]
async fn an_invalid_script_is_rejected_as_on_the_command_line_and_changes_nothing() {
    let backend = backend("status=500,status=501").await;
    assert_eq!(status(&backend).await, 500);
    let (code, body) = control(&backend, "PUT /script", "ok,\nstatsu=503").await;
    let error = "ok,\nstatsu=503".parse::<Script>().unwrap_err().to_string();
    assert_eq!(code, 400);
    assert_eq!(json(&body), json!({"error": error, "line": 2, "column": 1, "field": "script"}));
    assert_eq!(status(&backend).await, 501, "the script goes on");
}

#[tokio::test]
async fn stubs_can_be_read_and_replaced() {
    let backend = backend("ok").await;
    assert_eq!(control(&backend, "GET /stubs", "").await, (200, String::new()));
    let stubs = "[[stub]]\npath = '/hello'\nresponse = { status = 202 }";
    assert_eq!(control(&backend, "PUT /stubs", stubs).await.0, 204);
    assert_eq!(status(&backend).await, 202);
    assert_eq!(control(&backend, "GET /stubs", "").await.1, stubs);

    let (code, body) = control(&backend, "PUT /stubs", "[[stub]]\nresponse = { status = 99 }").await;
    let error = "line 2, column 23, stub.response.status: expected a status from 200 to 599, found 99";
    assert_eq!(code, 400);
    assert_eq!(json(&body), json!({"error": error, "line": 2, "column": 23, "field": "stub.response.status"}));
    let (code, body) = control(&backend, "PUT /stubs", "[[stub").await;
    assert_eq!((code, json(&body).get("field")), (400, None));
    assert_eq!(status(&backend).await, 202);
}

#[tokio::test]
async fn stubs_are_read_with_the_script_in_force() {
    let backend = backend("ok").await;
    let stubs =
        |script: &str| format!("# é\n'script' = {script} # of all others\n[[stub]]\npath = '/a'\nscript = 'close'");
    for script in ["'status=500'", "\"\"\"status=500,\nok\"\"\""] {
        assert_eq!(control(&backend, "PUT /stubs", &stubs(script)).await.0, 204);
        assert_eq!(control(&backend, "GET /stubs", "").await.1, stubs(script));
        for script in [r#"status=501;body={"a":"it's"}"#, "status=502,ok", "status=503"] {
            assert_eq!(control(&backend, "PUT /script", script).await.0, 204);
            let shown = control(&backend, "GET /stubs", "").await.1;
            assert!(
                shown.starts_with("# é\n'script' = ")
                    && shown.ends_with(" # of all others\n[[stub]]\npath = '/a'\nscript = 'close'"),
                "{shown}"
            );
            assert_eq!(control(&backend, "PUT /stubs", &shown).await.0, 204);
            assert_eq!(control(&backend, "GET /script", "").await.1, script);
        }
        assert_eq!(exchange(backend.address(), &request("GET", "/other")).await.get(9..12), Some("503"));
    }
}

#[tokio::test]
async fn the_script_of_a_stub_can_be_replaced() {
    let backend = backend("status=500").await;
    let stubs =
        "[[stub]]\nname = 'an item'\npath = '/hello'\n[[stub]]\npath = '/other'\nscript = 'status=501,status=502'";
    assert_eq!(control(&backend, "PUT /stubs", stubs).await.0, 204);
    assert_eq!(status(&backend).await, 200);
    let put = async |name: &str, script: &str| control(&backend, &format!("PUT /script?stub={name}"), script).await;
    assert_eq!(put("an%20item", "status=503,ok").await.0, 204);
    assert_eq!(control(&backend, "GET /script?stub=an+item", "").await, (200, "status=503,ok".to_owned()));
    assert_eq!(control(&backend, "GET /script?stub=*+/other", "").await.1, "status=501,status=502");
    assert_eq!(control(&backend, "GET /script", "").await.1, "status=500");
    assert_eq!((status(&backend).await, status(&backend).await), (503, 200));
    assert_eq!(control(&backend, "POST /reset", "").await.0, 204);
    assert_eq!(status(&backend).await, 503, "it starts anew");

    let (code, body) = put("item", "ok").await;
    let error = r#"no stub has the name "item"; expected one of ["an item", "* /other"]"#;
    assert_eq!((code, json(&body)), (400, json!({"error": error, "field": "stub"})));
    let (code, body) = put("an%20item", "tls=expired").await;
    assert_eq!((code, &json(&body)["field"]), (400, &json!("stub")));
    assert_eq!(control(&backend, "PUT /script?stubs=x", "ok").await.0, 400);
    assert_eq!(control(&backend, "PUT /stubs", stubs).await.0, 204);
    assert_eq!(status(&backend).await, 200, "the file has no script for it");
}

#[tokio::test]
async fn what_clients_send_by_mistake_is_explained_and_changes_nothing() {
    let backend = backend("status=503").await;
    let form = "content-type: multipart/form-data; boundary=x\r\n";
    for (endpoint, fields, body, expected) in [
        ("PUT /script", "", r#"{"script": "ok"}"#, "the body is JSON; expected the text itself"),
        ("PUT /stubs", "", r#"{"stub": []}"#, "the body is JSON; expected the text itself"),
        ("PUT /script", "", r#""ok""#, "remove the quotes around the script: ok"),
        ("PUT /script", "", "[[stub]]\npath = '/a'", "the body has stubs, which PUT /stubs takes"),
        ("PUT /stubs", "", "[[stub]]path = '/a'", "which curl keeps with --data-binary"),
        ("PUT /stubs", form, "--x", "the body is a form"),
        ("POST /down", "", "10s", "expected the length of the outage in the query, such as /down?for=3s"),
    ] {
        let (code, body) = send(control_address(&backend), endpoint, fields, body).await;
        assert!(code == 400 && json(&body)["error"].as_str().unwrap().contains(expected), "{body}");
    }
    assert_eq!(status(&backend).await, 503);
}

#[tokio::test]
async fn requests_can_be_waited_for() {
    let backend = backend("ok").await;
    let waiting = control(&backend, "GET /requests?wait=2&for=60s", "");
    let (waited, _) = tokio::join!(waiting, async { (status(&backend).await, status(&backend).await) });
    assert_eq!((waited.0, &json(&waited.1)["received"]), (200, &json!(2)));
    assert_eq!(json(&control(&backend, "GET /requests?wait=2&last=1", "").await.1)["requests"][0]["number"], 2);
    let (code, body) = control(&backend, "GET /requests?wait=3&for=10ms", "").await;
    let error = "2 of 3 requests arrived within 10ms: GET /hello, GET /hello";
    assert_eq!((code, json(&body)), (504, json!({"error": error, "field": "wait"})));
    assert_eq!(json(&control(&backend, "GET /requests?wait=many", "").await.1)["field"], "wait");
    assert_eq!(json(&control(&backend, "GET /requests?wait=1&for=long", "").await.1)["field"], "for");
    assert_eq!(control(&backend, "GET /requests?wait=1&for=10m", "").await.0, 200);
    let (code, body) = control(&backend, "GET /requests?wait=1&for=601", "").await;
    assert_eq!((code, json(&body)["error"].as_str()), (400, Some("expected at most 10m")));
}

#[tokio::test]
async fn stubs_from_the_network_read_files_only_in_the_folder_of_the_stub_file() {
    watch();
    let folder = std::env::temp_dir().join(format!("delayed-backend-control-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.txt"), "from a file").unwrap();
    fs::write(folder.join("stubs.toml"), "").unwrap();
    let stubs = delayed_backend::Stubs::read(folder.join("stubs.toml")).unwrap();
    let backend = Backend::builder().stubs(stubs).control().start().await.unwrap();
    let put = |file: &str| format!("[[stub]]\npath = '/hello'\n[stub.response]\nfile = '{file}'");
    for _ in 0..2 {
        assert_eq!(control(&backend, "PUT /stubs", &put("a.txt")).await.0, 204);
        assert!(exchange(backend.address(), &request("GET", "/hello")).await.ends_with("from a file"));
    }
    for file in ["../a.txt", "/etc/hostname", "x/../a.txt", "."] {
        let (code, body) = control(&backend, "PUT /stubs", &put(file)).await;
        assert_eq!(code, 400, "{file}");
        assert!(json(&body)["error"].as_str().unwrap().contains("within the folder of the stub file"), "{body}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn requests_can_be_read_and_removed() {
    let backend = backend("status=503,ok").await;
    let post = "POST /other HTTP/1.1\r\nhost: test\r\nx-a: 1\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    exchange(backend.address(), post).await;
    status(&backend).await;
    let (code, body) = control(&backend, "GET /requests", "").await;
    let report = json(&body);
    assert_eq!((code, &report["received"]), (200, &json!(2)));
    let first = &report["requests"][0];
    assert_eq!((&first["method"], &first["target"]), (&json!("POST"), &json!("/other")));
    assert_eq!((&first["headers"]["x-a"], &first["body"]["text"]), (&json!("1"), &json!("abc")));
    assert_eq!((&first["response"]["status"], &report["requests"][1]["behavior"]), (&json!(404), &json!("status=503")));

    assert_eq!(control(&backend, "DELETE /requests", "").await.0, 204);
    assert_eq!(json(&control(&backend, "GET /requests", "").await.1)["received"], 0);
    assert_eq!(status(&backend).await, 200, "the script goes on");
    assert_eq!(control(&backend, "POST /reset", "").await.0, 204);
    assert_eq!(status(&backend).await, 503, "the script starts anew");
    assert_eq!(json(&control(&backend, "GET /requests", "").await.1)["requests"][0]["number"], 1);
}

#[tokio::test]
async fn the_backend_can_be_taken_down_and_up_again() {
    let backend = backend("ok").await;
    let mut idle = TcpStream::connect(backend.address()).await.unwrap();
    assert_eq!(control(&backend, "POST /down?for=0", "").await.0, 204);
    let read = tokio::time::timeout(Duration::from_millis(100), idle.read(&mut [0; 1])).await;
    assert!(read.is_err(), "there is no outage to end, so connections stay open");
    assert_eq!(control(&backend, "POST /down?for=1h", "").await.0, 204);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0, "connections are closed");
    while TcpStream::connect(backend.address()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(control(&backend, "GET /healthz", "").await, (200, "ok".to_owned()));
    assert_eq!(control(&backend, "POST /down?for=0", "").await.0, 204);
    while TcpStream::connect(backend.address()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(status(&backend).await, 200);

    let (code, body) = control(&backend, "POST /down?for=soon", "").await;
    let error = "expected a duration such as 3s, 200ms or 1m 30s, or a number of seconds such as 0.5";
    assert_eq!((code, json(&body)), (400, json!({"error": error, "field": "for"})));
    let (code, body) = control(&backend, "POST /down?four=3s", "").await;
    assert_eq!((code, &json(&body)["field"]), (400, &json!("four")));
}

#[tokio::test]
async fn an_outage_can_start_before_the_first_connection_is_accepted() {
    let backend = backend("ok").await;
    backend.down(Duration::from_secs(3600));
    while TcpStream::connect(backend.address()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_tls_a_script_with_faults_of_the_handshake_is_rejected() {
    let backend = backend("status=503").await;
    for (endpoint, body) in [("PUT /script", "ok,tls=expired"), ("PUT /stubs", "script = 'ok,tls=expired'")] {
        let error = "the script has faults of the TLS handshake, which need --tls";
        let (code, body) = control(&backend, endpoint, body).await;
        assert_eq!((code, json(&body)), (400, json!({"error": error, "field": "script"})));
    }
    assert_eq!(status(&backend).await, 503);
}

#[tokio::test]
async fn a_seed_selects_behaviors_at_random() {
    let backend = backend("status=500,status=501,status=502,ok").await;
    let mut runs = HashMap::new();
    for seed in ["7", "8", "7"] {
        assert_eq!(control(&backend, "POST /seed", seed).await.0, 204);
        let mut statuses = Vec::new();
        for _ in 0..16 {
            statuses.push(status(&backend).await);
        }
        let before = runs.insert(seed, statuses.clone());
        assert!(before.is_none_or(|before| before == statuses), "{seed}");
    }
    assert_ne!(runs["7"], runs["8"]);
    assert_eq!(control(&backend, "DELETE /seed", "").await.0, 204);
    assert_eq!((status(&backend).await, status(&backend).await), (500, 501));
    let (code, body) = control(&backend, "POST /seed", "x").await;
    assert_eq!((code, &json(&body)["field"]), (400, &json!("seed")));
}

#[tokio::test]
async fn what_arrives_is_sent_as_events() {
    let backend = backend("status=503").await;
    let mut stream = TcpStream::connect(control_address(&backend)).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    while lines.next_line().await.unwrap().unwrap() != ": connected" {}
    status(&backend).await;
    control(&backend, "PUT /script", "ok").await;
    control(&backend, "POST /reset", "").await;
    let (mut events, mut last) = (Vec::new(), Value::Null);
    while events.last().is_none_or(|event| event != "cleared") {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some(event) = line.strip_prefix("event: ") {
            events.push(event.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "{}") {
            last = json(data);
        }
    }
    assert_eq!(events.first().unwrap(), "request");
    events.dedup();
    assert_eq!(events, ["request", "changed", "cleared"]);
    assert_eq!((&last["target"], &last["response"]["status"]), (&json!("/hello"), &json!(503)));
    assert_eq!(last["response"]["complete"], true);
}

/// Connects to the events, and returns the connection and the status.
async fn events(backend: &Backend) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(control_address(backend)).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

#[tokio::test]
async fn a_client_that_reads_no_events_delays_no_requests() {
    let backend = backend("ok").await;
    let (client, code) = events(&backend).await;
    assert_eq!(code, "200");
    let body = "x".repeat(60_000);
    let head = format!("POST /echo HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}", body.len());
    // More than the kernel buffers for a connection.
    for _ in 0..150 {
        let response = exchange(backend.address(), &format!("{head}\r\n\r\n{body}")).await;
        assert!(response.ends_with(&body));
    }
    drop(client);
}

#[tokio::test]
async fn the_number_of_clients_of_the_events_is_limited() {
    let backend = backend("ok").await;
    let mut clients = Vec::new();
    while let (client, code) = events(&backend).await
        && code == "200"
    {
        clients.push(client);
    }
    assert_eq!(clients.len(), 64);
    let (code, body) = control(&backend, "GET /events", "").await;
    assert_eq!((code, json(&body)), (503, json!({"error": "64 clients read the events already"})));
    // That a client has left is noticed with the next event.
    drop(clients);
    while events(&backend).await.1 != "200" {
        control(&backend, "PUT /script", "ok").await;
    }
}

#[tokio::test]
async fn waiting_for_requests_does_not_count_as_reading_events() {
    let backend = Arc::new(backend("ok").await);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.wait_for(2, Duration::from_secs(60)).await })
        })
        .collect();
    let (_client, code) = events(&backend).await;
    assert_eq!(code, "200");
    status(&backend).await;
    status(&backend).await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_latest_requests_can_be_selected() {
    let backend = backend("ok").await;
    for _ in 0..3 {
        status(&backend).await;
    }
    let report = json(&control(&backend, "GET /requests?last=2", "").await.1);
    let numbers: Vec<_> = report["requests"].as_array().unwrap().iter().map(|request| &request["number"]).collect();
    assert_eq!((numbers, &report["received"]), (vec![&json!(2), &json!(3)], &json!(3)));
    let (code, body) = control(&backend, "GET /requests?last=-1", "").await;
    assert_eq!((code, json(&body)), (400, json!({"error": "expected a number of requests", "field": "last"})));
}

#[tokio::test]
async fn browsers_get_a_page_in_which_nothing_of_a_request_is_markup() {
    let backend = backend(r#"status=503;body="</textarea><script>""#).await;
    let stubs = "[[stub]]\nname = '<b>'\npath = '/stub'\n# </textarea><img>";
    control(&backend, "PUT /stubs", stubs).await;
    for target in ["/stub", "/hello", "/a\"'&b?%3Cscript%3E"] {
        exchange(backend.address(), &request("GET", target)).await;
    }
    let page = exchange(
        control_address(&backend),
        "GET / HTTP/1.1\r\nhost: <i>\r\naccept: text/html, */*\r\nconnection: close\r\n\r\n",
    )
    .await;
    let (head, page) = page.split_once("\r\n\r\n").unwrap();
    for field in
        ["content-type: text/html; charset=utf-8", "x-content-type-options: nosniff", "cache-control: no-store"]
    {
        assert!(head.contains(field), "{head}");
    }
    for source in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(head.contains(source), "{head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    assert!(page.contains("/hello</td>") && page.contains("/a&quot;&#39;&amp;b?%3Cscript%3E</td>"), "{page}");
    assert_eq!((page.matches("<script").count(), page.matches("</textarea>").count()), (1, 2));
    for markup in ["<b>", "<img>", "<i>"] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains("&lt;b&gt;") && page.contains("# &lt;/textarea&gt;&lt;img&gt;"));
}

#[tokio::test]
async fn other_paths_and_methods_say_what_there_is() {
    let backend = backend("ok").await;
    let (code, body) = control(&backend, "GET /", "").await;
    assert!(code == 200 && body.contains("PUT    /script"), "{body}");
    let (code, body) = control(&backend, "GET /scripts", "").await;
    assert_eq!((code, json(&body)), (404, json!({"error": "no such path; GET / lists all"})));
    let (code, body) = control(&backend, "POST /script", "ok").await;
    assert_eq!((code, json(&body)), (405, json!({"error": "expected GET, PUT"})));
    assert_eq!(control(&backend, "OPTIONS /script", "").await.0, 204);
    assert_eq!(control(&backend, "HEAD /script", "").await, (200, String::new()));
    let too_large = " ".repeat((4 << 20) + 1);
    let address = control_address(&backend);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("PUT /script HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", too_large.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(too_large.as_bytes()).await;
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 413");
}

#[tokio::test]
async fn pages_of_other_sites_are_rejected() {
    let backend = backend("ok").await;
    let address = control_address(&backend);
    let put = async |origin: &str| send(address, "PUT /script", &format!("origin: {origin}\r\n"), "close").await.0;
    assert_eq!(put("http://example.com").await, 403);
    assert_eq!(put("null").await, 403);
    assert_eq!(status(&backend).await, 200);
    assert_eq!(put(&format!("http://{address}")).await, 204);
    // A page whose name points to the local machine has the origin of the control API.
    let host = "evil.example:9000";
    let read = format!("GET /requests HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let change = format!("POST /reset HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\nconnection: close\r\n\r\n");
    for request in [read, change] {
        assert!(exchange(address, &request).await.starts_with("HTTP/1.1 403"));
    }
}

async fn wait_for_port(file: &Path) -> u16 {
    loop {
        match fs::read_to_string(file) {
            Ok(text) => return text.trim().parse().unwrap(),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn the_program_tells_its_ports_and_removes_the_files_at_the_end() {
    watch();
    let folder = std::env::temp_dir().join(format!("delayed-backend-ports-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (port_file, control_file) = (folder.join("port"), folder.join("control"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
    command.args(["--listen", "0", "--script", "ok", "--control", "0", "--print-addresses"]);
    command.arg("--port-file").arg(&port_file).arg("--control-port-file").arg(&control_file);
    command.stdout(std::process::Stdio::piped());
    let mut backend = support::Backend::spawn(command).await;
    let line = json(&backend.next_output().await);
    let (port, control_port) = (wait_for_port(&port_file).await, wait_for_port(&control_file).await);
    assert_eq!(
        line,
        json!({
            "url": format!("http://127.0.0.1:{port}"),
            "port": port,
            "control_url": format!("http://127.0.0.1:{control_port}"),
            "control_port": control_port,
        })
    );
    assert_eq!(port, backend.address.port());
    let control: SocketAddr = ([127, 0, 0, 1], control_port).into();
    assert_eq!(send(control, "PUT /script", "", "status=503").await.0, 204);
    let response = exchange(backend.address, &request("GET", "/hello")).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");

    // An event stream does not delay the end.
    let mut events = TcpStream::connect(control).await.unwrap();
    events.write_all(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    events.read_exact(&mut [0; 12]).await.unwrap();
    backend.signal("TERM").await;
    assert_eq!(backend.exit().await.code(), Some(0));
    assert!(!port_file.exists() && !control_file.exists());
    fs::remove_dir(folder).unwrap();
}
