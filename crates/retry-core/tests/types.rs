//! What compiles: closures without annotations, calls that are spawned, and the auto traits of every public type.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use retry_core::*;

fn policy() -> RetryPolicy {
    RetryPolicy::builder().count(2).interval(Duration::ZERO).build().unwrap()
}

async fn refused() -> io::Result<u32> {
    Err(io::ErrorKind::ConnectionRefused.into())
}

#[derive(Debug)]
enum Fault {
    Busy,
    Gone,
}

/// Fails for good at the second attempt.
async fn busy_then_gone(attempt: Attempt) -> Result<u32, Fault> {
    Err(if attempt.number == 1 { Fault::Busy } else { Fault::Gone })
}

#[tokio::test]
async fn closures_for_one_call_infer_all_types() {
    let call = retry(policy(), refused).retry_if(|error| error.kind() == io::ErrorKind::TimedOut);
    assert_eq!(call.await.unwrap_err().reason(), Reason::Permanent);

    let retry = Retry::new(policy());
    let kinds = AtomicU32::new(0);
    let call = retry
        .run(|_| refused())
        .classify(|outcome| match outcome {
            Ok(value) if value.is_power_of_two() => Verdict::Accept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Stop,
            _ => Verdict::Retry,
        })
        .observe(|event| {
            let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            kinds.fetch_add(event.outcome.map_or(0, |outcome| outcome.as_ref().is_err_and(is_refused).into()), Relaxed);
        });
    assert_eq!(call.await.unwrap_err().attempts(), 3);
    assert_eq!(kinds.into_inner(), 3);
}

#[tokio::test]
async fn closures_for_many_calls_infer_from_patterns() {
    let stops = Retry::new(policy()).retry_if(|error| matches!(error, Fault::Busy));
    assert_eq!(stops.run(busy_then_gone).await.unwrap_err().attempts(), 2);

    let classifies = Retry::new(policy()).classify(|outcome| match outcome {
        Ok(_) => Verdict::Accept,
        Err(Fault::Busy) => Verdict::Retry,
        Err(Fault::Gone) => Verdict::Stop,
    });
    assert_eq!(classifies.run(busy_then_gone).await.unwrap_err().attempts(), 2);

    let seen = AtomicU32::new(0);
    let observes = Retry::new(policy()).observe(|event| {
        if let Some(Err(Fault::Gone)) = event.outcome {
            seen.fetch_add(event.record.attempt, Relaxed);
        }
    });
    assert_eq!(observes.run(busy_then_gone).await.unwrap_err().attempts(), 3);
    assert_eq!(seen.into_inner(), 2 + 3);
}

#[tokio::test]
async fn calls_are_spawned() {
    assert!(tokio::spawn(retry(policy(), refused)).await.unwrap().is_err());
    assert!(tokio::spawn(Retry::new(policy()).run(|_| refused())).await.unwrap().is_err());
    assert!(tokio::spawn(Retry::new(policy()).run(|_| refused()).report()).await.unwrap().journal.attempts() == 3);
    let call = retry(policy(), refused)
        .retry_if(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        .observe(|event| assert!(event.outcome.is_some()));
    assert_eq!(tokio::spawn(call).await.unwrap().unwrap_err().attempts(), 3);
}

/// A connection whose methods borrow it mutably and await.
#[derive(Default)]
struct Connection {
    queries: u32,
    log: Vec<String>,
}

impl Connection {
    async fn query(&mut self, text: &str) -> io::Result<u32> {
        self.log.push(text.to_owned());
        tokio::task::yield_now().await;
        self.queries += 1;
        if self.queries < 3 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(self.queries) }
    }

    /// An operation that borrows its own owner.
    async fn query_with_retries(&mut self) -> Result<u32, RetryError<io::Error>> {
        Retry::new(policy()).run_with(self, async |connection, _| connection.query("select").await).await
    }
}

