//! The settings of one call: its own, and otherwise those of its client or layer.

use std::time::Duration;

use retry_core::{Retry, RetryBudget, RetryPolicy, TokioRuntime};

use crate::{error::Error, retry::config::RetryConfig};

/// Settings of one request, instead of those of its client or layer. What is not set stays as it is there.
///
/// Pass them to [`RequestBuilder::options`](crate::RequestBuilder::options), or put them into the extensions of an
/// [`http::Request`], for [`Client::execute`](crate::Client::execute), a tower stack or a
/// [`RetryLayer`](crate::RetryLayer). The first client or layer that the request reaches takes them out.
///
/// ```
/// use std::time::Duration;
/// use retry_client::{Body, CallOptions, http::Request};
///
/// let options = CallOptions::new().deadline(Duration::from_secs(2)).repeatable(true);
/// let request = Request::post("/search").extension(options).body(Body::from("tea"))?;
/// # Ok::<(), retry_client::http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until a request has them"]
pub struct CallOptions {
    policy: Option<RetryPolicy>,
    deadline: Option<Duration>,
    attempt_timeout: Option<Duration>,
    repeatable: Option<bool>,
    budget: Option<Option<RetryBudget>>,
    pub(crate) response_buffer: Option<usize>,
    pub(crate) response_limit: Option<usize>,
}

impl CallOptions {
    /// Creates options that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of retries, the waits between them, and the deadline.
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets the time for the call, attempts and waits included, instead of the policy's deadline. With zero, the call
    /// times out at once.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the timeout of one attempt; see [`RetryConfig::attempt_timeout`]. Must be above zero.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Sets whether the request may be sent again although the server may have processed it, whatever its method and
    /// headers: `true` for a POST that only reads, `false` for a PUT that is not idempotent. With `false`, it is neither
    /// [hedged](crate::ClientBuilder::hedge_after) nor [resumed](crate::ClientBuilder::resume). A request that was
    /// never sent is retried in either case.
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = Some(repeatable);
        self
    }

    /// Sets the budget that limits the retries. `None` for no limit.
    pub fn budget(mut self, budget: impl Into<Option<RetryBudget>>) -> Self {
        self.budget = Some(budget.into());
        self
    }

    /// Sets how many bytes of the response are buffered before it is returned; see
    /// [`ClientBuilder::response_buffer`](crate::ClientBuilder::response_buffer). Zero turns it off. Has no effect on a
    /// [`RetryLayer`](crate::RetryLayer), which buffers no responses.
    pub fn response_buffer(mut self, bytes: usize) -> Self {
        self.response_buffer = Some(bytes);
        self
    }

    /// Limits the size of a response body that is read at once; see
    /// [`ClientBuilder::response_limit`](crate::ClientBuilder::response_limit).
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.response_limit = Some(bytes);
        self
    }

    /// Rejects invalid options.
    fn validate(&self) -> Result<(), Error> {
        match self.attempt_timeout {
            Some(Duration::ZERO) => Err(Error::bad_input("attempt_timeout is 0: expected a time above zero")),
            _ => Ok(()),
        }
    }
}

/// The settings of one call.
pub(crate) struct CallSettings<'a> {
    pub(crate) config: &'a RetryConfig,
    /// Boxed, as few calls have any.
    pub(crate) options: Option<Box<CallOptions>>,
}

impl<'a> CallSettings<'a> {
    pub(crate) fn new(config: &'a RetryConfig, options: Option<Box<CallOptions>>) -> Result<Self, Error> {
        options.as_deref().map_or(Ok(()), CallOptions::validate)?;
        Ok(Self { config, options })
    }

    /// Returns an option, if it is set.
    fn get<T>(&self, option: impl FnOnce(&CallOptions) -> Option<T>) -> Option<T> {
        self.options.as_deref().and_then(option)
    }

    pub(crate) fn policy(&self) -> RetryPolicy {
        let policy = self.get(|options| options.policy).unwrap_or(self.config.policy);
        match self.get(|options| options.deadline) {
            Some(deadline) => policy.with_deadline(deadline),
            None => policy,
        }
    }

    /// Whether the deadline is shorter than that of other calls: passing it does not show that an endpoint is slow.
    pub(crate) fn is_deadline_shortened(&self) -> bool {
        let usual = self.config.policy.deadline().unwrap_or(Duration::MAX);
        self.policy().deadline().is_some_and(|deadline| deadline < usual)
    }

    pub(crate) fn attempt_timeout(&self) -> Option<Duration> {
        self.get(|options| options.attempt_timeout).or(self.config.attempt_timeout)
    }

    /// Whether the request may be sent twice. `None` if its method and headers decide.
    pub(crate) fn repeatable(&self) -> Option<bool> {
        self.get(|options| options.repeatable)
    }

    pub(crate) fn budget(&self) -> Option<&RetryBudget> {
        let own = self.options.as_deref().and_then(|options| options.budget.as_ref());
        own.unwrap_or(&self.config.budget).as_ref()
    }

    /// Returns the retry engine.
    pub(crate) fn retry(&self) -> Retry<TokioRuntime> {
        let retry = Retry::new(self.policy());
        match self.budget() {
            Some(budget) => retry.budget(budget.clone()),
            None => retry,
        }
    }
}
