//! The metrics of each endpoint of the upstream.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use retry_client::{EndpointState, EndpointStatus};

/// What is known of one endpoint.
#[derive(Debug, Default)]
struct Endpoint {
    is_up: bool,
    in_flight: usize,
    failures: u64,
    ejections: u64,
    probes: u64,
}

/// A value for each endpoint.
#[derive(Debug)]
struct PerEndpoint {
    metric_type: MetricType,
    values: BTreeMap<String, u64>,
}

/// Registers the metrics of endpoints with their current values. Endpoints of the same name count as one, which is in the
/// state of the last one.
pub(crate) fn register(registry: &mut Registry, endpoints: impl IntoIterator<Item = EndpointStatus>) {
    let mut by_name = BTreeMap::<_, Endpoint>::new();
    for EndpointStatus { name, state, in_flight, failures, ejections, probes, .. } in endpoints {
        let endpoint = by_name.entry(name).or_default();
        endpoint.is_up = state == EndpointState::Up;
        endpoint.in_flight += in_flight;
        endpoint.failures += failures;
        endpoint.ejections += ejections;
        endpoint.probes += probes;
    }
    let mut register = |name, help, metric_type, value: fn(&Endpoint) -> u64| {
        let values = by_name.iter().map(|(name, endpoint)| (name.clone(), value(endpoint))).collect();
        registry.register(name, help, PerEndpoint { metric_type, values });
    };
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    register("endpoint_up", "1, or 0 while the endpoint is down", gauge, |endpoint| endpoint.is_up.into());
    let help = "Requests in flight to the endpoint";
    register("endpoint_requests_in_flight", help, gauge, |endpoint| endpoint.in_flight as u64);
    let help = "Requests to the endpoint that got no response, or one with a status of 5xx that is retried";
    register("endpoint_failures", help, counter, |endpoint| endpoint.failures);
    let help = "Times that failures in a row have taken the endpoint down";
    register("endpoint_ejections", help, counter, |endpoint| endpoint.ejections);
    let help = "Connects and requests that tested whether the endpoint is up again";
    register("endpoint_probes", help, counter, |endpoint| endpoint.probes);
}

impl EncodeMetric for PerEndpoint {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.values.iter().try_for_each(|(name, value)| {
            let labels = [("endpoint", name.as_str())];
            let mut encoder = encoder.encode_family(&labels)?;
            match self.metric_type {
                MetricType::Gauge => encoder.encode_gauge(value),
                _ => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            }
        })
    }

    fn metric_type(&self) -> MetricType {
        self.metric_type
    }
}
