//! The admin endpoints for operators, on their own listener.

use std::{convert::Infallible, future::pending, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::service::service_fn;
use prometheus_client::{
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};
use retry_client::{Client, EndpointState};
use tokio::net::TcpListener;

use crate::{
    exchange::response_body::Outgoing,
    server::{self, connection_state::ConnectionState, limits::Limits, tasks::Tasks, workers::Workers},
    service::Service,
    settings::LoadedSettings,
    telemetry::{
        endpoint_metrics,
        metrics::{self, Metrics},
        prometheus_text,
    },
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TOML: HeaderValue = HeaderValue::from_static("application/toml; charset=utf-8");

/// Serves `/healthz`, `/readyz`, `/metrics` and `/config`.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) service: Service,
}

impl Admin {
    /// Serves on `listener`. It never stops by itself, so that it can report on the drain.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let workers = Workers::new(Arc::new(self));
        let new_service = |admin: &Arc<Self>, _: SocketAddr, connection: ConnectionState| {
            let admin = Arc::clone(admin);
            service_fn(move |request| {
                // The idle timeout begins anew.
                drop(connection.begin_request());
                let mut response = admin.respond(&request).map(Outgoing::from);
                if request.method() == Method::HEAD {
                    Outgoing::remove_content(&mut response);
                }
                async { Ok::<_, Infallible>(response) }
            })
        };
        server::serve(listener, Limits::default(), &workers, new_service, &Tasks::default(), pending()).await;
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" | "/readyz" | "/metrics" | "/config"
                if ![Method::GET, Method::HEAD].contains(request.method()) =>
            {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET or HEAD\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            "/healthz" => text(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => match self.why_not_ready() {
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
                None => text(StatusCode::OK, TEXT, "ready\n"),
            },
            "/metrics" => self.metrics(request),
            "/config" => text(StatusCode::OK, TOML, self.config()),
            _ => text(StatusCode::NOT_FOUND, TEXT, "not found; try /healthz, /readyz, /metrics or /config\n"),
        }
    }

    /// Returns why the service is not ready for requests; `None` if it is.
    fn why_not_ready(&self) -> Option<&'static str> {
        let Service { generations, tasks, .. } = &self.service;
        if tasks.is_draining() {
            return Some("draining\n");
        }
        let LoadedSettings { settings, client, .. } = &generations.current().loaded;
        let is_up = || client.endpoints().iter().any(|endpoint| endpoint.state == EndpointState::Up);
        (settings.forward && settings.outages.ready_needs_upstream && !is_up()).then_some("no upstream is up\n")
    }

    /// Responds in the format of OpenMetrics, or in the older one of Prometheus if the client prefers it.
    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut registry = metrics::new_registry();
        self.metrics.register(&mut registry);
        self.register_gauges(&mut registry);
        let clients = self.service.generations.clients();
        endpoint_metrics::register(&mut registry, clients.iter().flat_map(Client::endpoints));
        let metrics = metrics::encode(&registry);
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        if accept.is_some_and(prometheus_text::is_preferred) {
            return text(StatusCode::OK, PROMETHEUS, prometheus_text::from_open_metrics(&metrics));
        }
        text(StatusCode::OK, OPEN_METRICS, metrics)
    }

    fn config(&self) -> String {
        let generations = &self.service.generations;
        let current = generations.current();
        let failed = if generations.reload_failed() { "; the last reload failed" } else { "" };
        format!("# generation {}, in force since {}{failed}\n{}", current.number, current.since, current.loaded.dump)
    }

    /// Registers the gauges with their current values.
    fn register_gauges(&self, gauges: &mut Registry) {
        let Service { generations, in_flight, tunnels, tasks, .. } = &self.service;
        let current = generations.current();
        let mut count = |name, help, value: usize| gauges.register(name, help, ConstGauge::new(value));
        count("requests_in_flight", "Requests in flight", in_flight.in_use());
        count("connections", "Open connections of clients, tunnels included", tasks.count());
        let in_backoff = generations.sum(Client::calls_in_backoff);
        count("requests_in_backoff", "Requests that wait for their next attempt", in_backoff);
        let parked = generations.sum(Client::calls_parked);
        count("requests_parked", "Requests that wait until an endpoint of the upstream is up", parked);
        count("upstream_connections", "Connections to the upstream", generations.sum(Client::connections));
        count("tunnels", "Tunnels (WebSocket and other upgrades) that are open or being opened", tunnels.in_use());
        let is_reloaded = usize::from(!generations.reload_failed());
        count("config_reload_successful", "1, or 0 if the last reload failed", is_reloaded);
        let number = ConstGauge::new(current.number);
        gauges.register("config_generation", "Number of the current configuration, from 1", number);
        let (help, since) = ("When the current configuration came into force", current.since.as_second());
        gauges.register_with_unit("config_reload_timestamp", help, Unit::Seconds, ConstGauge::new(since));
        let available = current.loaded.client.budget_available().unwrap_or(f64::INFINITY);
        let help = "Retries that the budget currently allows; +Inf without a budget";
        gauges.register("retry_budget_available", help, ConstGauge::new(available));
    }
}

fn text(status: StatusCode, content_type: HeaderValue, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
