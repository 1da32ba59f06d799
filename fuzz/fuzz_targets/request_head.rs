//! Arbitrary bytes as a request head. The upstream may only receive requests with one request line, one host, one length,
//! and no value that contains a line end. Each of them has to be one that the client sent, with its body.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use retry_fuzz::{
    Bench, Respond, block_on, call,
    http1::{Fault, Head, Reading, Request},
    mutate::mutate,
};

static BENCH: LazyLock<Bench> = LazyLock::new(Bench::start);

/// The last request on each connection. The gateway closes the connection after it, which shows that it is done.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n";

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|input: &[u8]| {
    // This is the start of HTTP/2, which has no such request heads.
    if input.starts_with(b"PRI * HTTP/2.0") {
        return;
    }
    let end: &[u8] = if empty_lines(input) > 0 { b"" } else { b"\r\n\r\n" };
    let bytes = [input, end, LAST].concat();
    let sent = Sent::read(&bytes);

    BENCH.respond(Respond::Ok);
    let received = block_on(async {
        let mut stream = BENCH.connect().await;
        call(&mut stream, &bytes).await;
        drop(stream);
        BENCH.settle().await
    });

    let shown = bytes.escape_ascii();
    assert!(received.faults.is_empty(), "{}\nof: {shown}", received.faults.join("\n"));
    assert!(received.heads <= sent.most, "{} requests, of {}: {received:?}\nof: {shown}", received.heads, sent.most);
    if let Some(target) = &sent.coded {
        let was_forwarded = received.requests.iter().any(|request| request.target == *target);
        assert!(!was_forwarded, "a request with other transfer codings was forwarded: {received:?}\nof: {shown}");
    }
    if sent.certain {
        // Some may have been rejected. The others have to be forwarded unchanged and in order.
        let mut left = sent.requests.iter();
        for got in &received.requests {
            let same = left.any(|sent| sent.method == got.method && sent.body == got.body);
            assert!(same, "{got:?} is not in {:?}, or out of order\nof: {shown}", sent.requests);
        }
    }
});

/// What a strict parser finds in a client's bytes.
struct Sent {
    requests: Vec<Request>,
    /// Whether there was no error, and no part of a further request.
    certain: bool,
    /// The target of a request with a transfer coding other than a single `chunked`, if no other request has this target.
    coded: Option<String>,
    /// The most requests that a tolerant parser may find.
    most: usize,
}

impl Sent {
    fn read(bytes: &[u8]) -> Self {
        let mut sent = Self { requests: Vec::new(), certain: true, coded: None, most: 0 };
        let mut rest = bytes;
        while !rest.is_empty() {
            let head = Head::read(rest, Reading::Strict);
            match head.and_then(|head| Request::read(rest, &head)) {
                Ok(request) => {
                    rest = &rest[request.size..];
                    sent.requests.push(request);
                    sent.most += 1;
                }
                Err(fault) => {
                    sent.certain = false;
                    let head = Head::read(rest, Reading::Strict);
                    // Everything after a head with an incomplete body belongs to this body.
                    let is_body = head.is_ok() && matches!(fault, Fault::Incomplete);
                    sent.most += if is_body { 1 } else { empty_lines(rest) };
                    sent.coded = head.ok().and_then(|head| coded_target(&head, bytes));
                    break;
                }
            }
        }
        sent
    }
}

/// Returns the number of empty lines, each of which may end a head.
fn empty_lines(bytes: &[u8]) -> usize {
    let ends = |at: usize| bytes[at + 1..].starts_with(b"\n") || bytes[at + 1..].starts_with(b"\r\n");
    (0..bytes.len()).filter(|at| bytes[*at] == b'\n' && ends(*at)).count()
}

/// Returns the target of a head with a transfer coding other than a single `chunked`. `None` if the target is not unique.
fn coded_target(head: &Head, bytes: &[u8]) -> Option<String> {
    let is_coded = !head.all("transfer-encoding").is_empty() && !head.is_chunked();
    let target = head.start.split(' ').nth(1).filter(|target| is_coded && target.starts_with('/'))?;
    let unique = bytes.windows(target.len()).filter(|window| *window == target.as_bytes()).count() == 1;
    unique.then(|| target.to_owned())
}
