//! `Server-Timing` (W3C): lets a browser's developer tools show attempts and delays.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderName, HeaderValue, Response};
use retry_client::{History, PastAttempt};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds the header with the attempts and delays that led to a response.
pub(super) fn add<B>(response: &mut Response<B>) {
    let metrics = response.extensions().get::<History>().map(metrics);
    if let Some(value) = metrics.and_then(|metrics| HeaderValue::try_from(metrics).ok()) {
        response.headers_mut().append(SERVER_TIMING, value);
    }
}

fn metrics(history: &History) -> String {
    let mut metrics = String::new();
    for PastAttempt { number, duration, wait, .. } in history.iter() {
        let separator = if metrics.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(metrics, "{separator}attempt{number};dur={:.3}", milliseconds(*duration));
        if let Some(wait) = wait {
            let _ = write!(metrics, ", wait{number};dur={:.3}", milliseconds(*wait));
        }
    }
    metrics
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
