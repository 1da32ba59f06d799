//! Scripts: the behavior of each request, which depends only on the script and the number of the request.

pub(crate) mod error;
mod parse;
pub(crate) mod run;
mod span;
mod suggestion;
mod syntax;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::fault::{Behavior, Delay};

/// The sample's delay.
pub(crate) const DEFAULT_DELAY: Duration = Duration::from_secs(5);

/// A sequence of behaviors, one for each request, repeated in a cycle or drawn at random.
///
/// The default is the behavior of the sample: three requests are delayed by five seconds, the fourth gets an immediate
/// response, and so on. The [crate's documentation](crate) describes the script language.
///
/// ```
/// use delayed_backend::Script;
///
/// let script: Script = "delay*3,ok".parse()?;
/// assert_eq!(script, Script::default());
///
/// let error = "ok,statsu=503".parse::<Script>().unwrap_err();
/// assert!(error.to_string().ends_with("no such behavior; did you mean status=503?"));
/// # Ok::<(), delayed_backend::ScriptError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
    /// For each step, how many requests of a cycle get it or one before it.
    ends: Vec<u64>,
    default_delay: Duration,
    seed: Option<u64>,
    /// Whether it is a recording.
    is_recording: bool,
}

/// A behavior, and how many requests of a cycle get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) behavior: Behavior,
    pub(crate) weight: NonZeroU32,
}

impl Script {
    /// Returns a script that delays every request except each `n`-th.
    #[must_use]
    pub fn healthy_every(n: NonZeroU32) -> Self {
        let delayed = Behavior { delay: Some(Delay::Default), ..Behavior::default() };
        let delayed = NonZeroU32::new(n.get() - 1).map(|weight| Step { behavior: delayed, weight });
        let healthy = Step { behavior: Behavior::default(), weight: NonZeroU32::MIN };
        Self::from_steps(delayed.into_iter().chain([healthy]).collect())
    }

    /// Returns a script that responds to every request immediately.
    pub(crate) fn ok() -> Self {
        Self::healthy_every(NonZeroU32::MIN)
    }

    /// Returns a script that repeats these steps. Without steps, it responds to every request immediately.
    pub(crate) fn from_steps(steps: Vec<Step>) -> Self {
        let mut end = 0;
        let add = |step: &Step| {
            end += u64::from(step.weight.get());
            end
        };
        let ends = steps.iter().map(add).collect();
        Self { steps, ends, default_delay: DEFAULT_DELAY, seed: None, is_recording: false }
    }

    /// Plays the script as a recording: once, in order, and for requests of any path and method. All further requests get
    /// `ok`.
    ///
    /// The gateway of this project writes recordings of what its upstream did (`--record-faults`).
    ///
    /// ```
    /// use delayed_backend::Script;
    ///
    /// let recording = "ok*2,       # 10:00:00.000\n\
    ///                  status=503, # 10:00:01.500 GET localhost:8080, reused\n";
    /// let script = recording.parse::<Script>()?.as_recording();
    /// let third = script.behavior(3.try_into()?);
    /// assert_eq!(third.to_string(), "status=503");
    /// let fourth = script.behavior(4.try_into()?);
    /// assert_eq!(fourth.to_string(), "ok");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn as_recording(self) -> Self {
        Self { is_recording: true, seed: None, ..self }
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Sets the duration of a `delay` without a value.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { default_delay: delay, ..self }
    }

    /// Whether a step is a `delay` without a value.
    pub(crate) fn uses_default_delay(&self) -> bool {
        self.steps.iter().any(|step| step.behavior.delay == Some(Delay::Default))
    }

    /// Whether a step is the fault of a TLS handshake.
    pub(crate) fn has_tls_faults(&self) -> bool {
        self.steps.iter().any(|step| step.behavior.tls_fault().is_some())
    }

    /// Selects the behaviors at random, by weight, instead of repeating them in a cycle.
    ///
    /// With the same seed, requests with the same number get the same behavior, and the same delay if it is a range.
    /// Without a seed, ranges are drawn as with seed 0.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Sets the seed, or removes it.
    pub(crate) fn with_optional_seed(self, seed: Option<u64>) -> Self {
        Self { seed, ..self }
    }

    /// Derives a seed for the script with this number from the seed, if there is one.
    pub(crate) fn with_other_seed(self, number: u64) -> Self {
        Self { seed: self.seed.map(|seed| seed.wrapping_add(number)), ..self }
    }

    /// Sets the default delay and the seed to those of another script.
    pub(crate) fn with_settings_of(self, other: &Self) -> Self {
        Self { default_delay: other.default_delay, seed: other.seed, ..self }
    }

    /// Returns the behavior for the request with this number; the first is number 1.
    #[must_use]
    pub fn behavior(&self, number: NonZeroU64) -> Behavior {
        let mut rng = rng(self.seed.unwrap_or_default(), number.get());
        let position = self.position(number.get(), &mut rng);
        let index = self.ends.partition_point(|end| *end <= position);
        let mut behavior = self.steps.get(index).map(|step| step.behavior.clone()).unwrap_or_default();
        behavior.delay = behavior.delay.map(|delay| Delay::For(delay.draw(self.default_delay, &mut rng)));
        behavior
    }

    /// Returns the position of a request in the cycle, counted from 0. Those after the end of a recording are beyond it.
    fn position(&self, number: u64, rng: &mut fastrand::Rng) -> u64 {
        let length = self.ends.last().copied().unwrap_or_default().max(1);
        match self.seed {
            None if self.is_recording => number - 1,
            None => (number - 1) % length,
            Some(_) => rng.u64(..length),
        }
    }
}

