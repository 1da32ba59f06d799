//! Every setting, declared once: its flag, its default, its help, and what applies to it.
//!
//! The variable and the key in the configuration file are derived from the flag's name.

use std::{ffi::OsStr, path::PathBuf, str::FromStr as _, time::Duration};

use clap::{Arg, ArgAction, ArgGroup, Args, CommandFactory as _, Parser, builder::ValueParser, error::ContextKind};
use http::HeaderName;
use retry_client::{HedgeAfter, RetryMethods, retry_core::Jitter};

use super::{
    upstream::{UpstreamList, UpstreamUrl},
    values::{
        Command, GrpcStatusCodes, Host, Limit, ServerHints, StatusCodes, ThreadCount, above_zero, at_least_one, bytes,
        count, failures, header_name, header_size, hedge_after, jitter, limit, methods, on_off, path, ratio, timeout,
    },
};
use crate::{
    common::{duration, listen::ListenAddress},
    gateway::{forwarded::ForwardedHeaders, trusted_proxies::TrustedProxies},
    telemetry::logger::LogFormat,
};

/// An HTTP gateway that retries failed requests where that is safe; without flags, the service of the retry sample.
///
/// Without flags, /retry requests /hello from the upstream. With --forward, every request is forwarded to the upstream.
///
/// Each setting is a flag, an environment variable (--max-in-flight is RETRY_SERVICE_MAX_IN_FLIGHT) and a key of the
/// same name in the TOML file given with --config. Flags take precedence over variables, variables over the file.
/// Durations are written 3s, 200ms or 1m 30s; a number without a unit is in seconds. Sizes are written 65536, 64KiB or 1MiB.
#[derive(Clone, Debug, Parser)]
#[command(name = "retry-service", version)]
#[command(group = ArgGroup::new(GATEWAY_ONLY).multiple(true), group = ArgGroup::new(NEEDS_RESTART).multiple(true))]
#[command(group = ArgGroup::new(LISTS).multiple(true))]
pub(crate) struct Settings {
    /// Run this command instead of serving
    #[arg(value_enum)]
    pub command: Option<Command>,

    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print every setting and where it was set, then exit
    #[arg(long)]
    pub print_config: bool,

    /// Run as a gateway that forwards every request to the upstream
    #[arg(long)]
    pub forward: bool,

    /// Address to listen on; a port alone is on 127.0.0.1, and port 0 selects a free port
    #[arg(long, value_name = "[HOST:]PORT", default_value = "127.0.0.1:9090", group = NEEDS_RESTART)]
    pub listen: ListenAddress,

    /// Number of threads that serve connections; auto is one for each processor that the process may use
    #[arg(long, value_name = "N", default_value = "auto", group = NEEDS_RESTART)]
    pub threads: ThreadCount,

    // Checked when the client is built, so that an error does not print a password.
    /// URL of the upstream; several, each in a flag or separated by commas, are its endpoints. A user name and password are
    /// sent as Authorization
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080", hide_env_values = true, group = LISTS)]
    pub upstream: Vec<UpstreamList>,

    /// Path that the sample requests from the upstream; ignored with --forward
    #[arg(long, value_name = "PATH", default_value = "/hello", value_parser = path)]
    pub path: String,

    /// How often and when to retry.
    #[command(flatten, next_help_heading = "Retries")]
    pub retries: RetrySettings,

    /// Timeouts.
    #[command(flatten, next_help_heading = "Timeouts")]
    pub timeouts: TimeoutSettings,

    /// Connections to the upstream.
    #[command(flatten, next_help_heading = "Upstream")]
    pub connections: UpstreamSettings,

    /// What happens while the upstream is down.
    #[command(flatten, next_help_heading = "Outages")]
    pub outages: OutageSettings,

    /// How messages are forwarded.
    #[command(flatten, next_help_heading = "Forwarding")]
    pub forwarding: ForwardingSettings,

    /// Limits on clients.
    #[command(flatten, next_help_heading = "Limits")]
    pub limits: LimitSettings,

    /// Logs and the admin listener.
    #[command(flatten, next_help_heading = "Operations")]
    pub operations: OperationSettings,
}

