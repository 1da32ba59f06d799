//! A mock HTTP backend for testing clients: delays its responses, or plays a script of faults.
//!
//! By default it behaves like the backend of the retry sample: it responds to `GET /hello` with `Hello World!!!`, after
//! five seconds, or immediately for every fourth request. This simulates a slow network, and a service that recovers.
//! With a script, it simulates the other faults that a client has to handle.
//!
//! It is a program, and for tests it can run in the same process as a [`Backend`]:
//!
//! ```
//! use delayed_backend::Backend;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::TcpStream;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = Backend::start("close-after=12,ok".parse()?).await?;
//!
//! let mut client = TcpStream::connect(backend.address()).await?;
//! client.write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await?;
//! let mut response = String::new();
//! client.read_to_string(&mut response).await?;
//!
//! assert_eq!(response, "HTTP/1.1 200");
//! assert_eq!(backend.requests()[0].behavior, "close-after=12");
//! # Ok(())
//! # }
//! ```
//!
//! # Routes
//!
//! | path | methods | response |
//! |---|---|---|
//! | `/hello` | GET | `Hello World!!!` |
//! | `/echo` | any | the request, as `message/http`: request line, header fields, empty line, body (at most 16 MiB) |
//! | `/bytes/N` | GET, HEAD | `N` [known bytes](known_byte) with a strong `ETag`; supports `Range`, `If-Range` and `If-Match` |
//! | `/requests` | GET, HEAD | the [recorded requests](RecordedRequest) as JSON |
//!
//! With [stubs](Stubs), it also responds to other requests. Without, the script applies to the first three routes. Other paths result in 404, and other methods in 405. OPTIONS returns the
//! allowed methods, except for `/echo`.
//!
//! All requests are recorded, except those of `/requests`: the latest 50,000, in at most 128 MiB.
//!
//! The backend supports HTTP/1.1, and HTTP/2 with prior knowledge. With TLS, the protocol is negotiated with ALPN.
//!
//! # Scripts
//!
//! A script is a comma-separated list of behaviors. Each request gets the next one, in a cycle. With a seed, each
//! request gets a random one. `delay*3,ok` repeats `delay` three times, or makes it three times as likely as `ok`. A
//! semicolon combines behaviors: `status=503;retry-after=2;delay=1s`.
//!
#![doc = include_str!("fault/table.md")]
//!
//! Where a row has two forms, the value shown is the default. [`Script::with_delay`] sets the default of `delay`. The
//! behaviors from `hang` on are faults, and a request can have at most one of them.
//!
//! Sizes are in bytes, or in `KiB`, `MiB` and `GiB`. Durations have a unit (`10ms`, `1m 30s`) or are in seconds.
//!
//! A value that contains a comma, a semicolon, an asterisk, a double quote or a space and `#` needs double quotes:
//! `retry-after="Fri, 31 Dec 1999 23:59:59 GMT"`; so does a text with a behavior in it: `body="see status=503"`. In quotes, `\"` is a double quote and `\\` a backslash. JSON needs no
//! quotes: a value that starts with `{` or `[` extends to the matching bracket, as in `body={"a":1,"b":[2,3]}`. What
//! starts so but is not JSON needs quotes, too.
//!
//! A script can have several lines, a comma after the last behavior, and comments: from `#` to the end of the line. In a
//! value without quotes, a comment starts after a space. A recording of a gateway is such a script, which is
//! [played once](Script::as_recording).
//!
//! A body that starts with `{` or `[` has the type `application/json`, any other body `text/plain`. Another type is set
//! with `header=Content-Type: text/html`.
//!
//! # Differences between the protocols
//!
//! | behavior | HTTP/1.1 | HTTP/2 |
//! |---|---|---|
//! | `chunked` | `Transfer-Encoding: chunked`, except for HEAD, 204 and 304 | no `content-length`; END_STREAM ends the body |
//! | all that affect a connection | only its own response, as there is one at a time | all streams of the connection; counts all bytes that the connection sends from this response on, including frame headers |
//! | `truncate` | body, then FIN | body, then END_STREAM; the connection stays open |
//! | `chunked;truncate`, `bad-chunk` | chunks, then FIN without the last chunk | body, then RST_STREAM with INTERNAL_ERROR; the connection stays open |
//! | `excess` | bytes after the body; the next response follows them | DATA that exceeds `content-length` |
//! | `goaway` | `Connection: close` on the response | GOAWAY that excludes this stream and later ones, then FIN; later requests are not counted |
//! | `goaway=3` | `Connection: close` on the third response of the connection | GOAWAY after it, which excludes later streams; the connection stays open, and later requests are not counted |
//! | `refused-stream`, `rst=CANCEL` | like `close` | RST_STREAM; the connection stays open |
//! | `no-window` | the body is not read from the socket | no WINDOW_UPDATE: the client can send the initial window of 1 MiB |
//! | `no-ping` | like `hang` | PINGs are ignored until the connection's next request |
//!
//! # Proxy
//!
//! With an [upstream](BackendBuilder::upstream), all requests that match no stub are passed to a real server, and its
//! responses back, with the faults of the script. There are no routes then, not even `/requests`: what arrived is in
//! [`Backend::requests`] and in the control API.
//!
//! A request is sent to the upstream once, or not at all: if the client gets another response (`status`, `body`), or none
//! of its bytes (`reset`, `close`, `hang`, `garbage`, `down`). `stall-after=1` and `reset-after=1` lose the response to a
//! request that the upstream has processed. The delay is that of the response.
//!
//! Each request has a connection of its own to the upstream, over HTTP/1.1. Its `Host` is the upstream's, hop-by-hop
//! fields are removed, and only a `Via` is added. So responses are those of the upstream without a proxy, except that
//! some servers, such as nginx by default, do not compress for proxies. If a request comes back, because the upstream
//! leads to the backend itself, the response is a 508. Bodies and trailers are passed on as they arrive; redirects are
//! not followed. There are no timeouts. If the upstream cannot be connected to or sends no valid response, the client
//! gets a 502 whose body says why; if a body breaks off, its connection is closed, or over HTTP/2 its stream is reset.
//! Interim responses (1xx) are not passed on, `Upgrade` is removed, and CONNECT results in 501. `truncate` and
//! `bad-chunk` cut half of the body, or all of it if the upstream does not send its length, and the trailers. `early`
//! has an effect only together with `status` or `body`.
//!
//! # Handshakes and outages
//!
//! `tls=expired` and its like take the turn of a connection, not of a request: in `tls=expired,tls=stall,ok`, the first
//! two connections have a fault in their handshake, and the first request of the third gets `ok`. The response to a
//! request before such a behavior asks the client to use another connection, as `goaway=1` does. A request that
//! nevertheless meets it on an open connection is not responded to, and the connection is closed.
//!
//! During a `blackhole`, connections are silent, but stay open: what is sent meanwhile is read afterwards. The backlog
//! of the listener is full, so the kernel drops the packets of new connections. Clients send them again, usually after
//! 1 s, 3 s and 7 s.
//!
//! `down=0` closes all connections and refuses none, like a quick restart. [`Backend::down`] with a duration of zero ends any
//! outage early: after a `blackhole`, the connections that were silent continue.
//!
//! `half-open` is a connection whose other end is gone without a trace (RFC 9293, section 3.5.1): it responds, and
//! discards everything that arrives later.
//!
//! A connection has one fault at a time: if the responses of several HTTP/2 streams overlap, the latest fault replaces
//! the one before. Over HTTP/2, the body of a request with `refused-stream` or `goaway` is not read.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod common;
mod control;
mod fault;
mod handler;
mod program;
mod proxy;
mod recorder;
mod routes;
mod script;
mod server;
mod spelling;
mod state;
mod stubs;
mod text_position;
mod wait_error;

pub use crate::backend::{Backend, BackendBuilder};
pub use crate::fault::Behavior;
#[doc(hidden)]
pub use crate::program::main;
pub use crate::proxy::upstream::{Upstream, UpstreamError};
pub use crate::recorder::recorded_request::{RecordedBody, RecordedRequest, RecordedResponse};
pub use crate::routes::known_bytes::known_byte;
pub use crate::script::Script;
pub use crate::script::error::ScriptError;
pub use crate::server::Server;
pub use crate::server::drain::Connections;
pub use crate::stubs::Stubs;
pub use crate::stubs::error::{StubError, StubScriptError};
pub use crate::wait_error::WaitError;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
