//! Any bytes as the upstream's response: what the caller gets is well framed, and whole only where the upstream's
//! response was.
//!
//! The first byte says what the caller asks; the rest is the response, behind which the upstream closes the connection.
//! `H` is HEAD, `P` is POST, `0` is GET of HTTP/1.0, `K` is GET twice at once on one connection, and anything else is
//! GET. A lower-case letter has the response come in two parts.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use retry_fuzz::{
    Bench, Respond, block_on, call_to_the_end,
    http1::{End, Fault, Reading, Response},
    mutate::mutate,
};

static BENCH: LazyLock<Bench> = LazyLock::new(Bench::start);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
const TWICE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|input: &[u8]| {
    let Some((first, response)) = input.split_first() else { return };
    let (method, request, most) = match first.to_ascii_uppercase() {
        b'H' => ("HEAD", HEAD, 1),
        b'P' => ("POST", POST, 1),
        b'0' => ("GET", OLD, 1),
        b'K' => ("GET", TWICE, 2),
        _ => ("GET", GET, 1),
    };
    let parts = if first.is_ascii_lowercase() { response.split_at(response.len() / 2) } else { (response, &[][..]) };
    let parts = [parts.0, parts.1].into_iter().filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect();

    BENCH.respond(Respond::Bytes(parts));
    let (bytes, end) = block_on(async {
        let mut stream = BENCH.connect().await;
        let told = call_to_the_end(&mut stream, request.as_bytes()).await;
        drop(stream);
        BENCH.settle().await;
        told
    });

    let given = Response::read(response, method, End::Closed, Reading::Tolerant);
    let shown = format!("of: {}\ntold, {end:?}: {}", response.escape_ascii(), bytes.escape_ascii());
    let mut rest = &bytes[..];
    for _ in 0..most {
        let told = match Response::read(rest, method, end, Reading::Strict) {
            Ok(told) => told,
            // Its caller knows that it is not whole.
            Err(Fault::Incomplete) => return,
            Err(Fault::Invalid(what)) => panic!("the caller is told {what}\n{shown}"),
        };
        rest = &rest[told.size..];
        let chunked = !told.head.all("transfer-encoding").is_empty();
        assert!(!chunked || request != OLD, "HTTP/1.0 has no chunks\n{shown}");
        // The gateway adds Via to what is the upstream's.
        if told.head.all("via").is_empty() {
            assert!(told.status >= 500, "a failure is the status {}\n{shown}", told.status);
            continue;
        }
        match &given {
            Ok(given) => {
                assert_eq!(told.status, given.status, "another status\n{shown}");
                let body = (told.body.escape_ascii().to_string(), given.body.escape_ascii().to_string());
                assert_eq!(body.0, body.1, "another body\n{shown}");
            }
            Err(fault) => panic!("whole, although {fault:?}\n{shown}"),
        }
    }
    assert!(rest.is_empty(), "more than was asked for: {}\n{shown}", rest.escape_ascii());
});
