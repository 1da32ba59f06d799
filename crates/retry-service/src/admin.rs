//! What operators ask a running process, on a listener of its own.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::service::service_fn;
use retry_client::Client;
use tokio::net::TcpListener;

use crate::{
    exchange::response_body::Outgoing,
    router::Front,
    server::{self, Limits, connection_state::Line, shutdown::Tasks},
    telemetry::{
        metrics::{Metrics, Now},
        prometheus_text,
    },
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TOML: HeaderValue = HeaderValue::from_static("application/toml; charset=utf-8");

/// Answers `/healthz`, `/readyz`, `/metrics` and `/config`.
#[derive(Debug)]
pub struct Admin {
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The service itself.
    pub front: Arc<Front>,
    /// The callers' connections.
    pub tasks: Tasks,
}

impl Admin {
    /// Answers on `listener` for as long as it is polled: it has to outlast the service, as it tells of its end.
    pub async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let service = |_: SocketAddr, line: Line| {
            let admin = Arc::clone(&admin);
            service_fn(move |request| {
                // Noted, so that nobody takes the answer for one of hyper's.
                drop(line.enter());
                let mut answer = admin.answer(&request).map(Outgoing::from);
                if request.method() == Method::HEAD {
                    Outgoing::leave_out_content(&mut answer);
                }
                async { Ok::<_, Infallible>(answer) }
            })
        };
        drop(server::serve(listener, Limits::default(), service, &Tasks::default(), std::future::pending()).await);
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" => told(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.tasks.is_stopping() => told(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
            "/readyz" => told(StatusCode::OK, TEXT, "ready\n"),
            "/metrics" => self.metrics(request),
            "/config" => told(StatusCode::OK, TOML, self.config()),
            _ => told(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz, /metrics and /config\n"),
        }
    }

    /// The metrics in OpenMetrics, or in Prometheus' older format for those who ask for that.
    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let metrics = self.metrics.tell(self.now());
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        if accept.is_some_and(prometheus_text::is_preferred) {
            return told(StatusCode::OK, PROMETHEUS, prometheus_text::from_open_metrics(&metrics));
        }
        told(StatusCode::OK, OPEN_METRICS, metrics)
    }

    fn config(&self) -> String {
        let generation = self.front.current();
        let refused = if self.front.is_refused() { "; a reload since then was refused" } else { "" };
        format!("# generation {}, in force since {}{refused}\n{}", generation.number, generation.since, generation.dump)
    }

    fn now(&self) -> Now {
        let generation = self.front.current();
        Now {
            generation: generation.number,
            since: generation.since.as_second(),
            reload_refused: self.front.is_refused(),
            in_flight: self.front.in_flight(),
            connections: self.tasks.count(),
            waits: self.front.sum(Client::calls_in_backoff),
            upstream_connections: self.front.sum(Client::connections),
            tunnels: self.front.tunnels(),
            budget_left: generation.routes.client().budget_available(),
        }
    }
}

fn told(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
