//! Retries without async: a session driven by hand, on a thread that sleeps.
//!
//! What a reader learns: every rule about retries lives in `Session`, which neither reads a clock nor
//! sleeps; a driver is a loop around it. Here: take the lock file that another process still holds.

use std::{
    error::Error,
    fs::{self, File},
    io, process, thread,
    time::{Duration, Instant},
};

use retry_core::{Decision, Jitter, Reason, RetryPolicy, Session, Verdict};

/// Runs `operation` until it succeeds, it fails for good, or `policy` gives up.
fn retry<T>(policy: &RetryPolicy, mut operation: impl FnMut() -> io::Result<T>) -> (io::Result<T>, Reason) {
    #[expect(clippy::disallowed_methods, reason = "a driver is where the clock is read")]
    let origin = Instant::now();
    let mut session = Session::start(policy, None, origin.elapsed());
    loop {
        let outcome = operation();
        match session.decide(classify(&outcome), origin.elapsed(), || fastrand::u64(..)) {
            #[expect(clippy::disallowed_methods, reason = "no runtime here to block")]
            Decision::Wait(wait) => thread::sleep(wait),
            Decision::Finish(reason) => return (outcome, reason),
        }
    }
}

/// A lock that is taken will be free; a folder that is not there will not come.
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
            fs::remove_file(&path)?; // The other process is done.
        }
        File::create_new(&path)
    });
    fs::remove_file(&path)?;
    assert_eq!((lock.is_ok(), reason, attempts), (true, Reason::Accepted, 3));

    let (nowhere, reason) = retry(&policy, || File::create_new(path.join("nowhere")));
    assert_eq!((nowhere.is_err(), reason), (true, Reason::Permanent));
    Ok(())
}
