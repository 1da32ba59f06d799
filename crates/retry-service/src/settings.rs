//! The settings: each a flag, an environment variable, and a key in a file.

use std::{ffi::OsString, fmt, io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use clap::{
    ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, error::ContextKind, parser::ValueSource,
};
use http::Uri;
use retry_client::{
    Client, RetryBudget, RetryPolicy,
    retry_core::{Plan, PolicyError},
};

use crate::{
    common::{duration, listen::ListenAddress, usage_error},
    gateway::{Addressing, AddressingSettings, GatewaySettings, TrustedProxies, Tunnels, UpstreamName},
    server::Limits,
    telemetry::metrics::Metrics,
};

mod arguments;
mod environment;
mod file;
mod listing;
mod no_effect;
mod restart;
mod values;

use self::listing::Redacted;
use self::{
    file::Entry,
    values::{above_zero, admin, at_least_one, bytes, count, header_size, limit, path, ratio, timeout},
};
pub use self::{
    listing::Listing,
    values::{Command, Forwarded, Host, Limit, LogFormat, Methods, Spread, StatusCodes, Switch, Upstream},
};

/// Calls a backend that may be slow or absent, and retries.
///
/// Without flags it is the retry sample's service: /retry gets /hello from the backend. With --forward it is a
/// gateway: every request goes on to the backend, and is repeated where that is safe.
///
/// Each setting is a flag, an environment variable and a key of the flag's name in the file that --config
/// names; a flag goes before a variable, a variable before the file. Durations are written 3s, 200ms or
/// 1m 30s; a bare number is seconds. Sizes are written 65536, 64KiB or 1MiB.
#[derive(Clone, Debug, Parser)]
#[command(name = "retry-service", version, args_override_self = true)]
pub struct Settings {
    /// What to do instead of serving
    #[arg(value_enum)]
    pub command: Option<Command>,

    /// Read settings from this TOML file
    #[arg(long, env = "RETRY_SERVICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print every setting in force and where it came from, and end
    #[arg(long)]
    pub print_config: bool,

    /// Be a gateway: send every request on
    #[arg(long, env = "RETRY_SERVICE_FORWARD", value_name = "BOOL")]
    #[arg(default_value = "false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub forward: bool,

    /// Where to listen; port 0 takes a free port
    #[arg(long, env = "RETRY_SERVICE_LISTEN", value_name = "HOST:PORT")]
    #[arg(default_value = "127.0.0.1:9090")]
    pub listen: ListenAddress,

    // Checked in `client`, lest a refusal print a password.
    /// The backend; a user name and password in it are sent as Authorization
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM", value_name = "URL", hide_env_values = true)]
    #[arg(default_value = "http://localhost:8080")]
    pub upstream: Upstream,

    /// What the sample gets from the backend; of no use with --forward
    #[arg(long, env = "RETRY_SERVICE_PATH", value_name = "PATH")]
    #[arg(default_value = "/hello", value_parser = path)]
    pub path: String,

    /// The first wait before a retry [with --forward: 100ms]
    #[arg(long, env = "RETRY_SERVICE_INTERVAL", value_name = "DURATION", help_heading = "Retries")]
    #[arg(default_value = "3s", default_value_if("forward", "true", "100ms"), value_parser = duration::parse)]
    pub interval: Duration,

    /// How many retries may follow the first attempt
    #[arg(long, env = "RETRY_SERVICE_COUNT", value_name = "N", help_heading = "Retries")]
    #[arg(default_value = "3", value_parser = count)]
    pub count: u32,

    /// What each wait is multiplied by to get the next
    #[arg(long, env = "RETRY_SERVICE_BACKOFF_FACTOR", value_name = "FACTOR", help_heading = "Retries")]
    #[arg(default_value = "2.0")]
    pub backoff_factor: f64,

    /// The upper limit of every wait [with --forward: 2s]
    #[arg(long, env = "RETRY_SERVICE_MAX_WAIT_INTERVAL", value_name = "DURATION", help_heading = "Retries")]
    #[arg(default_value = "20s", default_value_if("forward", "true", "2s"), value_parser = duration::parse)]
    pub max_wait_interval: Duration,

    /// How waits are spread, lest all callers retry at once [with --forward: full]
    #[arg(long, env = "RETRY_SERVICE_JITTER", value_name = "KIND", help_heading = "Retries")]
    #[arg(default_value = "none", default_value_if("forward", "true", "full"), value_enum)]
    pub jitter: Spread,

    /// The longest wait that the backend may ask for with Retry-After [with --forward: 2s]
    #[arg(long, env = "RETRY_SERVICE_RETRY_AFTER_MAX", value_name = "DURATION", help_heading = "Retries")]
    #[arg(default_value = "60s", default_value_if("forward", "true", "2s"), value_parser = duration::parse)]
    pub retry_after_max: Duration,

    /// Statuses that are retried, separated by commas; none unless set [with --forward: 502,503,504]
    #[arg(long, env = "RETRY_SERVICE_STATUS_CODES", value_name = "CODES", help_heading = "Retries")]
    #[arg(default_value = "", default_value_if("forward", "true", "502,503,504"), hide_default_value = true)]
    pub status_codes: StatusCodes,

    /// Which methods may be repeated though the backend may have processed them
    #[arg(long, env = "RETRY_SERVICE_RETRY_METHODS", value_name = "METHODS", help_heading = "Retries")]
    #[arg(default_value = "idempotent", value_enum)]
    pub retry_methods: Methods,

    /// The share of requests that retries may add, from 0 to 1 [with --forward: 0.2]
    #[arg(long, env = "RETRY_SERVICE_BUDGET_RATIO", value_name = "RATIO", help_heading = "Retries")]
    #[arg(default_value = "off", default_value_if("forward", "true", "0.2"), value_parser = limit(ratio))]
    pub budget_ratio: Limit<f64>,

    /// How many retries a second may be added however few the requests; counts with --budget-ratio
    #[arg(long, env = "RETRY_SERVICE_BUDGET_MIN_PER_SEC", value_name = "N", help_heading = "Retries")]
    #[arg(default_value = "10", value_parser = count)]
    pub budget_min_per_sec: u32,

    /// How long an exchange may make no progress; a negative value turns this limit off [with --forward: 30s]
    #[arg(long, env = "RETRY_SERVICE_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "2s", default_value_if("forward", "true", "30s"))]
    #[arg(value_parser = timeout)]
    pub timeout: Limit<Duration>,

    /// How long connecting may take [with --forward: 3s]
    #[arg(long, env = "RETRY_SERVICE_CONNECT_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "15s", default_value_if("forward", "true", "3s"), value_parser = above_zero)]
    pub connect_timeout: Duration,

    /// How long one attempt may take, up to the head of its answer
    #[arg(long, env = "RETRY_SERVICE_ATTEMPT_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "off", value_parser = limit(above_zero))]
    pub attempt_timeout: Limit<Duration>,

    /// How long all attempts and waits of a request may take, sending its body included
    #[arg(long, env = "RETRY_SERVICE_DEADLINE", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "off", value_parser = limit(above_zero))]
    pub deadline: Limit<Duration>,

    /// How long a request's head may take, and a connection be kept without one
    #[arg(long, env = "RETRY_SERVICE_HEADER_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "30s", value_parser = above_zero)]
    pub header_timeout: Duration,

    /// How long a caller may send nothing of a body, or take nothing of an answer
    #[arg(long, env = "RETRY_SERVICE_CALLER_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "60s", value_parser = above_zero)]
    pub caller_timeout: Duration,

    /// How long nothing may pass through a tunnel
    #[arg(long, env = "RETRY_SERVICE_TUNNEL_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "off", value_parser = limit(above_zero))]
    pub tunnel_timeout: Limit<Duration>,

    /// How long requests in flight may take once the process is asked to stop
    #[arg(long, env = "RETRY_SERVICE_DRAIN_TIMEOUT", value_name = "DURATION", help_heading = "Time limits")]
    #[arg(default_value = "30s", value_parser = duration::parse)]
    pub drain_timeout: Duration,

    /// Speak HTTP/2 to the backend from the first byte
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM_HTTP2", value_name = "BOOL", help_heading = "The backend")]
    #[arg(default_value = "false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub upstream_http2: bool,

    /// Trust the authorities in this PEM file, beside the system's
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM_CA", value_name = "FILE", help_heading = "The backend")]
    pub upstream_ca: Option<PathBuf>,

    /// How many connections to the backend are kept while they have nothing to do [with --forward: 256]
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM_MAX_IDLE", value_name = "N", help_heading = "The backend")]
    #[arg(default_value = "64", default_value_if("forward", "true", "256"), value_parser = at_least_one)]
    pub upstream_max_idle: usize,

    /// How long a connection to the backend is kept while it has nothing to do
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM_IDLE_TIMEOUT", value_name = "DURATION", help_heading = "The backend")]
    #[arg(default_value = "90s", value_parser = duration::parse)]
    pub upstream_idle_timeout: Duration,

    /// How many connections to the backend there may be; a request that finds none free waits. Bodies that are still
    /// coming when their requests begin have half of them [with --forward: 1024]
    #[arg(long, env = "RETRY_SERVICE_UPSTREAM_MAX_CONNECTIONS", value_name = "N", help_heading = "The backend")]
    #[arg(default_value = "off", default_value_if("forward", "true", "1024"), value_parser = limit(at_least_one))]
    pub upstream_max_connections: Limit<usize>,

    /// Which headers tell the backend of the caller
    #[arg(long, env = "RETRY_SERVICE_FORWARDED", value_name = "HEADERS", help_heading = "Forwarding")]
    #[arg(default_value = "x-forwarded", value_enum)]
    pub forwarded: Forwarded,

    /// The proxies that are believed when they say whom they forward for: networks, separated by commas
    #[arg(long, env = "RETRY_SERVICE_TRUSTED_PROXIES", value_name = "NETWORKS", help_heading = "Forwarding")]
    #[arg(default_value = "", hide_default_value = true)]
    pub trusted_proxies: TrustedProxies,

    /// Which Host the backend gets
    #[arg(long, env = "RETRY_SERVICE_HOST", value_name = "HOST", help_heading = "Forwarding")]
    #[arg(default_value = "keep", value_enum)]
    pub host: Host,

    /// Whether Via is added; without it a loop is not noticed
    #[arg(long, env = "RETRY_SERVICE_VIA", value_name = "SWITCH", help_heading = "Forwarding")]
    #[arg(default_value = "on", value_enum)]
    pub via: Switch,

    /// Keep the case of header names over HTTP/1.1; they are lower-case otherwise
    #[arg(long, env = "RETRY_SERVICE_PRESERVE_HEADER_CASE", value_name = "BOOL", help_heading = "Forwarding")]
    #[arg(default_value = "false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub preserve_header_case: bool,

    /// Tell callers of attempts and waits in a Server-Timing header
    #[arg(long, env = "RETRY_SERVICE_SERVER_TIMING", value_name = "BOOL", help_heading = "Forwarding")]
    #[arg(default_value = "false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub server_timing: bool,

    /// How long the body of a request is read before the request takes a connection to the backend
    #[arg(long, env = "RETRY_SERVICE_REQUEST_BUFFER_TIME", value_name = "DURATION", help_heading = "Forwarding")]
    #[arg(default_value = "1s", value_parser = duration::parse)]
    pub request_buffer_time: Duration,

    /// How much of a response is buffered before it is handed over; a longer one is streamed
    #[arg(long, env = "RETRY_SERVICE_RESPONSE_BUFFER", value_name = "SIZE", help_heading = "Forwarding")]
    #[arg(default_value = "64KiB", value_parser = bytes)]
    pub response_buffer: usize,

    /// For how long at most, unless the response announces a short length and its request may be repeated
    #[arg(long, env = "RETRY_SERVICE_RESPONSE_BUFFER_TIME", value_name = "DURATION", help_heading = "Forwarding")]
    #[arg(default_value = "100ms", value_parser = duration::parse)]
    pub response_buffer_time: Duration,

    /// How many bytes of a body a client has to send in a second, after 20 seconds; a slower one is answered 408
    #[arg(long, env = "RETRY_SERVICE_MIN_UPLOAD_RATE", value_name = "SIZE", help_heading = "Limits")]
    #[arg(default_value = "500", value_parser = limit(bytes))]
    pub min_upload_rate: Limit<usize>,

    /// How many tunnels (WebSocket and other upgrades) may be open; more are answered 503 at once
    #[arg(long, env = "RETRY_SERVICE_MAX_TUNNELS", value_name = "N", help_heading = "Limits")]
    #[arg(default_value = "10000", value_parser = at_least_one)]
    pub max_tunnels: usize,

    /// How much of a request's body is kept for other attempts; a longer one is sent once
    #[arg(long, env = "RETRY_SERVICE_REPLAY_LIMIT", value_name = "SIZE", help_heading = "Limits")]
    #[arg(default_value = "64KiB", value_parser = bytes)]
    pub replay_limit: usize,

    /// How much all such bodies, and what is buffered of responses, may take together
    #[arg(long, env = "RETRY_SERVICE_REPLAY_MEMORY", value_name = "SIZE", help_heading = "Limits")]
    #[arg(default_value = "64MiB", value_parser = bytes)]
    pub replay_memory: usize,

    /// The largest body of a request; a larger one is answered 413
    #[arg(long, env = "RETRY_SERVICE_MAX_BODY_SIZE", value_name = "SIZE", help_heading = "Limits")]
    #[arg(default_value = "off", value_parser = limit(bytes))]
    pub max_body_size: Limit<usize>,

    /// The largest head of a request, from 8KiB up; a larger one is answered 431
    #[arg(long, env = "RETRY_SERVICE_MAX_HEADER_SIZE", value_name = "SIZE", help_heading = "Limits")]
    #[arg(default_value = "16KiB", value_parser = header_size)]
    pub max_header_size: usize,

    /// How many requests may be under way; more are answered 503 at once
    #[arg(long, env = "RETRY_SERVICE_MAX_IN_FLIGHT", value_name = "N", help_heading = "Limits")]
    #[arg(default_value = "10000", value_parser = at_least_one)]
    pub max_in_flight: usize,

    /// How many connections of callers may be open; more wait in the system's queue
    #[arg(long, env = "RETRY_SERVICE_MAX_CONNECTIONS", value_name = "N", help_heading = "Limits")]
    #[arg(default_value = "20000", value_parser = at_least_one)]
    pub max_connections: usize,

    /// Log each request that was answered
    #[arg(long, env = "RETRY_SERVICE_ACCESS_LOG", value_name = "BOOL", help_heading = "Operations")]
    #[arg(default_value = "false", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub access_log: bool,

    /// How log lines are written
    #[arg(long, env = "RETRY_SERVICE_LOG_FORMAT", value_name = "FORMAT", help_heading = "Operations")]
    #[arg(default_value = "sample", value_enum)]
    pub log_format: LogFormat,

    /// Where to answer /healthz, /readyz, /metrics and /config; a port alone is on 127.0.0.1
    #[arg(long, env = "RETRY_SERVICE_ADMIN", value_name = "[HOST:]PORT", help_heading = "Operations")]
    #[arg(default_value = "off", value_parser = limit(admin))]
    pub admin: Limit<ListenAddress>,
}

/// Settings that have been read and checked, whole.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The same, with where they came from.
    pub listing: Listing,
    /// The client that they ask for.
    pub client: Client,
    /// What that client and the service count, where somebody may ask.
    pub metrics: Option<Arc<Metrics>>,
    /// A line for each thing that was given and has no effect.
    pub warnings: Vec<String>,
    budget: Option<RetryBudget>,
}

