//! Arbitrary bytes as the upstream's response. The client has to receive a well-framed response, which is complete only if
//! the upstream's was.
//!
//! The first byte selects the request; the rest is the response, after which the upstream closes the connection. `H` is
//! HEAD, `P` is POST, `0` is GET over HTTP/1.0, `K` is two pipelined GETs, and anything else is GET. With a lower-case
//! letter the response is sent in two parts.
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
        let received = call_to_the_end(&mut stream, request.as_bytes()).await;
        drop(stream);
        BENCH.settle().await;
        received
    });

    let sent = Response::read(response, method, End::Closed, Reading::Tolerant);
    let shown = format!("of: {}\nreceived, {end:?}: {}", response.escape_ascii(), bytes.escape_ascii());
    let mut rest = &bytes[..];
    for _ in 0..most {
        let received = match Response::read(rest, method, end, Reading::Strict) {
            Ok(received) => received,
            // The client can tell that it is incomplete.
            Err(Fault::Incomplete) => return,
            Err(Fault::Invalid(what)) => panic!("the client receives {what}\n{shown}"),
        };
        rest = &rest[received.size..];
        let chunked = !received.head.all("transfer-encoding").is_empty();
        assert!(!chunked || request != OLD, "HTTP/1.0 has no chunks\n{shown}");
        // The gateway adds Via to responses of the upstream.
        if received.head.all("via").is_empty() {
            assert!(received.status >= 500, "a failure is the status {}\n{shown}", received.status);
            continue;
        }
        match &sent {
            Ok(sent) => {
                assert_eq!(received.status, sent.status, "a different status\n{shown}");
                let body = (received.body.escape_ascii().to_string(), sent.body.escape_ascii().to_string());
                assert_eq!(body.0, body.1, "a different body\n{shown}");
            }
            Err(fault) => panic!("complete, although {fault:?}\n{shown}"),
        }
    }
    assert!(rest.is_empty(), "more than was requested: {}\n{shown}", rest.escape_ascii());
});