/// How often and when to retry.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetrySettings {
    /// Wait before the first retry [with --forward: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    #[arg(default_value = "3s", default_value_if("forward", "true", "100ms"))]
    pub interval: Duration,

    /// Wait before the first retry after a 429 or RESOURCE_EXHAUSTED, if --interval is shorter
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub throttled_interval: Duration,

    /// Maximum number of retries after the first attempt
    #[arg(long, value_name = "N", default_value = "3", value_parser = count)]
    pub count: u32,

    /// Factor by which the wait grows with each retry
    #[arg(long, value_name = "FACTOR", default_value = "2.0")]
    pub backoff_factor: f64,

    /// Maximum wait before a retry [with --forward: 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    #[arg(default_value = "20s", default_value_if("forward", "true", "2s"))]
    pub max_wait_interval: Duration,

    /// How waits are randomized, so that clients do not all retry at once [with --forward: full]
    #[arg(long, value_name = "KIND", value_parser = jitter())]
    #[arg(default_value = "none", default_value_if("forward", "true", "full"))]
    pub jitter: Jitter,

    /// Maximum wait that the upstream may request with Retry-After; a longer one ends the retries [with --forward: 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    #[arg(default_value = "60s", default_value_if("forward", "true", "2s"))]
    pub retry_after_max: Duration,

    /// Status codes to retry, separated by commas, or off [with --forward: 502,503,504]
    #[arg(long, value_name = "CODES", hide_default_value = true, group = LISTS)]
    #[arg(default_value = "", default_value_if("forward", "true", "502,503,504"))]
    pub status_codes: StatusCodes,

    /// Response headers in which the upstream says whether and when to retry, separated by commas, or off; the first one
    /// with a wait counts: retry-after, retry-after-ms, x-amz-retry-after, grpc-retry-pushback-ms, x-should-retry
    #[arg(long, value_name = "HEADERS", default_value = "retry-after", group = LISTS)]
    pub server_hints: ServerHints,

    /// gRPC status codes with which the upstream allows to repeat a call, by name or number, separated by commas, such as
    /// UNAVAILABLE, or off
    #[arg(long, value_name = "CODES", default_value = "off", groups = [GATEWAY_ONLY, LISTS])]
    pub grpc_status_codes: GrpcStatusCodes,

    /// Methods to retry even if the upstream may have processed the request
    #[arg(long, value_name = "METHODS", default_value = "idempotent", value_parser = methods(), group = GATEWAY_ONLY)]
    pub retry_methods: RetryMethods,

    /// Retry budget: maximum ratio of retries to requests, from 0 to 1, or off [with --forward: 0.2]
    #[arg(long, value_name = "RATIO", value_parser = limit(ratio))]
    #[arg(default_value = "off", default_value_if("forward", "true", "0.2"))]
    pub budget_ratio: Limit<f64>,

    /// Retries per second that the budget always allows; ignored without --budget-ratio
    #[arg(long, value_name = "N", default_value = "10", value_parser = count)]
    pub budget_min_per_sec: u32,

    /// Send a request that may be repeated to a second endpoint as well if its response takes longer than this percentage
    /// of the recent ones (such as 95%), or than this time (such as 50ms), or off
    #[arg(long, value_name = "LIMIT", default_value = "off", value_parser = limit(hedge_after), group = GATEWAY_ONLY)]
    pub hedge_after: Limit<HedgeAfter>,
}

/// Timeouts.
#[derive(Clone, Debug, Args)]
pub(crate) struct TimeoutSettings {
    /// Idle timeout of an exchange with the upstream; a negative value disables it [with --forward: 30s]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    #[arg(default_value = "2s", default_value_if("forward", "true", "30s"))]
    pub timeout: Limit<Duration>,

    /// Timeout for connecting to the upstream [with --forward: 3s]
    #[arg(long, value_name = "DURATION", value_parser = above_zero)]
    #[arg(default_value = "15s", default_value_if("forward", "true", "3s"))]
    pub connect_timeout: Duration,

    /// Timeout for one attempt, until the response head has arrived
    #[arg(long, value_name = "DURATION", default_value = "off", value_parser = limit(above_zero))]
    pub attempt_timeout: Limit<Duration>,

    /// Timeout for a request, including all its attempts and waits and the upload of its body
    #[arg(long, value_name = "DURATION", default_value = "off", value_parser = limit(above_zero))]
    pub deadline: Limit<Duration>,

