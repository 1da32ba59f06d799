//! No request that may have been processed is sent twice without leave: shown by counting.
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
/// Among the POSTs on the same connections: they show that the count can see a repeat.
const PUTS: u32 = 1_000;
const CALLERS: u32 = 32;

/// Every way to fail after a request has arrived.
const SCRIPT: &str = "ok*4,delay=1ms,status=503,reset,close,reset-after=20,close-after=20,truncate,garbage";

/// Over HTTP/2 a refusal is in words, and a lost connection takes all requests on it along: it is rarer here,
/// so that repeats have a chance.
const HTTP2_SCRIPT: &str = "ok*80,delay=2ms*20,refused-stream*20,status=503*5,truncate*5,reset,close,close-after=20";

/// What was played for each arrival of a request, in order, by method and number.
type Arrivals = HashMap<(String, String), Vec<String>>;

struct Run {
    arrivals: Arrivals,
    answered: Arc<[AtomicU32; 2]>,
}

impl Run {
    /// All calls with a method: each request's arrivals.
    fn of<'a>(&'a self, method: &'a Method) -> impl Iterator<Item = &'a Vec<String>> {
        self.arrivals.iter().filter(move |((of, _), _)| of == method.as_str()).map(|(_, arrivals)| arrivals)
    }

    fn answered(&self, method: &Method) -> u32 {
        self.answered[usize::from(method == Method::PUT)].load(Relaxed)
    }
}

/// Makes all calls, each with a number of its own, against a script at random, but the same each time.
async fn run(script: &str, http2: bool) -> Run {
    let script: Script = script.parse().unwrap();
    watchdog::watch();
    let backend = Backend::start(script.with_seed(7)).await.unwrap();
    let policy = RetryPolicy::builder().count(3).interval(Duration::ZERO).build().unwrap();
    let client = Client::builder(backend.url()).retry(policy).status_codes([503]).timeout(Duration::from_secs(5));
    let client = client.connect_timeout(Duration::from_secs(1));
    let client = client.http2_prior_knowledge(http2).build().unwrap();
    let (next, answered) = (Arc::new(AtomicU32::new(0)), Arc::new([const { AtomicU32::new(0) }; 2]));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_all(client.clone(), Arc::clone(&next), Arc::clone(&answered)));
    }
    callers.join_all().await;
    let mut arrivals = Arrivals::new();
    for request in backend.requests() {
        arrivals.entry((request.method, request.target)).or_default().push(request.behaviour);
    }
    Run { arrivals, answered }
}

async fn call_all(client: Client, next: Arc<AtomicU32>, answered: Arc<[AtomicU32; 2]>) {
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= POSTS + PUTS {
            return;
        }
        let put = number.is_multiple_of(POSTS / PUTS + 1);
        let method = if put { Method::PUT } else { Method::POST };
        let request = Request::builder().method(method).uri(format!("/echo?number={number}"));
        let answer = client.execute(request.body(number.to_string()).unwrap()).await;
        let answer = answer.is_ok_and(|answer| answer.status() == 200);
        answered[usize::from(put)].fetch_add(u32::from(answer), Relaxed);
    }
}

/// PUTs fail as POSTs do, and are repeated.
fn puts_are_repeated(run: &Run) {
    assert!(run.of(&Method::PUT).any(|arrivals| arrivals.len() > 1), "the count can see a repeat");
    assert!(run.of(&Method::PUT).all(|arrivals| arrivals.len() <= 4), "count + 1 at the most");
    let saved = run.answered(&Method::PUT);
    assert!(saved > PUTS * 8 / 10, "only {saved} of {PUTS} were saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_posts_none_that_may_have_been_processed_arrives_twice() {
    let run = run(SCRIPT, false).await;
    assert_eq!(run.of(&Method::POST).count(), POSTS as usize, "each arrives");
    let twice: Vec<_> = run.of(&Method::POST).filter(|arrivals| arrivals.len() != 1).collect();
    assert!(twice.is_empty(), "{} arrived more than once, such as {:?}", twice.len(), twice[0]);
    assert!(run.answered(&Method::POST) < POSTS, "the script makes calls fail");
    puts_are_repeated(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_only_a_post_that_was_refused_unprocessed_arrives_again() {
    let run = run(HTTP2_SCRIPT, true).await;
    // A connection that breaks may take a POST along that had not arrived yet: fewer than all, then.
    let mut again = 0;
    for arrivals in run.of(&Method::POST) {
        let (_, earlier) = arrivals.split_last().unwrap();
        assert!(earlier.iter().all(|played| played == "refused-stream"), "arrived again after {earlier:?}");
        again += u32::from(!earlier.is_empty());
    }
    assert!(again > 0, "a refused POST is sent again");
    assert!(run.answered(&Method::POST) < POSTS, "the script makes calls fail");
    puts_are_repeated(&run);
}
