//! A mock HTTP backend for tests of clients: delays its responses, or plays a script of faults.
//!
//! By default it is the backend of the retry sample: it responds to `GET /hello` with `Hello World!!!`, five seconds
//! late except for every fourth request. That simulates a slow network, and a service that recovers. With a script, it
//! simulates whatever else a client has to handle.
//!
//! It is a program, and a fixture for tests, the [`Backend`]:
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
//! assert_eq!(backend.requests()[0].behaviour, "close-after=12");
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
//! The script applies to the first three. Only their requests are counted and recorded: the latest 50,000, with the
//! number of those dropped. Other paths get 404, other methods 405, and OPTIONS (except for `/echo`) gets the allowed
//! methods.
//!
//! The backend speaks HTTP/1.1, and HTTP/2 with prior knowledge. With TLS, ALPN selects one of them.
//!
//! # Scripts
//!
//! A script is a comma-separated list of behaviours. Each request gets the next one, in a cycle; with a seed, each
//! request gets one at random. `delay*3,ok` repeats `delay` three times, or gives it three times the weight. A
//! semicolon combines behaviours: `status=503;retry-after=2;delay=1s`.
//!
//! | behaviour | what it does |
//! |---|---|
//! | `ok` | responds at once; cannot be combined with others |
//! | `delay` | waits for 5 s, or as long as `--delay` says, before anything else |
//! | `delay=1s` | waits this long before anything else |
//! | `status=503` | responds with this status (200 to 599) and its reason phrase; 204, 205 and 304 have no body |
//! | `retry-after=2` | adds this `Retry-After`; needs `status` |
//! | `retry-after-date=2s` | adds a `Retry-After` with the date at this distance in the future; needs `status` |
//! | `body="try later"` | sends this text as the body; needs `status` |
//! | `huge-headers`, `huge-headers=1048576` | adds header fields of this size in bytes |
//! | `chunked` | sends the response without `Content-Length` |
//! | `early` | responds before the request's body is read; all other behaviours read it first |
//! | `hang` | never responds |
//! | `reset` | resets the connection (RST) before any byte of the response |
//! | `close` | closes the connection (FIN) before any byte of the response |
//! | `reset-after=100` | resets the connection after this many bytes of the response, head included; a shorter response is complete |
//! | `close-after=100` | like `reset-after`, but closes the connection |
//! | `stall-after=100` | like `reset-after`, but leaves the connection open and sends nothing more |
//! | `truncate` | sends half of the body under its full `Content-Length`; with `chunked`, the end of the body is always missing |
//! | `truncate=5` | like `truncate`, but sends this many bytes of the body |
//! | `drip`, `drip=10ms` | sends the response one byte at a time, with this pause between bytes |
//! | `garbage` | sends bytes that are not HTTP, and closes the connection |
//! | `goaway` | asks the client to use another connection |
//! | `refused-stream` | refuses the request without processing it |
//! | `down`, `down=3s` | closes the listener and all connections for this long |
//!
//! Where there are two forms, the value shown is the default. [`Script::with_delay`] sets that of `delay`. The
//! behaviours from `hang` on are faults, and a request can have at most one. A value with a comma, a semicolon, an
//! asterisk, or a space at its end takes double quotes: `retry-after="Fri, 31 Dec 1999 23:59:59 GMT"`.
//!
//! # Differences between the protocols
//!
//! | behaviour | HTTP/1.1 | HTTP/2 |
//! |---|---|---|
//! | `chunked` | `Transfer-Encoding: chunked`, except for HEAD, 204 and 304 | no `content-length`; END_STREAM ends the body |
//! | `reset`, `close`, `garbage`, `reset-after`, `close-after`, `stall-after`, `drip` | affects the connection | affects the connection, and so all its streams; counts all bytes that the connection sends from this response on, frame headers included |
//! | `truncate` | body, then FIN | body, then END_STREAM; the connection stays open |
//! | `chunked;truncate` | chunks, then FIN without the last chunk | body, then RST_STREAM with INTERNAL_ERROR; the connection stays open |
//! | `goaway` | `Connection: close` on the response | GOAWAY that excludes this stream and later ones, then FIN; later requests are not counted |
//! | `refused-stream` | as `close` | RST_STREAM with REFUSED_STREAM; the connection stays open |
//!
//! A connection has one fault at a time: if several HTTP/2 streams get their responses at once, the fault of the latest
//! replaces the one before. Over HTTP/2, the body of a request with `refused-stream` or `goaway` is not read.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod common;
mod fault;
mod handler;
mod program;
mod recorder;
mod routes;
mod script;
mod server;

pub use crate::backend::Backend;
pub use crate::fault::Behaviour;
#[doc(hidden)]
pub use crate::program::main;
pub use crate::recorder::recorded_request::{RecordedBody, RecordedRequest};
pub use crate::routes::known_bytes::known_byte;
pub use crate::script::Script;
pub use crate::script::parse::ScriptError;
pub use crate::server::Server;
pub use crate::server::drain::Connections;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