    /// Header in which a client may shorten --deadline for its request, and which tells the upstream what is left, or off.
    /// grpc-timeout has its own format; names that end with -ms are in milliseconds, others in seconds
    #[arg(long, value_name = "HEADER", default_value = "off", value_parser = limit(header_name), group = GATEWAY_ONLY)]
    pub deadline_header: Limit<HeaderName>,

    /// Timeout for receiving a request head, and idle timeout of client connections
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = above_zero, group = NEEDS_RESTART)]
    pub header_timeout: Duration,

    /// Timeout for a client that sends nothing of a request body, or reads nothing of a response
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = above_zero, group = NEEDS_RESTART)]
    pub client_timeout: Duration,

    /// Idle timeout of a tunnel
    #[arg(long, value_name = "DURATION", default_value = "off", value_parser = limit(above_zero), group = GATEWAY_ONLY)]
    pub tunnel_timeout: Limit<Duration>,

    /// Time for requests in flight to finish after the process is asked to stop
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub drain_timeout: Duration,
}

/// Connections to the upstream.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpstreamSettings {
    /// Speak HTTP/2 to the upstream without negotiation (prior knowledge)
    #[arg(long)]
    pub upstream_http2: bool,

    /// Trust the certificate authorities in this PEM file, in addition to the system's
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Option<PathBuf>,

    /// Maximum number of idle connections that are kept to each endpoint, divided among the threads [with --forward: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    #[arg(default_value = "64", default_value_if("forward", "true", "1024"))]
    pub upstream_max_idle: usize,

    /// Time for which an idle connection is kept
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration::parse)]
    pub upstream_idle_timeout: Duration,

    /// Maximum number of connections to each endpoint, or off; further requests wait for one. Requests whose bodies are
    /// still arriving use at most half of them [with --forward: 1024]
    #[arg(long, value_name = "N", value_parser = limit(at_least_one))]
    #[arg(default_value = "off", default_value_if("forward", "true", "1024"))]
    pub upstream_max_connections: Limit<usize>,

    /// Time after which a connection gets no further request, so that requests follow when the upstream moves; it varies
    /// by 10 %
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = limit(above_zero), group = GATEWAY_ONLY)]
    pub upstream_max_connection_age: Limit<Duration>,

    /// Time after which the name of the upstream is resolved again, each address being an endpoint. If off, the addresses
    /// are tried in turn for each connection
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = limit(above_zero), group = GATEWAY_ONLY)]
    pub upstream_refresh: Limit<Duration>,
}

/// What happens while the upstream, or one of its endpoints, is down.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutageSettings {
    /// Maximum time that a request waits while no endpoint can be connected to, or off; after it, the request gets a 503
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = limit(above_zero), group = GATEWAY_ONLY)]
    pub outage_wait: Limit<Duration>,

    /// Number of failures in a row after which an endpoint gets no more requests until it has recovered
    #[arg(long, value_name = "N", default_value = "5", value_parser = failures, group = GATEWAY_ONLY)]
    pub eject_after: u32,

    /// Share of the endpoints, from 0 to 1 and rounded down, that may be without requests for their failures
    #[arg(long, value_name = "RATIO", default_value = "0.5", value_parser = ratio, group = GATEWAY_ONLY)]
    pub max_ejected: f64,

    /// Time in which an endpoint that was down reaches its full share of the requests
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse, group = GATEWAY_ONLY)]
    pub slow_start: Duration,

    /// Respond to /readyz with 503 while no endpoint is up
    #[arg(long, group = GATEWAY_ONLY)]
    pub ready_needs_upstream: bool,
}

/// How messages are forwarded.
#[derive(Clone, Debug, Args)]
pub(crate) struct ForwardingSettings {
    /// Headers that tell the upstream about the client
    #[arg(long, value_name = "HEADERS", default_value = "x-forwarded", value_enum, group = GATEWAY_ONLY)]
    pub forwarded: ForwardedHeaders,

    /// Networks of the proxies whose forwarding headers are trusted, separated by commas
    #[arg(long, value_name = "NETWORKS", default_value = "", hide_default_value = true)]
    #[arg(groups = [GATEWAY_ONLY, LISTS])]
    pub trusted_proxies: TrustedProxies,

