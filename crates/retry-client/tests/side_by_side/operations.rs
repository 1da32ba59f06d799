//! Tasks for any operation, with retry-core and with backon.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// A server whose first calls fail.
#[derive(Debug)]
pub(crate) struct Server {
    calls: AtomicU32,
    failures: u32,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Busy,
    NotFound,
    /// It does not respond.
    Hangs,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Fault {}

impl Fault {
    fn is_busy(self) -> bool {
        self == Self::Busy
    }
}

impl Server {
    pub(crate) fn failing(failures: u32, fault: Fault) -> Self {
        Self { calls: AtomicU32::new(0), failures, fault }
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    fn call_now(&self) -> Result<u32, Fault> {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        if call > self.failures { Ok(call) } else { Err(self.fault) }
    }

    async fn call(&self) -> Result<u32, Fault> {
        let outcome = self.call_now();
        if outcome == Err(Fault::Hangs) {
            std::future::pending::<()>().await;
        }
        outcome
    }

    async fn call_mut(&mut self) -> Result<u32, Fault> {
        self.call().await
    }
}

pub(crate) mod ours {
    use retry_client::retry_core::{Retry, RetryBudget, RetryError, RetryPolicy, retry};

    use super::*;

    type Outcome = Result<u32, RetryError<Fault>>;

    pub(crate) async fn deadline(server: &Server) -> Outcome {
        let policy = RetryPolicy::builder().deadline(Duration::from_secs(5)).build().unwrap();
        retry(policy, || server.call()).await
    }

    pub(crate) async fn classifier(server: &Server) -> Outcome {
        retry(RetryPolicy::default(), || server.call()).retry_if(|fault| fault.is_busy()).await
    }

    pub(crate) async fn budget(server: &Server, calls: u32) {
        let retry = Retry::new(RetryPolicy::default()).budget(RetryBudget::share(0.1, 0).unwrap());
        for _ in 0..calls {
            let _ = retry.run(|_attempt| server.call()).await;
        }
    }

    pub(crate) fn blocking(server: &Server) -> Outcome {
        let policy = RetryPolicy::builder().interval(Duration::from_millis(1)).build().unwrap();
        Retry::new(policy).run_blocking(|_attempt| server.call_now())
    }

    pub(crate) async fn mutable_reference(server: &mut Server) -> Outcome {
        Retry::new(RetryPolicy::default()).run_with(server, async |server, _attempt| server.call_mut().await).await
    }
}

pub(crate) mod backon {
    use ::backon::{BlockingRetryable as _, ExponentialBuilder, Retryable as _, RetryableWithContext as _};

    use super::*;

    type Outcome = Result<u32, Fault>;

    pub(crate) async fn deadline(server: &Server) -> Outcome {
        let policy = ExponentialBuilder::default().with_jitter().with_total_delay(Some(Duration::from_secs(5)));
        (|| server.call()).retry(policy).await
    }

    pub(crate) async fn classifier(server: &Server) -> Outcome {
        (|| server.call()).retry(ExponentialBuilder::default().with_jitter()).when(|fault| fault.is_busy()).await
    }

    pub(crate) async fn budget(server: &Server, calls: u32) {
        let policy = ExponentialBuilder::default().with_jitter();
        for _ in 0..calls {
            let _ = (|| server.call()).retry(policy).await;
        }
    }

    pub(crate) fn blocking(server: &Server) -> Outcome {
        let policy = ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(1));
        (|| server.call_now()).retry(policy).call()
    }

    pub(crate) async fn mutable_reference(server: &mut Server) -> Outcome {
        async fn call(server: &mut Server) -> (&mut Server, Outcome) {
            let outcome = server.call_mut().await;
            (server, outcome)
        }
        call.retry(ExponentialBuilder::default().with_jitter()).context(server).await.1
    }
}
