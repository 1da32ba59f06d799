//! A time limit for tests: a test that hangs is reported by name and fails. The tests of the other crates include this
//! file too.

use std::{
    future::pending,
    io::Write as _,
    process::{Command, exit, id},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Ends the test process if the current runtime, which is that of the test, still exists after TEST_LIMIT_S seconds
/// (180 by default).
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
            // The output of `eprintln!` would be captured, and lost.
            let _ = writeln!(std::io::stderr(), "\ntest {test} did not end within {limit} s");
            // Nothing is dropped from here on, so the child processes of the tests have to be killed.
            let _ = Command::new("pkill").args(["-KILL", "-P", &id().to_string()]).status();
            exit(101);
        }
    });
}
