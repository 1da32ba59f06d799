//! The command line, and its twin in the environment.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Parser;

use crate::duration;
use crate::listen::ListenAddress;
use crate::script::Script;

/// The mock backend of the retry sample: late for most of its requests, in time for every fourth.
#[derive(Debug, Clone, Parser)]
#[command(name = "delayed-backend", version)]
pub struct Cli {
    /// Where to listen; port 0 takes a free port
    #[arg(long, env = "DELAYED_BACKEND_LISTEN", value_name = "HOST:PORT")]
    #[arg(default_value = "127.0.0.1:8080")]
    pub listen: ListenAddress,

    /// How long a delayed answer takes
    #[arg(long, env = "DELAYED_BACKEND_DELAY", value_name = "DURATION")]
    #[arg(default_value = "5s", value_parser = duration::parse)]
    pub delay: Duration,

    /// Every how many requests one is answered at once
    #[arg(long, env = "DELAYED_BACKEND_HEALTHY_EVERY", value_name = "N")]
    #[arg(default_value = "4", value_parser = healthy_every)]
    pub healthy_every: NonZeroU32,
}

impl Cli {
    /// The script the flags ask for.
    #[must_use]
    pub fn script(&self) -> Script {
        Script::healthy_every(self.healthy_every, self.delay)
    }
}

fn healthy_every(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "allowed is a whole number from 1 to 4294967295")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_flags_it_is_the_sample() {
        let cli = Cli::parse_from(["delayed-backend"]);
        assert_eq!(cli.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(cli.script(), Script::default());
    }

    #[test]
    fn flags_shape_the_script() {
        let cli = Cli::parse_from(["delayed-backend", "--delay", "0.5", "--healthy-every", "2"]);
        let two = NonZeroU32::new(2).unwrap();
        assert_eq!(cli.script(), Script::healthy_every(two, Duration::from_millis(500)));
    }
}
