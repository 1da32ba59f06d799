//! `Server-Timing` (W3C): lets a browser's developer tools show attempts and delays.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderName, HeaderValue, Response};
use retry_client::Journal;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds the header with the attempts and delays that led to a response.
pub(super) fn add<B>(response: &mut Response<B>) {
    let metrics = response.extensions().get::<Journal>().map(metrics);
    if let Some(value) = metrics.and_then(|metrics| HeaderValue::try_from(metrics).ok()) {
        response.headers_mut().append(SERVER_TIMING, value);
    }
}

fn metrics(journal: &Journal) -> String {
    let mut metrics = String::new();
    for record in journal.iter() {
        let separator = if metrics.is_empty() { "" } else { ", " };
        let duration = record.timing.map_or(Duration::ZERO, |timing| timing.duration);
        // Writing to a string cannot fail.
        let _ = write!(metrics, "{separator}attempt{};dur={:.3}", record.attempt, milliseconds(duration));
        if let Some(wait) = record.wait {
            let _ = write!(metrics, ", wait{};dur={:.3}", record.attempt, milliseconds(wait));
        }
    }
    metrics
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