    /// Host that is sent to the upstream
    #[arg(long, value_name = "HOST", default_value = "keep", value_enum, group = GATEWAY_ONLY)]
    pub host: Host,

    /// Add Via to requests and responses; without it, loops are not detected
    #[arg(long, value_name = "SWITCH", default_value = "on", value_parser = on_off(), group = GATEWAY_ONLY)]
    #[arg(action = ArgAction::Set)]
    pub via: bool,

    /// Preserve the case of header names over HTTP/1.1 instead of converting them to lower case
    #[arg(long, groups = [GATEWAY_ONLY, NEEDS_RESTART])]
    pub preserve_header_case: bool,

    /// Add a Server-Timing header with attempts and waits to responses
    #[arg(long, group = GATEWAY_ONLY)]
    pub server_timing: bool,

    /// Maximum time that a request body is buffered before the request takes an upstream connection
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse, group = GATEWAY_ONLY)]
    pub request_buffer_time: Duration,

    /// Maximum size of a response that is buffered before it is passed on; larger ones are streamed
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = bytes, group = GATEWAY_ONLY)]
    pub response_buffer: usize,

    /// Maximum time that a response is buffered; does not apply to a short response of known length whose request can
    /// be retried
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration::parse, group = GATEWAY_ONLY)]
    pub response_buffer_time: Duration,
}

/// Limits on clients.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitSettings {
    /// Minimum upload rate in bytes per second, enforced after 20 seconds, or off; slower uploads get a 408
    #[arg(long, value_name = "SIZE", default_value = "500", value_parser = limit(bytes), group = GATEWAY_ONLY)]
    pub min_upload_rate: Limit<usize>,

    /// Maximum number of open tunnels (WebSocket and other upgrades); further ones get a 503
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least_one, group = GATEWAY_ONLY)]
    pub max_tunnels: usize,

    /// Maximum size of a request body that is buffered for retries; a larger one is sent once
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = bytes, group = GATEWAY_ONLY)]
    pub replay_limit: usize,

    /// Maximum memory for all buffered request bodies and responses together
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = bytes, group = GATEWAY_ONLY)]
    pub replay_memory: usize,

    /// Maximum size of a request body; larger ones get a 413
    #[arg(long, value_name = "SIZE", default_value = "off", value_parser = limit(bytes), group = GATEWAY_ONLY)]
    pub max_body_size: Limit<usize>,

    /// Maximum size of a request head, from 8KiB to 512KiB; larger ones get a 431
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = header_size, group = NEEDS_RESTART)]
    pub max_header_size: usize,

    /// Maximum number of requests in flight; further ones get a 503
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least_one)]
    pub max_in_flight: usize,

    /// Maximum number of client connections; further ones wait in the kernel's accept queue
    #[arg(long, value_name = "N", default_value = "20000", value_parser = at_least_one, group = NEEDS_RESTART)]
    pub max_connections: usize,
}

/// Logs and the admin listener.
#[derive(Clone, Debug, Args)]
pub(crate) struct OperationSettings {
    /// Log each request
    #[arg(long)]
    pub access_log: bool,

    /// Format of log lines
    #[arg(long, value_name = "FORMAT", default_value = "sample", value_enum)]
    pub log_format: LogFormat,

    /// Address that serves /healthz, /readyz, /metrics and /config; a port alone is on 127.0.0.1
    #[arg(long, value_name = "[HOST:]PORT", default_value = "off", value_parser = limit(ListenAddress::from_str), group = NEEDS_RESTART)]
    pub admin: Limit<ListenAddress>,

    /// File to append to what the upstream does to requests, as a script that delayed-backend --replay plays
    #[arg(long, value_name = "FILE", group = GATEWAY_ONLY)]
    pub record_faults: Option<PathBuf>,
}

impl Settings {
    /// Returns the URLs of the upstream.
    pub(super) fn upstreams(&self) -> Vec<&UpstreamUrl> {
        self.upstream.iter().flat_map(|list| &list.0).collect()
    }

    /// Whether there may be more than one endpoint, now or later.
    pub(crate) fn may_have_several_endpoints(&self) -> bool {
        let upstreams = self.upstreams();
        let is_refreshed = self.connections.upstream_refresh.0.is_some();
        upstreams.len() > 1 || is_refreshed && upstreams.iter().any(|url| url.is_resolved())
    }
}

