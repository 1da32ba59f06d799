//! No request that may have been processed is sent twice without leave: shown by counting.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

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

const CALLS: u32 = 10_000;
const CALLERS: u32 = 32;

/// Every way to fail after a request has arrived, at random but the same each time.
const SCRIPT: &str = "ok*4,status=503,reset,close,reset-after=20,close-after=20,truncate,garbage";

/// Makes that many calls of a method, each with its own number, and tells how often each arrived.
async fn arrivals(method: Method, calls: u32) -> (HashMap<String, u32>, u32) {
    let script: Script = SCRIPT.parse().unwrap();
    let backend = Backend::start(script.with_seed(7)).await.unwrap();
    let policy = RetryPolicy::builder().count(3).interval(Duration::ZERO).build().unwrap();
    let client = Client::builder(backend.url()).retry(policy).status_codes([503]).timeout(Duration::from_secs(30));
    let client = client.build().unwrap();
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, next, method) = (client.clone(), Arc::clone(&next), method.clone());
        callers.spawn(async move {
            let mut answered = 0;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= calls {
                    return answered;
                }
                let request = Request::builder().method(&method).uri(format!("/echo?number={number}"));
                let answer = client.execute(request.body(number.to_string()).unwrap()).await;
                answered += u32::from(answer.is_ok_and(|answer| answer.status() == 200));
            }
        });
    }
    let answered = callers.join_all().await.into_iter().sum();
    let mut arrivals = HashMap::new();
    for request in backend.requests() {
        *arrivals.entry(request.target).or_default() += 1;
    }
    (arrivals, answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_posts_none_that_may_have_been_processed_arrives_twice() {
    let (arrivals, answered) = arrivals(Method::POST, CALLS).await;
    assert_eq!(arrivals.len(), CALLS as usize, "each arrives");
    let twice: Vec<_> = arrivals.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{} arrived more than once, such as {:?}", twice.len(), twice[0]);
    assert!(answered < CALLS, "the script makes calls fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_script_shows_puts_that_are_repeated() {
    let (arrivals, answered) = arrivals(Method::PUT, CALLS / 10).await;
    assert!(arrivals.values().any(|times| *times > 1), "the count can see a repeat");
    assert!(arrivals.values().all(|times| *times <= 4), "count + 1 at the most");
    assert!(answered > CALLS / 10 * 8 / 10, "only {answered} of {} were saved", CALLS / 10);
}
