//! Shares a budget between many tasks, so that together they do not overload a server that is down.
//!
//! Shows that a policy limits one call and a budget all of them. Clones of a budget, or of a `Retry` with a budget, share it.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use retry_core::{Reason, Retry, RetryBudget, RetryPolicy};
use tokio::task::JoinSet;

const CALLS: u32 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder().interval(Duration::from_millis(10)).build()?;

    let (attempts, _) = storm(Retry::new(policy)).await?;
    assert_eq!(attempts, 4 * CALLS, "without a budget, the server gets four times the load");

    // One retry per ten calls, and no floor.
    let (attempts, denied) = storm(Retry::new(policy).budget(RetryBudget::share(0.1, 0)?)).await?;
    assert_eq!(attempts, CALLS + CALLS / 10, "with a budget, it gets a tenth more");
    assert_eq!(denied, CALLS, "no call gets all of its three retries");
    Ok(())
}

/// Calls a server that is down in many tasks. Returns the number of attempts, and of calls that the budget ended.
async fn storm(retry: Retry) -> Result<(u32, u32), Box<dyn Error>> {
    let attempts = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CALLS {
        let (retry, attempts) = (retry.clone(), attempts.clone());
        tasks.spawn(async move {
            let call = retry.run(|_| {
                attempts.fetch_add(1, Relaxed);
                async { Err::<(), _>("down") }
            });
            call.await.map_err(|gave_up| gave_up.reason())
        });
    }
    let mut denied = 0;
    while let Some(outcome) = tasks.join_next().await {
        denied += u32::from(outcome? == Err(Reason::Budget));
    }
    Ok((attempts.load(Relaxed), denied))
}
