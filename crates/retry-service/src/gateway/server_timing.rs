//! `Server-Timing` (W3C): what became of a request's time, for the browser's tools.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderName, HeaderValue, Response};
use retry_client::Journal;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Tells of the attempts and waits that led to a response.
pub(crate) fn add<B>(response: &mut Response<B>) {
    let told = response.extensions().get::<Journal>().map(tell);
    if let Some(value) = told.and_then(|told| HeaderValue::try_from(told).ok()) {
        response.headers_mut().append(SERVER_TIMING, value);
    }
}

fn tell(journal: &Journal) -> String {
    let mut told = String::new();
    for record in journal.iter() {
        let separator = if told.is_empty() { "" } else { ", " };
        let took = record.timing.map_or(Duration::ZERO, |timing| timing.duration);
        // Writing to a string cannot fail.
        let _ = write!(told, "{separator}attempt{};dur={:.3}", record.attempt, milliseconds(took));
        if let Some(wait) = record.wait {
            let _ = write!(told, ", wait{};dur={:.3}", record.attempt, milliseconds(wait));
        }
    }
    told
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
