//! Runs on another async runtime: smol's timers instead of tokio's.
//!
//! Shows that `Runtime` is the executor's only connection to a runtime. Without its default features, the crate does not
//! depend on tokio.

use std::{
    error::Error,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_io::{Timer, block_on};
use retry_core::{Jitter, Retry, RetryPolicy, Runtime};

#[derive(Clone, Copy)]
struct Smol;

/// The origin of all times, so that calls can share a budget.
#[expect(clippy::disallowed_methods, reason = "a runtime reads the clock")]
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Runtime for Smol {
    type Sleep = Sleep;

    fn now(&self) -> Duration {
        ORIGIN.elapsed()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        Sleep(Timer::after(wait))
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// A timer whose output is `()` instead of the time.
struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder().interval(Duration::from_millis(20)).jitter(Jitter::None).build()?;
    let begin = Smol.now();
    let text = block_on(
        Retry::with_runtime(Smol, policy)
            .run(|attempt| async move { if attempt.number < 3 { Err("busy") } else { Ok("Hello World!!!") } }),
    );
    assert_eq!(text.map_err(|gave_up| gave_up.to_string())?, "Hello World!!!");
    assert!(Smol.now() - begin >= Duration::from_millis(60), "it waited twice");
    Ok(())
}
