//! The proxy of the environment. As variables belong to the process, each client runs in its own: this test binary again,
//! with only the test `client_in_its_own_process`.
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
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
};

use common::{Reply, Server, quick, watch};
use http::Version;
use retry_client::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A proxy that responds to requests with `proxy`, and opens tunnels unless it is to reject them.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(rejection: Option<&'static str>) -> Self {
        watch();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(stream, rejection, Arc::clone(&log)));
            }
        });
        Self { address, heads, _tasks: tasks }
    }

    /// Returns the URL for the environment.
    fn url(&self) -> String {
        format!("http://me:hush@{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, rejection: Option<&str>, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    log.lock().unwrap().push(head.clone());
    let response = match (head.strip_prefix("connect "), rejection) {
        (None, _) => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nproxy",
        (Some(_), Some(rejection)) => rejection,
        (Some(rest), None) => {
            let mut server = TcpStream::connect(rest.split(' ').next().unwrap()).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut server).await;
            return;
        }
    };
    let _ = stream.write_all(response.as_bytes()).await;
}

const URL: &str = "RETRY_CLIENT_TEST_URL";
const OTHER_URL: &str = "RETRY_CLIENT_TEST_OTHER_URL";
const OPTIONS: &str = "RETRY_CLIENT_TEST_OPTIONS";
const CA_FILE: &str = "RETRY_CLIENT_TEST_CA_FILE";

#[tokio::test]
#[ignore = "run by the other tests, with an environment of their choice"]
async fn client_in_its_own_process() {
    let options = std::env::var(OPTIONS).unwrap_or_default();
    let client = Client::builder(std::env::var(URL).unwrap())
        .policy(quick(1))
        .proxy_from_env(!options.contains("off"))
        .http2_prior_knowledge(options.contains("http2"));
    let client = match std::env::var(OTHER_URL) {
        Ok(url) => client.endpoint(url),
        Err(_) => client,
    };
    let client = match std::env::var(CA_FILE) {
        Ok(path) => client.ca_file(path),
        Err(_) => client,
    };
    let outcome = match client.build() {
        Err(error) => error.message().to_owned(),
        Ok(client) => {
            assert!(!format!("{client:?}").contains("bWU6"), "credentials are displayed");
            if options.contains("repeat") {
                // Until each endpoint had some.
                for _ in 0..20 {
                    client.get("/x?y").text().await.unwrap();
                }
            }
            match client.get("/x?y").text().await {
                Ok(text) => text,
                Err(error) => format!("{} [{}]", error.message(), error.history().unwrap().attempts()),
            }
        }
    };
    println!("\noutcome: {outcome}");
}