/// Settings that have been read again while others are in force.
#[derive(Debug)]
pub struct Reloaded {
    /// The settings; those that need a restart are still as they were.
    pub loaded: Loaded,
    /// The names of those that have changed.
    pub changed: Vec<String>,
    /// The names of those that would have changed, and need a restart.
    pub need_restart: Vec<String>,
}

/// Why there are no settings: they make no sense, or something else was asked for.
#[derive(Debug)]
pub struct Refusal(Why);

#[derive(Debug)]
enum Why {
    /// `--help` or `--version`.
    Asked(String),
    Wrong(String),
    /// What is wrong with the setting of this flag.
    Setting {
        flag: String,
        what: String,
    },
}

impl Refusal {
    fn wrong(message: &str) -> Self {
        Self(Why::Wrong(printable(message)))
    }

    fn of(error: &clap::Error, command: &clap::Command, args: &[OsString]) -> Self {
        if !error.use_stderr() {
            let text = error.render();
            let colours = std::io::stdout().is_terminal();
            return Self(Why::Asked(if colours { text.ansi().to_string() } else { text.to_string() }));
        }
        Self::wrong(&usage_error::one_line(error, command, args))
    }

    fn setting(flag: impl Into<String>, what: &impl ToString) -> Self {
        Self(Why::Setting { flag: flag.into(), what: printable(&what.to_string()) })
    }

