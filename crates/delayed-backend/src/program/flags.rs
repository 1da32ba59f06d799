//! The command-line flags. Each can also be set by an environment variable.

use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::common::duration;
use crate::common::listen::ListenAddress;
use crate::fault::table::KEYWORDS;
use crate::proxy::upstream::Upstream;
use crate::script::error::ScriptError;
use crate::script::{DEFAULT_DELAY, Script};
use crate::stubs::Stubs;

// `allow_hyphen_values` accepts a negative number as a value, so that the error names the flag and what is allowed.

/// A mock HTTP backend: delays most responses, or plays a script of faults.
#[derive(Debug, Clone, Parser)]
#[command(name = "delayed-backend", version)]
pub(crate) struct Flags {
    /// Address to listen on; a port alone is on 127.0.0.1, and port 0 selects a free port
    #[arg(long, env = "DELAYED_BACKEND_LISTEN", value_name = "[HOST:]PORT")]
    #[arg(default_value = "127.0.0.1:8080")]
    pub(crate) listen: ListenAddress,

    /// Delay of a delayed response
    #[arg(long, env = "DELAYED_BACKEND_DELAY", value_name = "DURATION")]
    #[arg(default_value = "5s", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) delay: Duration,

    /// Respond to every Nth request immediately and delay all others
    #[arg(long, env = "DELAYED_BACKEND_HEALTHY_EVERY", value_name = "N")]
    #[arg(default_value = "4", value_parser = healthy_every, allow_hyphen_values = true)]
    pub(crate) healthy_every: NonZeroU32,

    /// Behaviors for successive requests, such as 'delay*3,ok' or 'close,status=503;retry-after=1'
    #[arg(long, env = "DELAYED_BACKEND_SCRIPT", value_name = "SCRIPT")]
    #[arg(value_parser = script, conflicts_with = "healthy_every", long_help = script_help())]
    pub(crate) script: Option<Script>,

    /// File with a recording of a gateway (retry-service --record-faults) to play once, for requests of any path
    ///
    /// It is a script: each request gets the next behavior of the file, and all requests after the last one get 'ok'. They
    /// get the response of --upstream, of their route, or else the one of /hello. Requests that match a stub play the script of
    /// the stub.
    #[arg(long, env = "DELAYED_BACKEND_REPLAY", value_name = "FILE")]
    #[arg(value_parser = recording, conflicts_with_all = ["healthy_every", "seed"])]
    pub(crate) replay: Option<Script>,

    /// File with stubs: routes to match, and what to respond
    #[arg(long, env = "DELAYED_BACKEND_STUBS", value_name = "FILE")]
    #[arg(value_parser = stubs)]
    pub(crate) stubs: Option<Stubs>,

    /// Server to pass all requests to that match no stub, with the faults of the script
    ///
    /// There are no routes then, and without a script no faults. Each request has a connection of its own to the
    /// upstream, over HTTP/1.1, and is sent once, with the upstream's Host and a Via: unless the client gets another response (status,
    /// body) or none (reset, close, hang, garbage, down). An upstream that cannot be reached is a 502. https is not supported.
    #[arg(long, env = "DELAYED_BACKEND_UPSTREAM", value_name = "URL")]
    #[arg(conflicts_with = "healthy_every")]
    pub(crate) upstream: Option<Upstream>,

    /// Seed for selecting behaviors of the script at random instead of in order
    #[arg(long, env = "DELAYED_BACKEND_SEED", value_name = "N")]
    #[arg(value_parser = seed, allow_hyphen_values = true)]
    pub(crate) seed: Option<u64>,

    /// Address of the control API, which changes the backend while it runs; a page for browsers, and a list for curl
    #[arg(long, env = "DELAYED_BACKEND_CONTROL", value_name = "[HOST:]PORT")]
    pub(crate) control: Option<ListenAddress>,

    /// File to write the port to, once the backend listens; it is removed at the end
    #[arg(long, env = "DELAYED_BACKEND_PORT_FILE", value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,

    /// File to write the port of the control API to
    #[arg(long, env = "DELAYED_BACKEND_CONTROL_PORT_FILE", value_name = "FILE")]
    #[arg(requires = "control")]
    pub(crate) control_port_file: Option<PathBuf>,

    /// Print the URLs and ports to standard output, as a line of JSON, once the backend listens
    #[arg(long, env = "DELAYED_BACKEND_PRINT_ADDRESSES")]
    pub(crate) print_addresses: bool,

    /// Serve HTTPS, with a certificate generated at startup
    #[cfg(feature = "tls")]
    #[arg(long, env = "DELAYED_BACKEND_TLS")]
    pub(crate) tls: bool,

    /// File to write the CA certificate to, as PEM, for clients to trust
    #[cfg(feature = "tls")]
    #[arg(long, env = "DELAYED_BACKEND_TLS_CERT_OUT", value_name = "FILE")]
    #[arg(requires = "tls")]
    pub(crate) tls_cert_out: Option<PathBuf>,
}

impl Flags {
    /// Checks what clap cannot.
    pub(crate) fn check(self) -> Result<Self, clap::Error> {
        let (script, replay) = ("--script <SCRIPT>", "--replay <FILE>");
        let stubs_script = self.stubs.as_ref().is_some_and(|stubs| stubs.script.is_some());
        let conflict = |flag, reason| {
            let message = format!("the argument '{flag}' cannot be used with {reason}");
            Err(Self::command().error(ErrorKind::ArgumentConflict, message))
        };
        let removed = "a stub file that has a script; remove one of them";
        match (&self.script, &self.replay) {
            (Some(_), Some(_)) => conflict(replay, "'--script <SCRIPT>': a recording is a script itself"),
            (Some(_), None) if stubs_script => conflict(script, removed),
            (None, Some(_)) if stubs_script => conflict(replay, removed),
            _ => Ok(self),
        }
    }

