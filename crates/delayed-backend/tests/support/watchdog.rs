//! A limit on whole tests: one that waits for what never comes fails by name, and does not hang. The tests of the other
//! crates take this file, too.

use std::{
    future::pending,
    io::Write as _,
    process::{Command, exit, id},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Ends the test process if the runtime that this is called on, which is the test's own, is still there after the limit:
/// TEST_LIMIT_S seconds, or 180. No test takes as long that ends at all.
pub(crate) fn watch() {
    let limit = std::env::var("TEST_LIMIT_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(180);
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (alive, ended) = channel::<()>();
    // Dropped with the runtime.
    tokio::spawn(async move {
        pending::<()>().await;
        drop(alive);
    });
    thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(limit)) == Err(RecvTimeoutError::Timeout) {
            // Not by a macro, whose output would be captured with the test's and be lost.
            let _ = writeln!(std::io::stderr(), "\ntest {test} did not end within {limit} s");
            // Nothing is dropped from here on: the programs that the tests have started are to end with them.
            let _ = Command::new("pkill").args(["-KILL", "-P", &id().to_string()]).status();
            exit(101);
        }
    });
}