    /// Names the line of the file, or the variable that `variable` knows, in place of the flag, if the setting is from
    /// there.
    fn placed(self, file: &[Entry], variable: impl Fn(&str) -> Option<String>) -> Self {
        let Why::Setting { flag, what } = &self.0 else { return self };
        match (file.iter().find(|entry| entry.name == *flag), variable(flag)) {
            (Some(Entry { name, place, .. }), _) => Self::wrong(&format!("{place}: {name}: {what}")),
            (None, Some(variable)) => Self::wrong(&format!("{variable}: {what}")),
            (None, None) => self,
        }
    }

    /// What was asked for instead: the text of `--help` or `--version`.
    #[must_use]
    pub fn asked(&self) -> Option<&str> {
        match &self.0 {
            Why::Asked(text) => Some(text),
            Why::Wrong(_) | Why::Setting { .. } => None,
        }
    }
}

/// A message in one line, as a value or a key may have line breaks in it, and without the user name and password of a URL
/// that may be at the wrong place.
fn printable(message: &str) -> String {
    let mut parts = message.split("://");
    let mut printable = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || "'\"/".contains(c)).unwrap_or(part.len());
        let secret = part.get(..end).and_then(|authority| authority.rfind('@')).filter(|_| !part.starts_with("***"));
        printable += "://";
        printable += if secret.is_some() { "***" } else { "" };
        printable += part.get(secret.unwrap_or(0)..).unwrap_or_default();
    }
    printable.replace(['\n', '\r'], " ")
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Asked(text) | Why::Wrong(text) => f.write_str(text),
            Why::Setting { flag, what } => write!(f, "--{flag}: {what}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Whether it is a setting, rather than a wish for something else to be done.
fn is_setting(arg: &clap::Arg) -> bool {
    arg.get_long().is_some() && !["config", "print_config", "help", "version"].contains(&arg.get_id().as_str())
}

impl Loaded {
    /// Reads arguments, the environment, and the file that either names.
    ///
    /// # Errors
    ///
    /// One line that names the setting, its value and what is allowed, with the variable or the line of the file that a
    /// wrong value is in.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, Refusal> {
        Self::read(args, None)
    }

    /// Reads all of it again.
    ///
    /// # Errors
    ///
    /// As [`from_args`](Self::from_args).
    pub fn again(&self, args: impl IntoIterator<Item = OsString>) -> Result<Reloaded, Refusal> {
        let mut loaded = Self::read(args, Some(self))?;
        let differing = |loaded: &Self| loaded.listing.differing(&self.listing).map(str::to_owned).collect::<Vec<_>>();
        let mut need_restart = differing(&loaded);
        need_restart.retain(|name| restart::NAMES.contains(&&**name));
        loaded.listing.take(&restart::NAMES, &self.listing);
        let mut changed = differing(&loaded);
        // The listing does not tell one password from another.
        if loaded.settings.upstream != self.settings.upstream && !changed.iter().any(|name| name == "upstream") {
            changed.push("upstream".to_owned());
        }
        Ok(Reloaded { loaded, changed, need_restart })
    }

    /// Reads them; of those that are in force already, what needs a restart is kept, and so is what was counted.
    fn read(args: impl IntoIterator<Item = OsString>, in_force: Option<&Self>) -> Result<Self, Refusal> {
        let command = environment::without_empty(Settings::command());
        let args = arguments::prepare(args.into_iter().collect(), &command)?;
        let parse = |args: &[OsString]| {
            command.clone().try_get_matches_from(args).map_err(|error| Refusal::of(&error, &command, args))
        };
        let mut matches = parse(&args)?;
        let mut file = Vec::new();
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            file =
                file::read(path).map_err(|refusal| refusal.placed(&[], environment::variable(&matches, &command)))?;
            for entry in &file {
                check(&command, entry)?;
            }
            // A flag and a variable go before the file.
            file.retain(|entry| {
                let id = entry.name.replace('-', "_");
                matches.value_source(&id) == Some(ValueSource::DefaultValue) || !matches.contains_id(&id)
            });
            let from_file = file.iter().map(|entry| format!("--{}={}", entry.name, entry.value).into());
            matches = parse(&args.into_iter().chain(from_file).collect::<Vec<_>>())?;
        }
        let mut loaded = Self::of(&matches, &command, &file, in_force)
            .map_err(|refusal| refusal.placed(&file, environment::variable(&matches, &command)))?;
        loaded.warnings.extend(environment::unknown(environment::names(), &command));
        Ok(loaded)
    }

    fn of(
        matches: &ArgMatches,
        command: &clap::Command,
        file: &[Entry],
        in_force: Option<&Self>,
    ) -> Result<Self, Refusal> {
        let mut settings = Settings::from_arg_matches(matches).map_err(|error| Refusal::of(&error, command, &[]))?;
        let mut budget = settings.budget()?;
        let mut metrics = settings.admin.0.is_some().then(Arc::<Metrics>::default);
        if let Some(in_force) = in_force {
            restart::keep(&mut settings, &in_force.settings);
            metrics.clone_from(&in_force.metrics);
            if settings.has_budget_of(&in_force.settings) {
                budget.clone_from(&in_force.budget);
            }
        }
        let client = settings.client(metrics.clone(), budget.clone())?;
        let listing = Listing::of(matches, command, file);
        let warnings = no_effect::find(&settings, &listing);
        Ok(Self { settings, listing, client, metrics, warnings, budget })
    }
}

