//! The mock backend of the retry sample: it answers late, or misbehaves on cue.
//!
//! As the sample has it, `GET /hello` is answered `Hello World!!!`, five seconds late but for
//! every fourth request, which mimics network delays and a service that recovers. Given a script,
//! it does whatever else a client must be ready for. It is a program for people and, as a
//! [`Backend`], a fixture for tests:
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
//! let mut caller = TcpStream::connect(backend.address()).await?;
//! caller.write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await?;
//! let mut answer = String::new();
//! caller.read_to_string(&mut answer).await?;
//!
//! assert_eq!(answer, "HTTP/1.1 200");
//! assert_eq!(backend.requests()[0].behaviour, "close-after=12");
//! # Ok(())
//! # }
//! ```
//!
//! # What it serves
//!
//! HTTP/1.1, and HTTP/2 with prior knowledge; with TLS both, chosen by ALPN.
//!
//! | path | methods | answer |
//! |---|---|---|
//! | `/hello` | GET | `Hello World!!!` |
//! | `/echo` | any | what arrived, as `message/http`: request line, fields, empty line, body (16 MiB at most) |
//! | `/bytes/N` | GET, HEAD | `N` [known bytes](known_byte) with a strong `ETag`; `Range`, `If-Range` and `If-Match` hold |
//! | `/requests` | GET, HEAD | the journal as JSON: of each request its number, time, method, target, version, connection, `Idempotency-Key`, behaviour, and its body's length, SHA-256 and trailers once that has arrived whole |
//!
//! The script decides what becomes of the first three, and only they are counted and remembered:
//! the latest 50,000, and how many were dropped before. Other paths are 404, other methods 405,
//! and OPTIONS (but for `/echo`) tells the methods.
//!
//! # Scripts
//!
//! A script is a comma-separated list of behaviours. Each request meets the next one, in a cycle;
//! with a seed, each request draws one at random. `delay*3,ok` has the first stand for three turns,
//! or have three times the chance. A semicolon combines: `status=503;retry-after=2;delay=1s`.
//!
//! | behaviour | what happens |
//! |---|---|
//! | `ok` | the answer, at once; it stands alone |
//! | `delay`, `delay=1s` | a wait before anything else; without a value as long as [`Script::with_delay`] says |
//! | `status=503` | this status (200 to 599) and its standard phrase, instead of the answer; 204, 205 and 304 have no body |
//! | `retry-after=2`, `retry-after-date=2s` | with a status: this `Retry-After`, or the date so far from now |
//! | `body="so sorry"` | with a status: this text |
//! | `huge-headers`, `huge-headers=100000` | so many bytes of extra fields; 1 MiB |
//! | `chunked` | the response does not state its length: no `Content-Length` |
//! | `early` | the answer comes before the request's body is read; everything else waits for it |
//! | `hang` | no answer |
//! | `reset`, `close` | a RST or a FIN before any byte |
//! | `reset-after=100`, `close-after=100`, `stall-after=100` | so many bytes of the response, its head included, then a RST, a FIN or nothing; a shorter response is not touched |
//! | `truncate`, `truncate=5` | a body of so many bytes, under the `Content-Length` of the whole; half of it; with `chunked`, the end of the body is missing even if all its bytes are sent |
//! | `drip`, `drip=1ms` | the response byte by byte, so far apart; 10 ms |
//! | `garbage` | bytes that are no HTTP, then a FIN |
//! | `goaway` | the connection is not to be used again |
//! | `refused-stream` | the request is refused unprocessed |
//! | `down`, `down=1s` | the listener and all connections are closed for so long; 3 s |
//!
//! At most one from `hang` on goes wrong with a request. A value with a comma, semicolon, asterisk,
//! or space at its end takes double quotes: `retry-after="Fri, 31 Dec 1999 23:59:59 GMT"`.
//!
//! # What the protocols make of it
//!
//! | behaviour | HTTP/1.1 | HTTP/2 |
//! |---|---|---|
//! | `chunked` | `Transfer-Encoding: chunked`; HEAD, 204 and 304 have neither that nor a length | no `content-length`; END_STREAM ends the body |
//! | `reset`, `close`, `garbage`, `reset-after`, `close-after`, `stall-after`, `drip` | as above | befalls the connection, and with it all streams; what is counted are the bytes the connection sends from this answer on, frame headers included |
//! | `truncate` | body, then FIN | body, then END_STREAM: the stream is broken, the connection lives |
//! | `chunked;truncate` | chunks, then FIN without the last chunk | body, then RST_STREAM with INTERNAL_ERROR; the connection lives |
//! | `goaway` | `Connection: close` on the answer | GOAWAY that disowns this stream and later ones, then FIN; later requests are not counted |
//! | `refused-stream` | as `close` | RST_STREAM with REFUSED_STREAM; the connection lives |
//!
//! A connection plays one fault at a time: where several HTTP/2 streams are answered at once, the
//! latest answer's fault replaces that of the one before. Under HTTP/2 the body of a request that
//! meets `refused-stream` or `goaway` is left unread.

#[doc(hidden)]
pub mod cli;

mod backend;
mod common {
    pub(crate) mod duration;
    pub(crate) mod error_payload;
    pub(crate) mod listen;
    pub(crate) mod signals;
    pub(crate) mod usage_error;
}
mod fault;
mod handler;
mod recorder;
mod routes;
mod script;
mod server;

pub use crate::backend::Backend;
pub use crate::fault::Behaviour;
pub use crate::handler::App;
pub use crate::recorder::{BodySeen, Record};
pub use crate::routes::bytes::known_byte;
pub use crate::script::Script;
pub use crate::script::parse::ScriptError;
pub use crate::server::accept::Connections;
pub use crate::server::run;
#[cfg(feature = "tls")]
pub use crate::server::tls::{Identity, IdentityError};