/// Settings that have an effect only with `--forward`.
pub(super) const GATEWAY_ONLY: &str = "gateway-only";
/// Settings of the listeners and the connections that they accept, which a reload does not change.
pub(super) const NEEDS_RESTART: &str = "needs-restart";
/// Settings that may be lists in a file.
pub(super) const LISTS: &str = "lists";

const VARIABLE_PREFIX: &str = "RETRY_SERVICE_";

/// Returns the command line. A variable that is set to nothing counts as not set: scripts and manifests write `NAME=`
/// for that.
pub(super) fn command() -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut command = Settings::command().mut_args(|arg| {
        let arg = match arg.get_action() {
            ArgAction::SetTrue if is_setting(&arg) => switch(arg),
            // The setting's parser reports a negative value, with what is expected.
            ArgAction::Set | ArgAction::Append if arg.get_long().is_some() => arg.allow_hyphen_values(true),
            _ => arg,
        };
        // A repeated flag overrides the earlier one, except for the upstream: there may be several.
        let id = arg.get_id().clone();
        let is_repeatable = matches!(arg.get_action(), ArgAction::Append);
        let arg = if is_setting(&arg) && !is_repeatable { arg.overrides_with(id) } else { arg };
        match arg.get_long().map(variable) {
            Some(variable) if (is_setting(&arg) || arg.get_id() == "config") && !is_empty(variable.as_ref()) => {
                arg.env(variable)
            }
            _ => arg,
        }
    });
    // Only a built command knows the members of its groups.
    command.build();
    command
}

/// Makes a flag take an optional value: `--forward` and `--forward=true` set it, `--forward=false` does not.
fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .value_name("BOOL")
        .value_parser(ValueParser::bool())
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
}

/// Returns the environment variable of a setting: `RETRY_SERVICE_MAX_IN_FLIGHT` for `max-in-flight`.
pub(super) fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Returns the setting that this would be the variable of; `None` for variables of other programs.
pub(super) fn name_of(variable: &str) -> Option<String> {
    Some(variable.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase().replace('_', "-"))
}

/// Whether a setting has this name.
pub(super) fn is_known(command: &clap::Command, name: &str) -> bool {
    command.get_arguments().any(|arg| is_setting(arg) && arg.get_long() == Some(name))
}

/// Returns the setting whose name is most similar to an unknown one.
pub(super) fn similar(command: &clap::Command, unknown: &str) -> Option<String> {
    let error = command.clone().try_get_matches_from(["retry-service".to_owned(), format!("--{unknown}=")]).err()?;
    let suggested = error.get(ContextKind::SuggestedArg)?.to_string();
    Some(suggested.trim_start_matches('-').to_owned()).filter(|name| is_known(command, name))
}

/// Whether this is a setting, rather than a request to do something else.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some() && !["config", "print_config", "help", "version"].contains(&arg.get_id().as_str())
}

/// Whether the setting of this name is in a group.
pub(super) fn is_in(command: &clap::Command, group: &str, name: &str) -> bool {
    names(command, group).any(|member| member == name)
}

/// Returns the names of the settings in a group.
pub(super) fn names<'a>(command: &'a clap::Command, group: &str) -> impl Iterator<Item = &'a str> {
    let group = command.get_groups().find(move |candidate| candidate.get_id() == group);
    let ids = group.map(|group| group.get_args().collect::<Vec<_>>()).unwrap_or_default();
    command.get_arguments().filter(move |arg| ids.contains(&arg.get_id())).filter_map(Arg::get_long)
}

#[cfg(test)]
mod tests {
    use std::{env, ffi::OsString, fs};

    use clap::{FromArgMatches as _, parser::ValueSource};
    use retry_client::RetryPolicy;

    use super::*;

    fn parse(args: &[&str]) -> Settings {
        let args = ["retry-service"].iter().chain(args).map(OsString::from);
        Settings::from_arg_matches(&command().try_get_matches_from(args).unwrap()).unwrap()
    }

    fn upstreams(settings: &Settings) -> Vec<&str> {
        settings.upstreams().into_iter().map(UpstreamUrl::secret).collect()
    }