/// Checks one entry of a file as its flag would be, to name its line where it is wrong.
fn check(command: &clap::Command, Entry { name, value, place }: &Entry) -> Result<(), Refusal> {
    let wrong = |what: &str| Refusal::wrong(&format!("{place}: {what}"));
    let args = ["retry-service".into(), format!("--{name}={value}").into()];
    if !is_known(command, name) {
        let tip =
            similar(command, name).map_or_else(String::new, |name| format!("; tip: a similar one exists: '{name}'"));
        return Err(wrong(&format!("unknown setting '{name}'{tip}")));
    }
    command
        .clone()
        .try_get_matches_from(&args)
        .map(drop)
        .map_err(|error| wrong(&format!("{name}: {}", Refusal::of(&error, command, &args))))
}

/// Whether a setting has this name.
fn is_known(command: &clap::Command, name: &str) -> bool {
    command.get_arguments().any(|arg| is_setting(arg) && arg.get_long() == Some(name))
}

/// The setting whose name is most similar to one that none has.
fn similar(command: &clap::Command, name: &str) -> Option<String> {
    let error = command.clone().try_get_matches_from(["retry-service".to_owned(), format!("--{name}=")]).err()?;
    let suggested = error.get(ContextKind::SuggestedArg)?.to_string();
    Some(suggested.trim_start_matches('-').to_owned()).filter(|name| is_known(command, name))
}