    /// Returns the script that the flags define.
    pub(crate) fn script(&self) -> Script {
        let script = self.script.as_ref().or(self.replay.as_ref()).cloned().unwrap_or_else(|| match &self.upstream {
            Some(_) => Script::ok(),
            None => Script::healthy_every(self.healthy_every),
        });
        let script = script.with_delay(self.delay);
        match self.seed {
            Some(seed) => script.with_seed(seed),
            None => script,
        }
    }

    /// Whether a delay was given that the script does not use.
    pub(crate) fn delay_has_no_effect(&self) -> bool {
        self.delay != DEFAULT_DELAY && !self.script().uses_default_delay() && !self.is_sample()
    }

    /// Whether the backend is the service of the sample, perhaps with other numbers.
    pub(crate) fn is_sample(&self) -> bool {
        self.script.is_none() && self.replay.is_none() && self.stubs.is_none() && self.upstream.is_none()
    }

    /// Returns the host to listen on, without the brackets of an IPv6 address.
    #[cfg(feature = "tls")]
    pub(crate) fn listen_host(&self) -> String {
        let address = self.listen.to_string();
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        host.trim_matches(['[', ']']).to_owned()
    }
}

fn script_help() -> String {
    let mut help = String::from(
        "Behaviors for successive requests, such as 'delay*3,ok' or 'close,status=503;retry-after=1'\n\n\
         A comma-separated list, repeated in a cycle. A semicolon combines behaviors, with at most one fault among \
         them, and *3 repeats what is combined three times, or with --seed makes it three times as likely. A text with \
         a comma or semicolon needs double quotes: body=\"a,b\". JSON needs none: body={\"a\":1,\"b\":2}. A script can \
         have several lines, with comments that start with #, and a comma after the last behavior; from a file, it is \
         --script \"$(cat FILE)\". A number without a unit is in seconds (delay=0.5) or bytes (truncate=100); other \
         units are ms, m, h, and KiB, MiB, GiB.\n\n\
         The script applies to /hello, /echo and /bytes/N; /requests lists the requests. Without a script, all requests \
         are delayed except every Nth (--healthy-every). Stubs have scripts of their own, in their file.\n\n\
         The behaviors, and what they affect (both: a response over HTTP/1.1 and over HTTP/2). Of two forms, the \
         second shows the default value:\n",
    );
    for keyword in KEYWORDS {
        // Writing to a string cannot fail.
        let _ = write!(
            help,
            "\n{:34}{:12}{}",
            keyword.forms().join(", "),
            keyword.scope.text(),
            keyword.meaning().replace('`', "")
        );
    }
    help
}

fn script(text: &str) -> Result<Script, String> {
    text.parse().map_err(|error: ScriptError| match Path::new(text.strip_prefix('@').unwrap_or(text)).is_file() {
        true => "this is a file; the script in it is --script \"$(cat FILE)\"".to_owned(),
        false => error.to_string(),
    })
}

fn recording(file: &str) -> Result<Script, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    text.parse().map(Script::as_recording).map_err(|error| format!("{file}: {error}"))
}

fn stubs(file: &str) -> Result<Stubs, String> {
    Stubs::read(file).map_err(|error| error.to_string())
}

fn healthy_every(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 1 to 4294967295")
}

fn seed(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 0 to 18446744073709551615")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], script: &str, delay: &str) {
        let flags = Flags::parse_from([&["delayed-backend"], arguments].concat());
        let expected: Script = script.parse().unwrap();
        assert_eq!(flags.script(), expected.with_delay(duration::parse(delay).unwrap()));
    }

    #[test]
    fn the_definition_of_the_flags_is_valid() {
        Flags::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_sample() {
        let flags = Flags::parse_from(["delayed-backend"]);
        assert_eq!(flags.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(flags.script(), Script::default());
    }

    #[test]
    fn flags_change_the_script() {
        check(&["--delay", "0.5", "--healthy-every", "2"], "delay,ok", "500ms");
        check(&["--healthy-every", "1"], "ok", "5s");
        check(&["--script", "delay,close", "--delay", "1s"], "delay,close", "1s");
        let unused =
            |script| Flags::parse_from(["delayed-backend", "--delay", "1s", "--script", script]).delay_has_no_effect();
        assert_eq!((unused("ok,delay=2s"), unused("ok,delay")), (true, false));
        check(&["--upstream", "http://localhost:3000"], "ok", "5s");
        check(&["--upstream", "http://localhost:3000", "--script", "close,ok"], "close,ok", "5s");
        let flags = Flags::parse_from(["delayed-backend", "--script", "close*9,ok", "--seed", "7"]);
        let expected: Script = "close*9,ok".parse().unwrap();
        assert_eq!(flags.script(), expected.with_seed(7));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_host_has_no_brackets() {
        for (address, host) in [("[::1]:80", "::1"), ("localhost:80", "localhost"), ("1.2.3.4:5", "1.2.3.4")] {
            let flags = Flags::parse_from(["delayed-backend", "--listen", address]);
            assert_eq!(flags.listen_host(), host);
        }
    }
}
