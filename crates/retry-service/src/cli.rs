//! The command line, and its twin in the environment.

use std::{fmt, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use http::{StatusCode, uri::PathAndQuery};
use retry_client::{Client, RetryMethods, RetryPolicy, retry_core::PolicyError};

use crate::{duration, listen::ListenAddress};

/// The service of the retry sample: `/retry` calls a backend that may be slow or absent, and retries.
///
/// Without flags it does what the sample does. Durations are written 3s, 200ms or 1m 30s; a bare number
/// is seconds.
#[derive(Clone, Debug, Parser)]
#[command(name = "retry-service", version)]
pub struct Cli {
    /// Where to listen; port 0 takes a free port
    #[arg(long, env = "RETRY_SERVICE_LISTEN", value_name = "HOST:PORT")]
    #[arg(default_value = "127.0.0.1:9090")]
    pub listen: ListenAddress,

    // Checked in `client`, lest a refusal print a password.
    /// The backend; a user name and password in it are sent as Authorization
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM", value_name = "URL", hide_env_values = true)]
    #[arg(default_value = "http://localhost:8080")]
    pub upstream: Upstream,

    /// What to get from the backend
    #[arg(long, env = "RETRY_SERVICE_PATH", value_name = "PATH")]
    #[arg(default_value = "/hello", value_parser = path)]
    pub path: String,

    /// The first wait before a retry
    #[arg(long, env = "RETRY_SERVICE_INTERVAL", value_name = "DURATION")]
    #[arg(default_value = "3s", value_parser = duration::parse)]
    pub interval: Duration,

    /// How many retries may follow the first attempt
    #[arg(long, env = "RETRY_SERVICE_COUNT", value_name = "N")]
    #[arg(default_value = "3", value_parser = count, allow_negative_numbers = true)]
    pub count: u32,

    /// What each wait is multiplied by to get the next
    #[arg(long, env = "RETRY_SERVICE_BACKOFF_FACTOR", value_name = "FACTOR")]
    #[arg(default_value = "2.0", allow_negative_numbers = true)]
    pub backoff_factor: f64,

    /// The upper limit of every wait
    #[arg(long, env = "RETRY_SERVICE_MAX_WAIT_INTERVAL", value_name = "DURATION")]
    #[arg(default_value = "20s", value_parser = duration::parse)]
    pub max_wait_interval: Duration,

    /// How long an exchange may make no progress; a negative value turns this limit off
    #[arg(long, env = "RETRY_SERVICE_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "2s", allow_hyphen_values = true)]
    pub timeout: Timeout,

    /// How long connecting may take
    #[arg(long, env = "RETRY_SERVICE_CONNECT_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "15s", value_parser = above_zero)]
    pub connect_timeout: Duration,

    /// Statuses that are retried, separated by commas; none unless set
    #[arg(long, env = "RETRY_SERVICE_STATUS_CODES", value_name = "CODES")]
    #[arg(default_value = "", hide_default_value = true)]
    pub status_codes: StatusCodes,

    /// Which methods may be repeated though the backend may have processed them
    #[arg(long, env = "RETRY_SERVICE_RETRY_METHODS", value_name = "METHODS")]
    #[arg(default_value = "idempotent", value_enum)]
    pub retry_methods: Methods,
}

impl Cli {
    /// The client that the flags ask for.
    ///
    /// # Errors
    ///
    /// When the numbers make no policy, or the upstream is no URL.
    pub fn client(&self) -> Result<Client, Refused> {
        let policy = RetryPolicy::builder()
            .count(self.count)
            .interval(self.interval)
            .backoff_factor(self.backoff_factor)
            .max_wait_interval(self.max_wait_interval)
            .build()?;
        let client = Client::builder(&self.upstream.0)
            .retry(policy)
            .connect_timeout(self.connect_timeout)
            .status_codes(self.status_codes.0.iter().copied())
            .retry_methods(self.retry_methods.into());
        let client = match self.timeout.0 {
            Some(timeout) => client.timeout(timeout),
            None => client.no_timeout(),
        };
        Ok(client.build()?)
    }
}

/// Flags that can each be read, and make no sense.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The numbers of the policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The backend's URL. The message shows no password.
    #[error("--upstream: {0}")]
    Upstream(#[from] retry_client::Error),
}

/// The backend's URL as it was given; its debug output hides it, as it may have a password in it.
#[derive(Clone)]
pub struct Upstream(String);

impl From<&str> for Upstream {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream(…)")
    }
}