impl Settings {
    /// How often to retry, and how long to wait.
    ///
    /// # Errors
    ///
    /// When the numbers make no policy.
    pub fn policy(&self) -> Result<RetryPolicy, PolicyError> {
        let policy = RetryPolicy::builder()
            .count(self.count)
            .interval(self.interval)
            .backoff_factor(self.backoff_factor)
            .max_wait_interval(self.max_wait_interval)
            .jitter(self.jitter.into())
            .max_retry_after(self.retry_after_max);
        match self.deadline.0 {
            Some(deadline) => policy.deadline(deadline),
            None => policy,
        }
        .build()
    }

    /// The budget that retries draw on; `None` if they need none.
    fn budget(&self) -> Result<Option<RetryBudget>, Refusal> {
        let budget = self.budget_ratio.0.map(|ratio| RetryBudget::share(ratio, self.budget_min_per_sec));
        budget.transpose().map_err(|error| Refusal::setting("budget-ratio", &error))
    }

    /// Whether retries may go on drawing on the budget of these settings.
    fn has_budget_of(&self, other: &Self) -> bool {
        let budget = |settings: &Self| (settings.budget_ratio, settings.budget_min_per_sec);
        budget(self) == budget(other) && self.upstream == other.upstream
    }

    fn client(&self, metrics: Option<Arc<Metrics>>, budget: Option<RetryBudget>) -> Result<Client, Refusal> {
        let policy = self.policy().map_err(|error| {
            // The flag that goes before it says it already.
            let told = error.to_string();
            let told = told.strip_prefix(error.field()).and_then(|told| told.strip_prefix(" is ")).unwrap_or(&told);
            Refusal::setting(error.field().replace('_', "-"), &format_args!("invalid value {told}"))
        })?;
        let mut client = Client::builder(&self.upstream.0)
            .retry(policy)
            .connect_timeout(self.connect_timeout)
            .status_codes(self.status_codes.0.iter().copied())
            .retry_methods(self.retry_methods.into())
            .replay_limit(self.replay_limit)
            .replay_memory(self.replay_memory)
            .pool_max_idle(self.upstream_max_idle)
            .pool_idle_timeout(self.upstream_idle_timeout)
            .http2_prior_knowledge(self.upstream_http2)
            .preserve_header_case(self.preserve_header_case);
        if self.forward {
            client = client
                .resume(true)
                .response_buffer(self.response_buffer)
                .response_buffer_time(self.response_buffer_time)
                .request_buffer_time(self.request_buffer_time)
                .timed(self.server_timing);
        }
        client = match self.timeout.0 {
            Some(timeout) => client.timeout(timeout),
            None => client.no_timeout(),
        };
        if let Some(limit) = self.attempt_timeout.0 {
            client = client.attempt_timeout(limit);
        }
        if let Some(budget) = budget {
            client = client.budget(budget);
        }
        if let Some(most) = self.upstream_max_connections.0 {
            client = client.pool_max_connections(most);
        }
        if let Some(metrics) = metrics {
            client = client.observer(move |event| metrics.attempt(event));
        }
        if let Some(file) = &self.upstream_ca {
            client = client.ca_file(file);
        }
        let client = client.build().map_err(|error| {
            let told = error.to_string();
            match (told.strip_prefix("ca_file "), told.strip_suffix("; set ca_file")) {
                (Some(told), _) => Refusal::setting("upstream-ca", &told),
                (None, Some(told)) => Refusal::setting("upstream", &format_args!("{told}; set --upstream-ca")),
                (None, None) => Refusal::setting("upstream", &told),
            }
        })?;
        if self.upstream.0.parse::<Uri>().is_ok_and(|url| url.port_u16() == Some(0)) {
            return Err(Refusal::setting("upstream", &"nothing can be reached at port 0"));
        }
        if self.upstream.0.contains("://***@") {
            return Err(Refusal::setting("upstream", &"*** stands for a user name and password that are not shown"));
        }
        Ok(client)
    }

