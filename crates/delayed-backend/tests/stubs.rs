//! Stubs: what a client receives, and what is recorded.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the message")]

use std::fs;

use delayed_backend::{Backend, Stubs};

mod support;
use support::{exchange, request, watch};

async fn backend(script: &str, stubs: &str) -> Backend {
    watch();
    let backend = Backend::start(script.parse().unwrap()).await.unwrap();
    backend.set_stubs(stubs.parse().unwrap());
    backend
}

/// Returns the status and the body of a response.
async fn send(backend: &Backend, method: &str, target: &str) -> (u16, String) {
    let response = exchange(backend.address(), &request(method, target)).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    (head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
}

async fn get(backend: &Backend, target: &str) -> (u16, String) {
    send(backend, "GET", target).await
}

#[test]
fn the_stubs_of_the_documents_are_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["../../docs/stubs.md", "README.md"] {
        let text = fs::read_to_string(folder.join(document)).unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let stubs: Vec<_> = blocks.into_iter().filter(|block| block.contains("[[stub]]")).collect();
        assert_eq!(stubs.len(), 1, "{document}");
        for stubs in stubs {
            stubs.parse::<Stubs>().expect(document);
        }
    }
}

#[tokio::test]
async fn each_stub_has_a_script_of_its_own() {
    let stubs = "[[stub]]\npath = '/a/{id}'\nscript = 'status=503,ok'\nresponse = { text = 'a {id}' }\n\
                 [[stub]]\npath = '/b'\nscript = 'close,ok'\nresponse = { json = { b = 1 } }";
    let backend = backend("status=500,ok", stubs).await;
    assert_eq!(get(&backend, "/a/1").await.0, 503);
    assert_eq!(get(&backend, "/b").await.0, 0);
    assert_eq!(get(&backend, "/a/2").await, (200, "a 2".to_owned()));
    assert_eq!(get(&backend, "/b").await, (200, r#"{"b":1}"#.to_owned()));
    assert_eq!(get(&backend, "/hello").await.0, 500, "the first request of the default script");
    assert_eq!(get(&backend, "/other").await.0, 404);
    let recorded: Vec<_> =
        backend.requests().into_iter().map(|request| (request.target, request.stub, request.behavior)).collect();
    let row = |target: &str, stub: Option<&str>, behavior: &str| {
        (target.to_owned(), stub.map(str::to_owned), behavior.to_owned())
    };
    assert_eq!(
        recorded,
        [
            row("/a/1", Some("* /a/{id}"), "status=503"),
            row("/b", Some("* /b"), "close"),
            row("/a/2", Some("* /a/{id}"), "ok"),
            row("/b", Some("* /b"), "ok"),
            row("/hello", None, "status=500"),
            row("/other", None, "ok"),
        ]
    );
}

#[tokio::test]
async fn a_script_of_the_stubs_applies_to_all_requests_that_match_no_stub() {
    let backend = backend("ok", "script = 'status=503,ok'\n[[stub]]\npath = '/a'").await;
    assert_eq!(get(&backend, "/a").await, (200, String::new()));
    assert_eq!(get(&backend, "/other").await.0, 503);
    assert_eq!(get(&backend, "/other").await.0, 404);
    assert_eq!(get(&backend, "/hello").await.0, 503);
    assert_eq!(get(&backend, "/requests").await.0, 200);
}

#[tokio::test]
async fn a_stub_comes_before_a_route() {
    let backend = backend("ok", "[[stub]]\nmethod = 'GET'\npath = '/hello'\nresponse = { text = 'stub' }").await;
    assert_eq!(get(&backend, "/hello").await.1, "stub");
    assert_eq!(send(&backend, "HEAD", "/hello").await, (200, String::new()));
    assert_eq!(send(&backend, "POST", "/hello").await.0, 405);
}

#[tokio::test]
async fn replaced_stubs_start_their_scripts_and_leave_the_others() {
    let stubs = "[[stub]]\npath = '/a'\nscript = 'status=501,status=502'";
    let backend = backend("status=503,ok", stubs).await;
    assert_eq!((get(&backend, "/a").await.0, get(&backend, "/hello").await.0), (501, 503));
    backend.set_stubs(stubs.parse().unwrap());
    assert_eq!((get(&backend, "/a").await.0, get(&backend, "/hello").await.0), (501, 200));
    backend.set_script("status=504".parse().unwrap());
    assert_eq!((get(&backend, "/a").await.0, get(&backend, "/hello").await.0), (502, 504));
    assert_eq!(backend.received(), 6);
    backend.reset();
    assert_eq!(backend.requests(), []);
    assert_eq!(get(&backend, "/a").await.0, 501);
    assert_eq!(backend.requests()[0].number.get(), 1);
}

#[tokio::test]
async fn files_are_relative_to_the_stub_file() {
    let folder = std::env::temp_dir().join(format!("delayed-backend-stubs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("items.json"), r#"[{"id":"{id}"}]"#).unwrap();
    let stubs = |file: &str| {
        let path = folder.join("stubs.toml");
        fs::write(&path, format!("[[stub]]\npath = '/{{id}}'\n[stub.response]\nfile = '{file}'")).unwrap();
        Stubs::read(path)
    };
    watch();
    let backend = Backend::start("ok".parse().unwrap()).await.unwrap();
    backend.set_stubs(stubs("items.json").unwrap());
    let response = exchange(backend.address(), &request("GET", "/1")).await;
    assert!(response.contains("content-type: application/json\r\n"), "{response}");
    assert!(response.ends_with(r#"[{"id":"{id}"}]"#), "files have no placeholders: {response}");

    let error = stubs("other.json").unwrap_err().to_string();
    let shown = folder.display();
    assert!(
        error.starts_with(&format!(
            "{shown}/stubs.toml: line 4, column 8, stub.response.file: cannot read {shown}/other.json: "
        )),
        "{error}"
    );
    let error = stubs(".").unwrap_err().to_string();
    assert!(error.ends_with("is not a file"), "{error}");
    let error = Stubs::read(folder.join("none.toml")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {shown}/none.toml: ")), "{error}");
    fs::remove_dir_all(folder).unwrap();
}
