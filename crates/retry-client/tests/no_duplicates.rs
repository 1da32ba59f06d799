//! No request that the server may have processed is repeated, unless it is idempotent: counted over many calls.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

#[path = "../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use delayed_backend::{Backend, Script};
use http::{Method, Request};
use retry_client::{Client, RetryPolicy};
use tokio::task::JoinSet;

const POSTS: u32 = 10_000;
/// Sent between the POSTs on the same connections, to show that the count detects repeats.
const PUTS: u32 = 1_000;
const CALLERS: u32 = 32;

/// Every way to fail after a request has arrived.
const SCRIPT: &str = "ok*4,delay=1ms,status=503,reset,close,reset-after=20,close-after=20,truncate,garbage";

/// Over HTTP/2 a server can refuse a stream. A closed connection fails all requests on it, so it is less frequent here:
/// otherwise no repeat would succeed.
const HTTP2_SCRIPT: &str = "ok*80,delay=2ms*20,refused-stream*20,status=503*5,truncate*5,reset,close,close-after=20";

/// The behaviors for each arrival of a request, in order, by method and number.
type Arrivals = HashMap<(String, String), Vec<String>>;

struct Run {
    arrivals: Arrivals,
    succeeded: Arc<[AtomicU32; 2]>,
}

impl Run {
    /// Returns the arrivals of each request with a method.
    fn of<'a>(&'a self, method: &'a Method) -> impl Iterator<Item = &'a Vec<String>> {
        self.arrivals.iter().filter(move |((of, _), _)| of == method.as_str()).map(|(_, arrivals)| arrivals)
    }

    fn succeeded(&self, method: &Method) -> u32 {
        self.succeeded[usize::from(method == Method::PUT)].load(Relaxed)
    }
}

/// Makes all calls, each with its own number, against a random script with a fixed seed.
async fn run(script: &str, http2: bool) -> Run {
    let script: Script = script.parse().unwrap();
    watchdog::watch();
    let backend = Backend::start(script.with_seed(7)).await.unwrap();
    let policy = RetryPolicy::builder().count(3).interval(Duration::ZERO).build().unwrap();
    let client = Client::builder(backend.url()).policy(policy).status_codes([503]).timeout(Duration::from_secs(5));
    let client = client.connect_timeout(Duration::from_secs(1));
    let client = client.http2_prior_knowledge(http2).build().unwrap();
    let (next, succeeded) = (Arc::new(AtomicU32::new(0)), Arc::new([const { AtomicU32::new(0) }; 2]));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_all(client.clone(), Arc::clone(&next), Arc::clone(&succeeded)));
    }
    callers.join_all().await;
    let mut arrivals = Arrivals::new();
    for request in backend.requests() {
        arrivals.entry((request.method, request.target)).or_default().push(request.behavior);
    }
    Run { arrivals, succeeded }
}

async fn call_all(client: Client, next: Arc<AtomicU32>, succeeded: Arc<[AtomicU32; 2]>) {
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= POSTS + PUTS {
            return;
        }
        let put = number.is_multiple_of(POSTS / PUTS + 1);
        let method = if put { Method::PUT } else { Method::POST };
        let request = Request::builder().method(method).uri(format!("/echo?number={number}"));
        let response = client.execute(request.body(number.to_string()).unwrap()).await;
        let success = response.is_ok_and(|response| response.status() == 200);
        succeeded[usize::from(put)].fetch_add(u32::from(success), Relaxed);
    }
}

/// PUTs fail like POSTs, and are repeated.
fn puts_are_repeated(run: &Run) {
    assert!(run.of(&Method::PUT).any(|arrivals| arrivals.len() > 1), "the count detects repeats");
    assert!(run.of(&Method::PUT).all(|arrivals| arrivals.len() <= 4), "at most count + 1");
    let saved = run.succeeded(&Method::PUT);
    assert!(saved > PUTS * 8 / 10, "only {saved} of {PUTS} succeeded by a retry");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_posts_none_that_may_have_been_processed_arrives_twice() {
    let run = run(SCRIPT, false).await;
    assert_eq!(run.of(&Method::POST).count(), POSTS as usize, "each POST arrives");
    let twice: Vec<_> = run.of(&Method::POST).filter(|arrivals| arrivals.len() != 1).collect();
    assert!(twice.is_empty(), "{} arrived more than once, such as {:?}", twice.len(), twice[0]);
    assert!(run.succeeded(&Method::POST) < POSTS, "the script makes calls fail");
    puts_are_repeated(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_only_a_post_that_was_refused_unprocessed_arrives_again() {
    let run = run(HTTP2_SCRIPT, true).await;
    // POSTs that had not arrived when their connection closed are missing.
    let mut again = 0;
    for arrivals in run.of(&Method::POST) {
        let (_, earlier) = arrivals.split_last().unwrap();
        assert!(earlier.iter().all(|behavior| behavior == "refused-stream"), "arrived again after {earlier:?}");
        again += u32::from(!earlier.is_empty());
    }
    assert!(again > 0, "a refused POST is repeated");
    assert!(run.succeeded(&Method::POST) < POSTS, "the script makes calls fail");
    puts_are_repeated(&run);
}
