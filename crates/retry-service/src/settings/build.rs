//! What the settings describe: the client, the gateway and the server's limits.

use std::{path::Path, sync::Arc};

use retry_client::{
    Client, ClientBuilder, RetryBudget, RetryPolicy,
    retry_core::{Plan, PolicyError},
};

use super::{
    error::SettingsError,
    flags::Settings,
    upstream::{self, UpstreamUrl},
    values::Host,
};
use crate::{
    exchange::request_body::BodyRules,
    gateway::{
        GatewaySettings,
        client_deadlines::ClientDeadlines,
        headers::{HeaderRules, clean_trailers},
        location::LocationRewriter,
        upgrade::TunnelLimits,
        via::Via,
    },
    server::limits::Limits,
    telemetry::{fault_recorder::FaultRecorder, metrics::Metrics},
};

impl Settings {
    /// Returns the retry policy.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings are not a valid policy.
    pub(crate) fn policy(&self) -> Result<RetryPolicy, PolicyError> {
        let policy = RetryPolicy::builder()
            .count(self.retries.count)
            .interval(self.retries.interval)
            .throttled_interval(self.retries.throttled_interval)
            .backoff_factor(self.retries.backoff_factor)
            .max_wait_interval(self.retries.max_wait_interval)
            .jitter(self.retries.jitter)
            .max_retry_after(self.retries.retry_after_max);
        match self.timeouts.deadline.0 {
            Some(deadline) => policy.deadline(deadline),
            None => policy,
        }
        .build()
    }

    /// Returns the schedule of the policy.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings are not a valid policy.
    pub(crate) fn plan(&self) -> Result<Plan, PolicyError> {
        let idle = self.timeouts.timeout.0.map(|timeout| timeout.saturating_add(self.timeouts.connect_timeout));
        Ok(self.policy()?.plan(self.timeouts.attempt_timeout.0.or(idle)))
    }

    /// Returns the retry budget; `None` if retries need none.
    pub(super) fn budget(&self) -> Result<Option<RetryBudget>, SettingsError> {
        let budget =
            self.retries.budget_ratio.0.map(|ratio| RetryBudget::share(ratio, self.retries.budget_min_per_sec));
        budget.transpose().map_err(|error| SettingsError::setting("budget-ratio", &error))
    }

    /// Whether the budget of these settings can stay in use with others.
    pub(super) fn shares_budget_with(&self, other: &Self) -> bool {
        let budget = |settings: &Self| (settings.retries.budget_ratio, settings.retries.budget_min_per_sec);
        budget(self) == budget(other) && self.upstreams() == other.upstreams()
    }

    /// Returns the client that calls the upstream.
    pub(super) fn client(
        &self,
        metrics: Option<Arc<Metrics>>,
        budget: Option<RetryBudget>,
        recorder: Option<FaultRecorder>,
    ) -> Result<Client, SettingsError> {
        let Self { retries, timeouts, connections, outages, forwarding, limits, .. } = self;
        let policy = self.policy().map_err(|error| {
            // Without the name of the field, which the flag already says.
            let message = error.to_string();
            let reason = message.strip_prefix(error.field()).and_then(|rest| rest.strip_prefix(" is "));
            let reason = match reason.and_then(|reason| reason.split_once(": ")) {
                Some((value, expected)) => format!("invalid value '{value}': {expected}"),
                None => message,
            };
            SettingsError::setting(error.field().replace('_', "-"), &reason)
        })?;
        let urls = self.valid_upstreams().map_err(|reason| SettingsError::setting("upstream", &reason))?;
        let mut urls = urls.into_iter().map(UpstreamUrl::secret);
        let mut client = Client::builder(urls.next().unwrap_or_default())
            .policy(policy)
            .connect_timeout(timeouts.connect_timeout)
            .status_codes(retries.status_codes.0.iter().copied())
            .server_hints(retries.server_hints.0.iter().copied())
            .retry_methods(retries.retry_methods)
            .replay_limit(limits.replay_limit)
            .replay_memory(limits.replay_memory)
            .pool_max_idle(connections.upstream_max_idle)
            .pool_idle_timeout(connections.upstream_idle_timeout)
            .http2_prior_knowledge(connections.upstream_http2)
            .preserve_header_case(forwarding.preserve_header_case);
        if self.forward {
            client = client
                .grpc_status_codes(retries.grpc_status_codes.0.iter().copied())
                .resume(true)
                .response_buffer(forwarding.response_buffer)
                .response_buffer_time(forwarding.response_buffer_time)
                .request_buffer_time(forwarding.request_buffer_time)
                .eject_after(outages.eject_after)
                .max_ejected(outages.max_ejected)
                .slow_start(outages.slow_start);
            client = urls.fold(client, ClientBuilder::endpoint);
            if let Some(time) = outages.outage_wait.0 {
                client = client.outage_wait(time);
            }
            if let Some(name) = &timeouts.deadline_header.0 {
                client = client.deadline_header(name.clone());
            }
            if let Some(after) = retries.hedge_after.0 {
                client = client.hedge_after(after);
            }
            if let Some(interval) = connections.upstream_refresh.0 {
                client = client.dns_refresh(interval);
            }
            if let Some(age) = connections.upstream_max_connection_age.0 {
                client = client.pool_max_connection_age(age);
            }
        }
        client = match timeouts.timeout.0 {
            Some(timeout) => client.timeout(timeout),
            None => client.no_timeout(),
        };
        if let Some(timeout) = timeouts.attempt_timeout.0 {
            client = client.attempt_timeout(timeout);
        }
        if let Some(budget) = budget {
            client = client.budget(budget);
        }
        if let Some(maximum) = connections.upstream_max_connections.0 {
            client = client.pool_max_connections(maximum);
        }
        if let Some(metrics) = metrics {
            client = client.observer(move |event| metrics.attempt(event));
        }
        if let Some(recorder) = recorder {
            client = client.exchange_observer(recorder);
        }
        if let Some(file) = &connections.upstream_ca {
            client = client.ca_file(file);
        }
        client.build().map_err(|error| {
            let message = error.to_string();
            let message = message.strip_prefix("base URL ").unwrap_or(&message);
            match (message.strip_prefix("ca_file "), message.strip_suffix("; set ca_file")) {
                (Some(reason), _) => SettingsError::setting("upstream-ca", &reason),
                (None, Some(reason)) => {
                    SettingsError::setting("upstream", &format_args!("{reason}; set --upstream-ca"))
                }
                (None, None) => SettingsError::setting("upstream", &message),
            }
        })
    }

