//! Retries without async: a thread runs a session and sleeps.
//!
//! Shows that all rules about retries are in `Session`, which neither reads a clock nor sleeps; the rest is a loop. The
//! operation creates a lock file that another process still holds.

use std::{
    error::Error,
    fs::{self, File},
    io, process, thread,
    time::{Duration, Instant},
};

use retry_core::{Decision, Jitter, Reason, RetryPolicy, Session, Verdict};

/// Runs `operation` until it succeeds, fails permanently, or `policy` gives up.
fn retry<T>(policy: &RetryPolicy, mut operation: impl FnMut() -> io::Result<T>) -> (io::Result<T>, Reason) {
    #[expect(clippy::disallowed_methods, reason = "the loop reads the clock for the session")]
    let origin = Instant::now();
    let mut session = Session::start(policy, None, origin.elapsed());
    loop {
        let outcome = operation();
        match session.decide(classify(&outcome), origin.elapsed(), || fastrand::u64(..)) {
            #[expect(clippy::disallowed_methods, reason = "there is no runtime to block")]
            Decision::Wait(wait) => thread::sleep(wait),
            Decision::Finish(reason) => return (outcome, reason),
        }
    }
}

/// A lock that is held may be released. Other errors, such as a missing folder, are permanent.
fn classify<T>(outcome: &io::Result<T>) -> Verdict {
    match outcome {
        Ok(_) => Verdict::Accept,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Verdict::Retry,
        Err(_) => Verdict::Stop,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder()
        .count(u32::MAX)
        .interval(Duration::from_millis(10))
        .backoff_factor(2.0)
        .max_wait_interval(Duration::from_millis(50))
        .jitter(Jitter::Equal)
        .deadline(Duration::from_secs(1))
        .build()?;

    let path = std::env::temp_dir().join(format!("retry-core-blocking-{}.lock", process::id()));
    File::create_new(&path)?;
    let mut attempts = 0;
    let (lock, reason) = retry(&policy, || {
        attempts += 1;
        if attempts == 3 {
            fs::remove_file(&path)?; // The other process releases the lock.
        }
        File::create_new(&path)
    });
    fs::remove_file(&path)?;
    assert_eq!((lock.is_ok(), reason, attempts), (true, Reason::Accepted, 3));

    let (nowhere, reason) = retry(&policy, || File::create_new(path.join("nowhere")));
    assert_eq!((nowhere.is_err(), reason), (true, Reason::Permanent));
    Ok(())
}
