//! How waits are spread at random, so that clients that failed together do not come back together.

use crate::policy::Nanos;

/// How a wait is spread at random. No kind ever exceeds the policy's cap.
///
/// The kinds and their names are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS
/// Architecture Blog, 2015). Write *w* for the wait without jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Jitter {
    /// *w* itself, as in the sample. The default.
    #[default]
    None,
    /// Anywhere from zero to *w*: the least load on a server that recovers.
    Full,
    /// Anywhere from half of *w* to *w*: spread, yet never at once.
    Equal,
    /// Anywhere from the policy's interval to three times the wait before, up to the cap. Grows by
    /// chance rather than by `backoff_factor`, which it does not use.
    Decorrelated,
}

impl Jitter {
    /// The least and the most that `wait` may become.
    pub(crate) const fn spread(self, wait: Nanos) -> (Nanos, Nanos) {
        match self {
            Self::None | Self::Decorrelated => (wait, wait),
            Self::Full => (Nanos(0), wait),
            Self::Equal => (Nanos(wait.0 / 2), wait),
        }
    }
}

/// A whole number from `least` to `most`, both included, that `random` picks evenly: 0 picks `least`,
/// `u64::MAX` picks `most`.
pub(crate) fn pick(least: Nanos, most: Nanos, random: u64) -> Nanos {
    let span = most.0.saturating_sub(least.0);
    let offset = (u128::from(random) * (u128::from(span) + 1)) >> 64;
    // `offset` is at most `span`, which fits.
    Nanos(least.0 + offset as u64)
}