    /// Returns the URLs of the upstream, of which the sample has one.
    fn valid_upstreams(&self) -> Result<Vec<&UpstreamUrl>, String> {
        let urls = self.upstreams();
        upstream::check(&urls)?;
        match urls.get(1) {
            Some(second) if !self.forward => Err(format!("'{second}': expected one URL without --forward")),
            _ => Ok(urls),
        }
    }

    /// Returns the file of the recording, unless the program prints something instead of serving as a gateway.
    pub(super) fn recording(&self) -> Option<&Path> {
        let is_gateway = self.forward && self.command.is_none() && !self.print_config;
        self.operations.record_faults.as_deref().filter(|_| is_gateway)
    }

    /// Returns the limits on clients.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.limits.max_connections,
            max_header_size: self.limits.max_header_size,
            header_timeout: self.timeouts.header_timeout,
            client_timeout: self.timeouts.client_timeout,
            preserve_header_case: self.forwarding.preserve_header_case,
        }
    }

    /// Returns the settings of the gateway. `instance` distinguishes this process from others in `Via`.
    pub(crate) fn gateway(&self, instance: u32) -> GatewaySettings {
        let Self { timeouts, forwarding, limits, .. } = self;
        GatewaySettings {
            headers: HeaderRules {
                forwarded: forwarding.forwarded,
                trusted_proxies: forwarding.trusted_proxies.clone(),
                location: match forwarding.host {
                    Host::Keep => None,
                    Host::Rewrite => Some(LocationRewriter::new(self.upstreams().into_iter().map(UpstreamUrl::secret))),
                },
                via: forwarding.via.then(|| Via::new(instance)),
            },
            body: BodyRules {
                max_size: limits.max_body_size.0.map(|bytes| bytes as u64),
                idle_timeout: timeouts.client_timeout,
                min_rate: limits.min_upload_rate.0.map(|bytes| bytes as u64),
                clean_trailers,
            },
            tunnels: TunnelLimits { max_open: limits.max_tunnels, idle_timeout: timeouts.tunnel_timeout.0 },
            deadlines: timeouts
                .deadline_header
                .0
                .clone()
                .map(|name| ClientDeadlines { header: name.into(), longest: timeouts.deadline.0 }),
            server_timing: forwarding.server_timing,
        }
    }

    /// Returns what the program does, as the log shows it at start.
    pub(crate) fn summary(&self) -> String {
        let upstreams: Vec<_> = self.upstreams().into_iter().map(ToString::to_string).collect();
        let upstreams = upstreams.join(", ");
        let file = match &self.config {
            Some(path) => format!("configuration file {}", path.display()),
            None => "no configuration file".to_owned(),
        };
        if self.forward {
            format!("Forwarding to {upstreams} ({file})")
        } else {
            format!("Requesting {} from {upstreams} ({file})", self.path)
        }
    }

    /// Returns the log filter if `RUST_LOG` is not set. A gateway logs a line for each request that was retried instead
    /// of one for each attempt, one for each response that was resumed, and one when an endpoint goes down or comes back.
    pub(crate) fn log_filter(&self) -> &'static str {
        if self.forward {
            "info,retry_client=error,retry_client::resume=warn,retry_client::endpoint=info"
        } else {
            "info"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, time::Duration};

    use crate::settings::LoadedSettings;

    #[test]
    fn the_plan_includes_the_limits_of_an_attempt() {
        let check = |args: &[&str], expected: Option<u64>| {
            let args = ["retry-service"].iter().chain(args).map(OsString::from);
            let worst_case = LoadedSettings::from_args(args).unwrap().settings.plan().unwrap().worst_case();
            assert_eq!(worst_case, expected.map(Duration::from_secs));
        };
        check(&[], Some(4 * 17 + 21));
        check(&["--attempt-timeout", "1s"], Some(4 + 21));
        check(&["--timeout", "-1"], None);
        check(&["--timeout", "-1", "--deadline", "9s"], Some(9));
    }
}
