//! The command line, and its twin in the environment.

use std::num::NonZeroU32;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::common::duration;
use crate::common::listen::ListenAddress;
use crate::script::Script;

// Where a negative number is a likely slip, it is taken as a value, so that the error can name the
// flag and what it allows.

/// The mock backend of the retry sample: late for most of its requests, in time for every fourth.
///
/// Or whatever else its script says.
#[derive(Debug, Clone, Parser)]
#[command(name = "delayed-backend", version)]
pub(crate) struct Cli {
    /// Where to listen; port 0 takes a free port
    #[arg(long, env = "DELAYED_BACKEND_LISTEN", value_name = "HOST:PORT")]
    #[arg(default_value = "127.0.0.1:8080")]
    pub(crate) listen: ListenAddress,

    /// How long a delayed answer takes
    #[arg(long, env = "DELAYED_BACKEND_DELAY", value_name = "DURATION")]
    #[arg(default_value = "5s", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) delay: Duration,

    /// Every how many requests one is answered at once
    #[arg(long, env = "DELAYED_BACKEND_HEALTHY_EVERY", value_name = "N")]
    #[arg(default_value = "4", value_parser = healthy_every, allow_hyphen_values = true)]
    pub(crate) healthy_every: NonZeroU32,

    /// What is done with each request in turn, such as delay*3,ok or close,status=503;retry-after=1
    ///
    /// A comma-separated cycle of behaviours: ok, delay=5s, hang, status=503 (with retry-after=1,
    /// retry-after-date=2s or body=text), reset, close, reset-after=100, close-after=100, truncate or
    /// truncate=5, stall-after=100, drip=10ms, garbage, huge-headers, chunked, early, goaway,
    /// refused-stream, down=3s. A semicolon combines them, and *3 repeats them. Without it:
    /// delay,delay,delay,ok, as --delay and --healthy-every say.
    #[arg(long, env = "DELAYED_BACKEND_SCRIPT", value_name = "SCRIPT")]
    #[arg(conflicts_with = "healthy_every")]
    pub(crate) script: Option<Script>,

    /// Draw behaviours from the script at random instead of in turn, the same for the same seed
    #[arg(long, env = "DELAYED_BACKEND_SEED", value_name = "N")]
    #[arg(value_parser = seed, allow_hyphen_values = true)]
    pub(crate) seed: Option<u64>,

    /// Serve https, with a certificate made at start
    #[cfg(feature = "tls")]
    #[arg(long, env = "DELAYED_BACKEND_TLS")]
    pub(crate) tls: bool,

    /// Where to write the certificate that a client has to trust, as PEM
    #[cfg(feature = "tls")]
    #[arg(long, env = "DELAYED_BACKEND_TLS_CERT_OUT", value_name = "FILE")]
    #[arg(requires = "tls")]
    pub(crate) tls_cert_out: Option<PathBuf>,
}

impl Cli {
    /// The script the flags ask for.
    #[must_use]
    pub(crate) fn script(&self) -> Script {
        let script = self.script.clone().unwrap_or_else(|| Script::healthy_every(self.healthy_every));
        let script = script.with_delay(self.delay);
        match self.seed {
            Some(seed) => script.with_seed(seed),
            None => script,
        }
    }
}

fn healthy_every(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 1 to 4294967295")
}

fn seed(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 0 to 18446744073709551615")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], script: &str, delay: &str) {
        let cli = Cli::parse_from([&["delayed-backend"], arguments].concat());
        let expected: Script = script.parse().unwrap();
        assert_eq!(cli.script(), expected.with_delay(duration::parse(delay).unwrap()));
    }

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
        check(&["--delay", "0.5", "--healthy-every", "2"], "delay,ok", "500ms");
        check(&["--healthy-every", "1"], "ok", "5s");
        check(&["--script", "delay,close", "--delay", "1s"], "delay,close", "1s");
        let cli = Cli::parse_from(["delayed-backend", "--script", "close*9,ok", "--seed", "7"]);
        let expected: Script = "close*9,ok".parse().unwrap();
        assert_eq!(cli.script(), expected.with_seed(7));
    }
}
