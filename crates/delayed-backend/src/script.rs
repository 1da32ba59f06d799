//! Which behaviour each request meets: a pure function of the script and the request's number.

pub(crate) mod parse;
mod span;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::fault::{Behaviour, Delay};

/// How long a bare `delay` takes unless told: the sample's five seconds.
const USUAL_DELAY: Duration = Duration::from_secs(5);

/// Behaviours, one per request, in a cycle or drawn at random.
///
/// The default is the sample: three requests are delayed by five seconds, the fourth is answered
/// at once, and so on. Others are parsed from the language that the [crate's front page](crate)
/// describes, and displayed in it.
///
/// ```
/// use delayed_backend::Script;
///
/// let script: Script = "delay*3,ok".parse()?;
/// assert_eq!(script, Script::default());
///
/// let mistake = "ok,statsu=503".parse::<Script>().unwrap_err();
/// assert!(mistake.to_string().starts_with(r#"item 2, column 4, "statsu": no such behaviour"#));
/// # Ok::<(), delayed_backend::ScriptError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
    usual_delay: Duration,
    seed: Option<u64>,
}

/// A behaviour, and for how many turns of the cycle it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) behaviour: Behaviour,
    pub(crate) weight: NonZeroU32,
}

impl Script {
    /// Delays every request but each `n`-th, which is answered at once.
    #[must_use]
    pub fn healthy_every(n: NonZeroU32) -> Self {
        let late = Behaviour { delay: Some(Delay::Usual), ..Behaviour::default() };
        let late = NonZeroU32::new(n.get() - 1).map(|weight| Step { behaviour: late, weight });
        let healthy = Step { behaviour: Behaviour::default(), weight: NonZeroU32::MIN };
        Self::of(late.into_iter().chain([healthy]).collect())
    }

    /// These steps in a cycle; none at all is a script that always answers.
    pub(crate) fn of(steps: Vec<Step>) -> Self {
        Self { steps, usual_delay: USUAL_DELAY, seed: None }
    }

    /// Sets how long a `delay` without a value of its own takes.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { usual_delay: delay, ..self }
    }

    /// Draws each request's behaviour at random, by weight, instead of going round in a cycle.
    ///
    /// The same seed gives the same request number the same behaviour, whatever came before.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// What is done with the request of this number; the first is number 1.
    #[must_use]
    pub fn behaviour(&self, number: NonZeroU64) -> Behaviour {
        let mut turn = self.turn(number.get());
        for step in &self.steps {
            let weight = u64::from(step.weight.get());
            if turn < weight {
                return self.with_delays_told(&step.behaviour);
            }
            turn -= weight;
        }
        Behaviour::default()
    }

    /// The request's place in the cycle, counted from 0.
    fn turn(&self, number: u64) -> u64 {
        let turns: u64 = self.steps.iter().map(|step| u64::from(step.weight.get())).sum();
        let turns = turns.max(1);
        match self.seed {
            None => (number - 1) % turns,
            Some(seed) => draw(seed, number, turns),
        }
    }

    fn with_delays_told(&self, behaviour: &Behaviour) -> Behaviour {
        let mut behaviour = behaviour.clone();
        if behaviour.delay == Some(Delay::Usual) {
            behaviour.delay = Some(Delay::For(self.usual_delay));
        }
        behaviour
    }
}

/// A number below `limit` that depends on nothing but the arguments.
fn draw(seed: u64, number: u64, limit: u64) -> u64 {
    // Neighbouring numbers must not start neighbouring generators: an odd constant spreads them.
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    fastrand::Rng::with_seed(seed ^ spread).u64(..limit)
}

impl Default for Script {
    fn default() -> Self {
        const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);
        Self::healthy_every(FOUR)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", step.behaviour)?;
            if step.weight != NonZeroU32::MIN {
                write!(f, "*{}", step.weight)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(script: &Script, requests: u64) -> Vec<String> {
        let numbers = (1..=requests).filter_map(NonZeroU64::new);
        numbers.map(|number| script.behaviour(number).to_string()).collect()
    }

    #[test]
    fn parity_every_fourth_request_is_healthy() {
        let cycle = ["delay=5s", "delay=5s", "delay=5s", "ok"];
        assert_eq!(played(&Script::default(), 8), [cycle, cycle].concat());
    }

    #[test]
    fn healthy_every_request_never_delays() {
        assert_eq!(played(&Script::healthy_every(NonZeroU32::MIN), 3), ["ok"; 3]);
    }

    #[test]
    fn a_usual_delay_is_told_once_for_all() {
        let script: Script = "delay,delay=1s,ok".parse().unwrap();
        let script = script.with_delay(Duration::from_millis(50));
        assert_eq!(played(&script, 3), ["delay=50ms", "delay=1s", "ok"]);
    }

    #[test]
    fn a_weight_stands_for_so_many_turns() {
        let script: Script = "close*2,ok*3".parse().unwrap();
        assert_eq!(played(&script, 6), ["close", "close", "ok", "ok", "ok", "close"]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let script: Script = "ok*4294967295,close*4294967295".parse().unwrap();
        assert_eq!(script.behaviour(NonZeroU64::MAX).to_string(), "ok");
    }

    #[test]
    fn a_seed_draws_by_weight_and_repeatably() {
        let script: Script = "ok*3,close".parse().unwrap();
        let script = script.with_seed(7);
        let first = played(&script, 4_000);
        assert_eq!(first, played(&script, 4_000));
        let closed = first.iter().filter(|behaviour| *behaviour == "close").count();
        assert!((900..1_100).contains(&closed), "{closed} of 4000, for a weight of 1 in 4");
        assert_ne!(first, played(&script.with_seed(8), 4_000));
    }
}
