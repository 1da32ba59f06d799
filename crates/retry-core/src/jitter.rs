//! [`Jitter`]: random variation of waits, so that clients that failed together do not all retry together.

use crate::nanos::Nanos;

/// The random variation of a wait. No wait exceeds the policy's cap.
///
/// The kinds and their names are from Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Below,
/// *w* is the wait without jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Jitter {
    /// Exactly *w*, as in the sample.
    None,
    /// Between zero and *w*: causes the least load on a recovering server. The default.
    #[default]
    Full,
    /// Between half of *w* and *w*: varies, but never retries immediately.
    Equal,
    /// Between the policy's interval and three times the previous wait, up to the cap. Ignores `backoff_factor`.
    Decorrelated,
}

impl Jitter {
    /// Returns the shortest and the longest wait that `wait` may become.
    pub(crate) const fn range(self, wait: Nanos) -> (Nanos, Nanos) {
        match self {
            Self::None | Self::Decorrelated => (wait, wait),
            Self::Full => (Nanos::ZERO, wait),
            Self::Equal => (Nanos(wait.0 / 2), wait),
        }
    }
}

/// Maps `random` evenly to the range from `shortest` to `longest`, both included: 0 gives `shortest`, `u64::MAX` gives
/// `longest`.
pub(crate) fn pick(shortest: Nanos, longest: Nanos, random: u64) -> Nanos {
    let span = longest.0.saturating_sub(shortest.0);
    let offset = (u128::from(random) * (u128::from(span) + 1)) >> 64;
    // `offset` is at most `span`, so the cast is lossless.
    Nanos(shortest.0 + offset as u64)
}
