//! `Nanos`: a time in whole nanoseconds, the unit in which waits are computed.

use core::time::Duration;

/// A time in whole nanoseconds; saturates at `u64::MAX`, which is 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const MAX: Self = Self(u64::MAX);

    pub(crate) const fn new(time: Duration) -> Self {
        let nanos = time.as_nanos();
        Self(if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 })
    }

    pub(crate) const fn from_secs(secs: u64) -> Self {
        Self::new(Duration::from_secs(secs))
    }

    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self::new(Duration::from_millis(millis))
    }

    pub(crate) const fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.saturating_sub(earlier).get()
    }

    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