    #[test]
    fn the_command_line_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn parity_without_flags_it_is_the_sample() {
        let settings = parse(&[]);
        assert_eq!(upstreams(&settings), ["http://localhost:8080"]);
        let Settings { forward, listen, path, retries, timeouts, .. } = settings;
        assert!(!forward);
        assert_eq!((listen.to_string().as_str(), path.as_str()), ("127.0.0.1:9090", "/hello"));
        assert_eq!(parse(&[]).policy().unwrap(), RetryPolicy::BALLERINA);
        assert_eq!(timeouts.timeout, Limit(Some(Duration::from_secs(2))));
        assert_eq!(timeouts.connect_timeout, Duration::from_secs(15));
        assert_eq!((retries.status_codes, retries.retry_methods), (StatusCodes(Vec::new()), RetryMethods::Idempotent));
        assert_eq!((retries.budget_ratio, timeouts.deadline), (Limit(None), Limit(None)));
    }

    #[test]
    fn a_negative_value_belongs_to_its_flag() {
        let check = |args: &[&str], expected: &str| {
            let args = ["retry-service"].iter().chain(args).map(OsString::from);
            let error = command().try_get_matches_from(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&["--interval", "-1s", "--count", "3"], "invalid value '-1s' for '--interval <DURATION>'");
        check(&["--interval", "--count", "3"], "invalid value '--count' for '--interval <DURATION>'");
        check(&["--path", "--upstream"], "invalid value '--upstream' for '--path <PATH>'");
        check(&["--forward", "-1"], "unexpected argument '-1' found");
        check(&["--interval"], "a value is required for '--interval <DURATION>'");
        check(&["plan", "--", "--interval", "-1"], "unexpected argument '--interval' found");
    }

    #[test]
    fn upstreams_add_up_and_other_flags_override_earlier_ones() {
        let several = parse(&["--upstream", "http://a", "--upstream=http://b,http://c"]);
        assert_eq!(upstreams(&several), ["http://a", "http://b", "http://c"]);
        assert_eq!(parse(&["--count", "1", "--count", "2", "--forward", "--forward=false"]).retries.count, 2);
    }

    #[test]
    fn the_help_shows_both_defaults_where_a_gateway_has_its_own() {
        let command = command();
        let matches = command.clone().try_get_matches_from(["retry-service", "--forward"]).unwrap();
        let mut differing = 0;
        let is_default = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::DefaultValue);
        for arg in command.get_arguments().filter(|arg| is_setting(arg) && is_default(arg)) {
            let value = matches.get_raw(arg.get_id().as_str()).map(|mut raw| raw.next().unwrap().to_str().unwrap());
            let sample = arg.get_default_values().first().map(|value| value.to_str().unwrap());
            let help = arg.get_help().unwrap().to_string();
            let shown = help.split_once("[with --forward: ").map(|(_, rest)| rest.trim_end_matches(']'));
            assert_eq!(shown, value.filter(|_| value != sample), "{}", arg.get_id());
            differing += usize::from(shown.is_some());
        }
        assert_eq!(differing, 10);
        assert_eq!(parse(&["--forward"]).retries.interval, Duration::from_millis(100));
        assert_eq!(parse(&["--forward", "--interval", "1s"]).retries.interval, Duration::from_secs(1));
        assert_eq!(parse(&["--forward=false"]).retries.interval, Duration::from_secs(3));
    }

    /// Returns the settings as the guide shows them.
    fn table() -> String {
        let command = command();
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
                _ => format!(" ({})", values.join(", ")),
            };
            table += &format!("| `--{}` | {default}{gateway} | {help}{values} |\n", arg.get_long().unwrap());
        }
        table + "\n"
    }

    #[test]
    fn the_guide_lists_every_setting() {
        const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway.md");
        const BEGIN: &str = "<!-- settings -->\n";
        const END: &str = "<!-- end of settings -->";
        let guide = fs::read_to_string(GUIDE).unwrap();
        let (before, rest) = guide.split_once(BEGIN).unwrap();
        let (listed, after) = rest.split_once(END).unwrap();
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(GUIDE, [before, BEGIN, &table(), END, after].concat()).unwrap();
        } else {
            assert_eq!(listed, table(), "run the test with UPDATE_DOCS=1 to update the guide");
        }
    }
}