/// The idle timeout; none is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(Option<Duration>);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.trim().strip_prefix('-') {
            Some(negative) => duration::parse(negative).map(|_off| None),
            None => duration::parse(text).map(Some),
        };
        match parsed {
            Ok(Some(Duration::ZERO)) => Err("allowed is more than zero, or a negative value for no timeout".to_owned()),
            Ok(timeout) => Ok(Self(timeout)),
            Err(error) => Err(format!("{error}, or a negative value for no timeout")),
        }
    }
}

/// Statuses to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(Vec<u16>);

impl FromStr for StatusCodes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let code = |code: &str| code.trim().parse().ok().filter(|code| StatusCode::from_u16(*code).is_ok());
        let codes: Option<_> = text.split(',').map(code).collect();
        codes.map(Self).ok_or("allowed are codes from 100 to 999, such as 502,503")
    }
}

/// Which methods are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Methods {
    /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE
    Idempotent,
    /// Every method
    All,
}

impl From<Methods> for RetryMethods {
    fn from(methods: Methods) -> Self {
        match methods {
            Methods::Idempotent => Self::Idempotent,
            Methods::All => Self::All,
        }
    }
}

fn path(text: &str) -> Result<String, &'static str> {
    let valid = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok();
    valid.then(|| text.to_owned()).ok_or("allowed is a path that starts with /, such as /hello")
}

fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "allowed is a whole number from 0 to 4294967295")
}

fn above_zero(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("allowed is more than zero".to_owned());
    }
    Ok(duration)
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
    fn parity_without_flags_it_is_the_sample() {
        let cli = Cli::parse_from(["retry-service"]);
        assert_eq!(cli.listen.to_string(), "127.0.0.1:9090");
        assert_eq!((cli.upstream.0.as_str(), cli.path.as_str()), ("http://localhost:8080", "/hello"));
        assert_eq!((cli.interval, cli.count, cli.backoff_factor), (Duration::from_secs(3), 3, 2.0));
        assert_eq!(cli.max_wait_interval, Duration::from_secs(20));
        assert_eq!(cli.timeout, Timeout(Some(Duration::from_secs(2))));
        assert_eq!(cli.connect_timeout, Duration::from_secs(15));
        assert_eq!((cli.status_codes, cli.retry_methods), (StatusCodes(Vec::new()), Methods::Idempotent));
    }

    #[test]
    fn parity_a_negative_timeout_is_off_and_zero_is_refused() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Timeout>().ok(), expected, "{text}");
        check("2", Some(Timeout(Some(Duration::from_secs(2)))));
        check("-1", Some(Timeout(None)));
        check("-200ms", Some(Timeout(None)));
        check("0", None);
        check("0s", None);
        check("soon", None);
        check("-soon", None);
    }

    #[test]
    fn status_codes_are_a_list() {
        let check = |text: &str, expected: Option<&[u16]>| {
            assert_eq!(text.parse::<StatusCodes>().ok().map(|codes| codes.0).as_deref(), expected, "{text}");
        };
        check("", Some(&[]));
        check("503", Some(&[503]));
        check("502, 503", Some(&[502, 503]));
        check("502,,503", None);
        check("99", None);
        check("5xx", None);
    }

    #[test]
    fn debug_output_has_no_password() {
        let cli = Cli::parse_from(["retry-service", "--upstream", "http://me:secret@h"]);
        assert!(!format!("{cli:?}").contains("secret"));
    }
}