/// Returns a generator of random numbers that depend only on the arguments.
fn rng(seed: u64, number: u64) -> fastrand::Rng {
    // Generators with similar seeds start with similar values, so the numbers are multiplied by a large odd constant.
    fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Default for Script {
    fn default() -> Self {
        const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);
        Self::healthy_every(FOUR)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|Step { behavior, weight }| match weight.get() {
            1 => behavior.to_string(),
            weight => format!("{behavior}*{weight}"),
        });
        f.write_str(&steps.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviors(script: &Script, requests: u64) -> Vec<String> {
        let numbers = (1..=requests).filter_map(NonZeroU64::new);
        numbers.map(|number| script.behavior(number).to_string()).collect()
    }

    #[test]
    fn parity_every_fourth_request_is_healthy() {
        let cycle = ["delay=5s", "delay=5s", "delay=5s", "ok"];
        assert_eq!(behaviors(&Script::default(), 8), [cycle, cycle].concat());
    }

    #[test]
    fn healthy_every_1_never_delays() {
        assert_eq!(behaviors(&Script::healthy_every(NonZeroU32::MIN), 3), ["ok"; 3]);
    }

    #[test]
    fn a_delay_without_a_value_takes_the_default() {
        let script: Script = "delay,delay=1s,ok".parse().unwrap();
        let script = script.with_delay(Duration::from_millis(50));
        assert_eq!(behaviors(&script, 3), ["delay=50ms", "delay=1s", "ok"]);
    }

    #[test]
    fn a_range_is_drawn_uniformly_and_repeatably() {
        let script: Script = "delay=10ms..50ms".parse().unwrap();
        let delays = |script: &Script| -> Vec<Duration> {
            let drawn = (1..=4_000).filter_map(NonZeroU64::new).map(|number| script.behavior(number));
            let delays = drawn.map(|behavior| match behavior.delay {
                Some(Delay::For(delay)) => delay,
                other => panic!("{other:?}"),
            });
            delays.collect()
        };
        let first = delays(&script);
        assert_eq!(first, delays(&script));
        assert!(first.iter().all(|delay| (10..=50).contains(&delay.as_millis())));
        let short = first.iter().filter(|delay| delay.as_millis() < 20).count();
        assert!((900..1_100).contains(&short), "{short} of 4000 in the first quarter");
        assert_ne!(first, delays(&script.clone().with_seed(1)));
        // The text of a behavior is that of the delay that was drawn.
        assert_eq!(behaviors(&script, 1), [format!("delay={}", crate::fault::duration_text(first[0]))]);
    }

    #[test]
    fn the_largest_range_does_not_overflow() {
        let script: Script = "delay=0..9000000000000".parse().unwrap();
        let _ = script.behavior(NonZeroU64::MAX);
    }

    #[test]
    fn a_weight_repeats_a_behavior() {
        let script: Script = "close*2,ok*3".parse().unwrap();
        assert_eq!(behaviors(&script, 6), ["close", "close", "ok", "ok", "ok", "close"]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let script: Script = "ok*4294967295,close*4294967295".parse().unwrap();
        assert_eq!(script.behavior(NonZeroU64::MAX).to_string(), "ok");
    }

    #[test]
    fn a_seed_selects_behaviors_repeatably_and_by_weight() {
        let script: Script = "ok*3,close".parse().unwrap();
        let script = script.with_seed(7);
        let first = behaviors(&script, 4_000);
        assert_eq!(first, behaviors(&script, 4_000));
        let closed = first.iter().filter(|behavior| *behavior == "close").count();
        assert!((900..1_100).contains(&closed), "{closed} of 4000, for a weight of 1 in 4");
        assert_ne!(first, behaviors(&script.with_seed(8), 4_000));
    }
}
