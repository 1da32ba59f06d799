//! Log lines of the feature `log`.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{sync::Mutex, time::Duration};

use log::{LevelFilter, Log, Metadata, Record};
use retry_core::{Jitter, RetryPolicy, retry};

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "retry_core"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn retries_and_failed_calls_are_logged_without_errors() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let policy =
        RetryPolicy::builder().count(1).interval(Duration::from_millis(1)).jitter(Jitter::None).build().unwrap();
    let _ = retry(policy, || async { Err::<(), _>("a secret") }).await;
    retry(policy, || async { Ok::<_, ()>(()) }).await.unwrap();
    let logged = LINES.0.lock().unwrap();
    let expected = [
        "DEBUG attempt 1 failed (Retry); next attempt in 1ms",
        "WARN gave up after attempt 2 (Retry): no retries left",
    ];
    assert_eq!(*logged, expected);
}
