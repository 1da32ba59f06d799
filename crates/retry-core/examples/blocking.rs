//! Retries without async: the thread sleeps between attempts.
//!
//! Shows a classifier and a deadline with blocking code. The operation creates a lock file that another process still
//! holds. Needs no runtime: `default-features = false, features = ["std"]`.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, ErrorKind},
    process,
    time::Duration,
};

use retry_core::{Reason, Retry, RetryPolicy};

fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder()
        .count(u32::MAX)
        .interval(Duration::from_millis(10))
        .max_wait_interval(Duration::from_millis(50))
        .deadline(Duration::from_secs(1))
        .build()?;
    // A lock that is held may be released. Other errors, such as a missing folder, are permanent.
    let retry = Retry::new(policy).retry_if(|error: &io::Error| error.kind() == ErrorKind::AlreadyExists);

    let path = std::env::temp_dir().join(format!("retry-core-blocking-{}.lock", process::id()));
    File::create_new(&path)?;
    let lock = retry.run_blocking(|attempt| {
        if attempt.number == 3 {
            fs::remove_file(&path)?; // The other process releases the lock.
        }
        File::create_new(&path)
    });
    fs::remove_file(&path)?;
    assert!(lock.is_ok());

    let nowhere = retry.run_blocking(|_| File::create_new(path.join("nowhere")));
    assert!(nowhere.is_err_and(|gave_up| (gave_up.reason(), gave_up.attempts()) == (Reason::Permanent, 1)));
    Ok(())
}