    /// What the program does, for whom, and where that is set.
    #[must_use]
    pub fn summary(&self) -> String {
        let upstream = Redacted(&self.upstream.0);
        let file = match &self.config {
            Some(path) => format!("config file {}", path.display()),
            None => "no config file".to_owned(),
        };
        if self.forward {
            format!("Gateway to {upstream}, {file}")
        } else {
            format!("Sample that gets {} from {upstream}, {file}", self.path)
        }
    }

    /// What the policy will do, attempt by attempt.
    ///
    /// # Errors
    ///
    /// When the numbers make no policy.
    pub fn plan(&self) -> Result<Plan, PolicyError> {
        let silence = self.timeout.0.map(|timeout| timeout.saturating_add(self.connect_timeout));
        Ok(self.policy()?.plan(self.attempt_timeout.0.or(silence)))
    }

    /// What is logged where `RUST_LOG` does not say. A gateway has one line for each request that was retried, in
    /// place of one for each attempt, and one for each response that was resumed.
    #[must_use]
    pub fn log_filter(&self) -> &'static str {
        if self.forward { "info,retry_client=error,retry_client::resume=warn" } else { "info" }
    }

    /// What callers may take.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            header_size: self.max_header_size,
            header_time: self.header_timeout,
            caller_time: self.caller_timeout,
            preserve_header_case: self.preserve_header_case,
        }
    }

    /// What the gateway does beside forwarding. `instance` tells this process from others.
    #[must_use]
    pub fn gateway(&self, instance: u32) -> GatewaySettings {
        let rewrite_host = match self.host {
            Host::Keep => None,
            Host::Rewrite => UpstreamName::of(&self.upstream.0),
        };
        let addressing = AddressingSettings {
            forwarded: self.forwarded.into(),
            trusted_proxies: self.trusted_proxies.clone(),
            rewrite_host,
            via: self.via == Switch::On,
        };
        GatewaySettings {
            addressing: Addressing::new(addressing, instance),
            max_body_size: self.max_body_size.0.map(|bytes| bytes as u64),
            caller_time: self.caller_timeout,
            min_upload_rate: self.min_upload_rate.0.map(|bytes| bytes as u64),
            tunnels: Tunnels::new(self.max_tunnels, self.tunnel_timeout.0),
            server_timing: self.server_timing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Loaded, Refusal> {
        Loaded::from_args(["retry-service"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_sound() {
        Settings::command().debug_assert();
    }

    #[test]
    fn parity_without_flags_it_is_the_sample() {
        let settings = load(&[]).unwrap().settings;
        assert!(!settings.forward);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9090");
        assert_eq!((settings.upstream.0.as_str(), settings.path.as_str()), ("http://localhost:8080", "/hello"));
        assert_eq!(settings.policy().unwrap(), RetryPolicy::SAMPLE);
        assert_eq!(settings.timeout, Limit(Some(Duration::from_secs(2))));
        assert_eq!(settings.connect_timeout, Duration::from_secs(15));
        assert_eq!((settings.status_codes, settings.retry_methods), (StatusCodes(Vec::new()), Methods::Idempotent));
        assert_eq!((settings.budget_ratio, settings.deadline), (Limit(None), Limit(None)));
    }

    #[test]
    fn a_gateway_has_its_own_defaults_and_the_help_says_both() {
        let command = Settings::command();
        let matches = command.clone().try_get_matches_from(["retry-service", "--forward"]).unwrap();
        let mut differing = 0;
        for arg in command.get_arguments().filter(|arg| is_setting(arg) && arg.get_id() != "forward") {
            let value = matches.get_raw(arg.get_id().as_str()).map(|mut raw| raw.next().unwrap().to_str().unwrap());
            let sample = arg.get_default_values().first().map(|value| value.to_str().unwrap());
            let help = arg.get_help().unwrap().to_string();
            let told = help.split_once("[with --forward: ").map(|(_, rest)| rest.trim_end_matches(']'));
            assert_eq!(told, value.filter(|_| value != sample), "{}", arg.get_id());
            differing += usize::from(told.is_some());
        }
        assert_eq!(differing, 10);
        assert_eq!(load(&["--forward"]).unwrap().settings.interval, Duration::from_millis(100));
        assert_eq!(load(&["--forward", "--interval", "1s"]).unwrap().settings.interval, Duration::from_secs(1));
        assert_eq!(load(&["--forward=false"]).unwrap().settings.interval, Duration::from_secs(3));
    }

    /// The settings as the guide has them.
    fn table() -> String {
        let command = Settings::command();
        let mut table = String::new();
        let mut heading = None;
        for arg in command.get_arguments().filter(|arg| is_setting(arg)) {
            if heading != Some(arg.get_help_heading()) {
                heading = Some(arg.get_help_heading());
                let title = arg.get_help_heading().unwrap_or("General");
                table += &format!("\n| {title} | default | |\n|---|---|---|\n");
            }
            let default = arg.get_default_values().first().map_or("", |value| value.to_str().unwrap());
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let help = arg.get_help().unwrap().to_string().replace('|', "\\|");
            let (help, gateway) = match help.split_once(" [with --forward: ") {
                Some((help, gateway)) => (help.to_owned(), format!(" → `{}`", gateway.trim_end_matches(']'))),
                None => (help, String::new()),
            };
            let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            let values = match values[..] {
                _ if values.is_empty() || values[0] == "true" => String::new(),
                _ => format!(": {}", values.join(", ")),
            };
            table += &format!("| `--{}` | {default}{gateway} | {help}{values} |\n", arg.get_long().unwrap());
        }
        table + "\n"
    }

    #[test]
    fn the_guide_has_every_setting() {
        const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway.md");
        const BEGIN: &str = "<!-- settings -->\n";
        const END: &str = "<!-- end of settings -->";
        let guide = std::fs::read_to_string(GUIDE).unwrap();
        let (before, rest) = guide.split_once(BEGIN).unwrap();
        let (told, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(GUIDE, [before, BEGIN, &table(), END, after].concat()).unwrap();
        } else {
            assert_eq!(told, table(), "UPDATE_DOCS=1 writes it anew");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_in_one_line() {
        let check = |args: &[&str], expected: &str| assert_eq!(load(args).unwrap_err().to_string(), expected);
        check(
            &["--count", "-1"],
            "invalid value '-1' for '--count <N>': allowed is a whole number from 0 to 4294967295",
        );
        check(
            &["--upstream", "http://me:secret@ho st"],
            "--upstream: base URL 'http://***@ho st': expected a URL like http://host:port",
        );
        check(
            &["--max-body-size", "much"],
            "invalid value 'much' for '--max-body-size <SIZE>': allowed is a number of bytes such as 65536, 64KiB or 1MiB, or off",
        );
        check(
            &["--trusted-proxies", "10.0.0.0/8,lan"],
            "invalid value '10.0.0.0/8,lan' for '--trusted-proxies <NETWORKS>': allowed are networks and addresses, such as 10.0.0.0/8,fd00::/8",
        );
        check(
            &["--config", "/no/such.toml"],
            "--config: cannot read '/no/such.toml': No such file or directory (os error 2)",
        );
    }

    #[test]
    fn no_refusal_has_a_password() {
        let check = |args: &[&str], expected: &str| {
            let refusal = load(args).unwrap_err();
            assert!(!format!("{refusal:?}").contains("hush"), "{refusal:?}");
            assert_eq!(refusal.to_string(), expected);
        };
        let url = "http://me:hush@h/x";
        check(&[url], "invalid value 'http://***@h/x' for '[COMMAND]' [possible values: plan]");
        check(
            &["--jitter", url],
            "invalid value 'http://***@h/x' for '--jitter <KIND>' [possible values: none, full, equal, decorrelated]",
        );
        check(&["--upstream-ca", url], "--upstream-ca: 'http://***@h/x': No such file or directory (os error 2)");
        check(&["--config", url], "--config: cannot read 'http://***@h/x': No such file or directory (os error 2)");
        check(
            &["--upstream", "http://***@h"],
            "--upstream: *** stands for a user name and password that are not shown",
        );
        check(
            &["--upstream", "ftp://me:hush@h"],
            "--upstream: base URL 'ftp://***@h': expected a URL that starts with http:// or https://",
        );
    }

    #[test]
    fn what_is_wrong_beside_others_is_told_with_its_line_if_it_is_from_a_file() {
        let entry =
            |name: &str, place: &str| Entry { name: name.to_owned(), value: String::new(), place: place.to_owned() };
        let file = [entry("count", "g.toml:1"), entry("upstream", "g.toml:2")];
        let variable = |flag: &str| (flag == "path").then(|| "RETRY_SERVICE_PATH".to_owned());
        let told = |flag: &str| Refusal::setting(flag, &"no host").placed(&file, variable).to_string();
        assert_eq!(told("upstream"), "g.toml:2: upstream: no host");
        assert_eq!(told("path"), "RETRY_SERVICE_PATH: no host");
        assert_eq!(told("upstream-ca"), "--upstream-ca: no host");
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let loaded = load(&["--upstream", "http://me:secret@h"]).unwrap();
        assert!(!format!("{loaded:?}").contains("secret"));
        assert!(loaded.listing.to_string().contains("upstream = \"http://***@h\""), "{}", loaded.listing);
    }

    #[test]
    fn the_plan_rests_on_the_limits_of_an_attempt() {
        let check = |args: &[&str], expected: Option<u64>| {
            let worst = load(args).unwrap().settings.plan().unwrap().worst_case();
            assert_eq!(worst, expected.map(Duration::from_secs), "{args:?}");
        };
        check(&[], Some(4 * 17 + 21));
        check(&["--attempt-timeout", "1s"], Some(4 + 21));
        check(&["--timeout", "-1"], None);
        check(&["--timeout", "-1", "--deadline", "9s"], Some(9));
    }
}