/// Returns the outcome of a GET of `/x?y` in a process with these variables.
async fn outcome(url: String, variables: &[(&'static str, String)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "client_in_its_own_process", "--ignored", "--nocapture"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env(URL, url).envs(variables.iter().cloned());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let output = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.lines().find_map(|line| line.strip_prefix("outcome: ")).unwrap_or_else(|| panic!("{output}")).to_owned()
}

#[tokio::test]
async fn http_requests_go_to_the_proxy_with_their_absolute_url() {
    let proxy = Proxy::start(None).await;
    let text = outcome("http://server.invalid".to_owned(), &[("HTTP_PROXY", proxy.url())]).await;
    assert_eq!(text, "proxy");
    let heads = proxy.heads();
    assert!(heads[0].starts_with("get http://server.invalid/x?y http/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("\r\nhost: server.invalid\r\n"), "{heads:?}");
    assert!(heads[0].contains("\r\nproxy-authorization: basic bwu6ahvzaa==\r\n"), "{heads:?}");
    assert_eq!(heads.len(), 1);
}

#[tokio::test]
async fn requests_go_directly_if_the_environment_or_the_setting_says_so() {
    let (server, proxy) = (Server::start([Reply::Ok("server")]).await, Proxy::start(None).await);
    let rest = [
        ("NO_PROXY", "elsewhere,127.0.0.0/8"),
        ("REQUEST_METHOD", "GET"), // CGI
        (OPTIONS, "off"),
        ("HTTP_PROXY", ""),
    ];
    for (name, value) in rest {
        let variables = [("HTTP_PROXY", proxy.url()), (name, value.to_owned())];
        assert_eq!(outcome(format!("http://{}", server.address), &variables).await, "server", "{name}");
    }
    assert_eq!((server.seen().len(), proxy.heads().len()), (rest.len(), 0));
}

/// A proxy may be for one of the endpoints only.
#[tokio::test]
async fn the_credentials_of_a_proxy_are_not_sent_to_an_endpoint_without_one() {
    let server = Server::start([Reply::Ok("server")]).await;
    let (proxied, direct) = ("http://server.invalid".to_owned(), format!("http://{}", server.address));
    for (first, second) in [(&proxied, &direct), (&direct, &proxied)] {
        let proxy = Proxy::start(None).await;
        let variables = [
            ("HTTP_PROXY", proxy.url()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            (OTHER_URL, second.clone()),
            (OPTIONS, "repeat".to_owned()),
        ];
        let outcome = outcome(first.clone(), &variables).await;
        assert!(["proxy", "server"].contains(&&*outcome), "{outcome}");
        assert!(!proxy.heads().is_empty() && !server.seen().is_empty(), "both get some requests");
        assert!(proxy.heads().iter().all(|head| head.contains("\r\nproxy-authorization: basic bwu6ahvzaa==\r\n")));
    }
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

#[tokio::test]
async fn http2_with_prior_knowledge_goes_through_a_tunnel() {
    let (server, proxy) = (Server::start([Reply::Ok("server")]).await, Proxy::start(None).await);
    let variables = [("all_proxy", proxy.url()), (OPTIONS, "http2".to_owned())];
    assert_eq!(outcome(format!("http://{}", server.address), &variables).await, "server");
    let (seen, heads) = (server.seen(), proxy.heads());
    assert!(heads[0].starts_with(&format!("connect {} http/1.1\r\n", server.address)), "{heads:?}");
    assert!(heads[0].contains("\r\nproxy-authorization: basic bwu6ahvzaa==\r\n"), "{heads:?}");
    assert_eq!((seen[0].version, seen[0].target.as_str()), (Version::HTTP_2, "/x?y"));
    assert_eq!(seen[0].headers.get("proxy-authorization"), None);
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    for (offered, version) in [(https::BOTH, Version::HTTP_2), (&["http/1.1"][..], Version::HTTP_11)] {
        let authority = https::Authority::new();
        let https = https::Https::start(authority.acceptor("127.0.0.1", offered, None), 0).await;
        let (address, proxy) = (https.server.address, Proxy::start(None).await);
        let ca_file = authority.file().to_str().unwrap().to_owned();
        let variables = [("https_proxy", proxy.url()), ("HTTP_PROXY", "http://not-this.invalid".to_owned())];
        let variables = [&variables[..], &[(CA_FILE, ca_file)]].concat();
        assert_eq!(outcome(format!("https://{address}"), &variables).await, "ok");
        let (seen, heads) = (https.server.seen(), proxy.heads());
        assert!(heads[0].starts_with(&format!("connect {address} http/1.1\r\nhost: {address}\r\n")), "{heads:?}");
        assert!(heads[0].contains("\r\nproxy-authorization: basic bwu6ahvzaa==\r\n"), "{heads:?}");
        assert_eq!((seen[0].version, seen[0].target.as_str()), (version, "/x?y"));
        assert_eq!(seen[0].headers.get("proxy-authorization"), None);
        assert_eq!(heads.len(), 1);
    }
}

#[tokio::test]
async fn a_permanently_rejected_tunnel_is_one_attempt() {
    let rows = [
        ("HTTP/1.1 407 Who Are You\r\ncontent-length: 3\r\n\r\nwho", "407 Proxy Authentication Required", 1),
        ("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n", "503 Service Unavailable", 2),
    ];
    for (rejection, status, attempts) in rows {
        let proxy = Proxy::start(Some(rejection)).await;
        let variables = [("HTTP_PROXY", proxy.url()), (OPTIONS, "http2".to_owned())];
        let expected = format!(
            "cannot connect to server.invalid through proxy {}: the proxy returned {status} for CONNECT [{attempts}]",
            proxy.address
        );
        assert_eq!(outcome("http://server.invalid".to_owned(), &variables).await, expected);
        assert_eq!(proxy.heads().len(), attempts);
    }
}

#[tokio::test]
async fn an_unreachable_proxy_is_named() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let variables = [("HTTP_PROXY", format!("http://me:hush@{address}"))];
    assert_eq!(
        outcome("http://server.invalid".to_owned(), &variables).await,
        format!("cannot connect to server.invalid through proxy {address}: Connection refused (os error 111) [2]")
    );
}

#[tokio::test]
async fn a_proxy_of_another_kind_is_an_error() {
    let variables = [("HTTP_PROXY", "socks5://me:hush@tor:9050".to_owned())];
    assert_eq!(
        outcome("http://server.invalid".to_owned(), &variables).await,
        "proxy_from_env: the environment has 'socks5://tor:9050': expected a proxy that starts with http://"
    );
}