/// An operation that captures a reference.
async fn query_by_name(connection: &mut Connection, name: &str) -> Result<u32, RetryError<io::Error>> {
    let retry = Retry::new(policy()).retry_if(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset);
    retry.run_with(connection, async |connection, _| connection.query(name).await).await
}

#[tokio::test]
async fn calls_that_borrow_mutably_are_spawned() {
    async fn query(connection: &mut Connection, attempt: Attempt) -> io::Result<u32> {
        connection.query("select").await.map(|_| attempt.number)
    }
    let task = tokio::spawn(async {
        let mut connection = Connection::default();
        assert_eq!(query_by_name(&mut connection, &String::from("select")).await.unwrap(), 3);
        assert_eq!(connection.query_with_retries().await.unwrap(), 4);
        assert_eq!(Retry::new(policy()).run_with(&mut connection, query).await.unwrap(), 1);
        let mut pair = (connection, 0);
        let call = Retry::new(policy()).run_with(&mut pair, async |(connection, attempts), _| {
            *attempts += 1;
            connection.query("select").await
        });
        assert_eq!(call.await.unwrap(), 6);
        pair.1
    });
    assert_eq!(task.await.unwrap(), 1);
}

/// A service that keeps its `Retry`, and calls it with `&self` from many tasks.
struct Service {
    retry: Retry,
    attempts: AtomicU32,
}

impl Service {
    async fn call(self: Arc<Self>) -> Result<u32, RetryError<io::Error>> {
        self.retry.run(|_| self.attempt()).await
    }

    async fn attempt(&self) -> io::Result<u32> {
        self.attempts.fetch_add(1, Relaxed);
        refused().await
    }
}

#[tokio::test]
async fn a_struct_keeps_a_retry_without_naming_its_types() {
    let service = Arc::new(Service { retry: Retry::new(policy()), attempts: AtomicU32::new(0) });
    for _ in 0..2 {
        assert!(tokio::spawn(service.clone().call()).await.unwrap().is_err());
    }
    assert_eq!(service.attempts.load(Relaxed), 6);
}

/// The settings need no runtime, so they can be constants.
static RETRY: Retry = Retry::new(RetryPolicy::BALLERINA);

#[tokio::test]
async fn a_retry_may_be_static() {
    assert_eq!(RETRY.run(|_| ready(Ok::<_, Fault>(7))).await.unwrap(), 7);
}

#[test]
fn every_public_type_is_send_sync_and_unpin() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Attempt>();
    check::<BudgetCharge>();
    check::<BudgetError>();
    check::<Decision>();
    check::<Event<'_, u32, io::Error>>();
    check::<Jitter>();
    check::<Journal>();
    check::<NoObserver>();
    check::<Plan>();
    check::<PolicyError>();
    check::<Reason>();
    check::<Record>();
    check::<Report<u32, io::Error>>();
    check::<Retry>();
    check::<RetryAnyError>();
    check::<RetryBudget>();
    check::<RetryError<io::Error>>();
    check::<RetryErrorWithCauses>();
    check::<RetryIf<fn(&io::Error) -> bool>>();
    check::<RetryPolicy>();
    check::<RetryPolicyBuilder>();
    check::<Session<'_>>();
    check::<Step>();
    check::<Timing>();
    check::<TokenCosts>();
    check::<TokioRuntime>();
    check::<Verdict>();
    check::<Waits>();
}

/// A call is not `Sync`, as a future needs not be, and has to be pinned, as tokio's timers have to.
#[test]
fn a_call_is_send_and_owns_its_settings() {
    fn check<T: Send + 'static>(call: T) {
        drop(call);
    }
    let retry = Retry::new(policy()).attempt_timeout(Duration::from_secs(1)).budget(RetryBudget::tokens(1, 1));
    check(retry.run(|_| refused()));
    check(retry.run(|_| refused()).report());
    check(retry.run(|_| refused()).retry_if(|error| error.kind() == io::ErrorKind::TimedOut));
}
