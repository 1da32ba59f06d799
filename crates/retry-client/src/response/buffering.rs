//! Which responses are buffered before they are returned, how much of them, and for how long.
//!
//! If the connection closes while a response is buffered, the attempt has failed and may be repeated. A response that
//! was returned cannot be retried.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::TRAILER};
use http_body::Body as _;
use tokio::time::timeout;

use crate::{
    error::Error,
    media_type::{accepts_only_streams, is_stream},
    request::buffer_quota::{BufferQuota, Reservation},
    response::received_body::ReceivedBody,
};

/// How much of a response is buffered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferLimits {
    /// Zero turns buffering off.
    pub(crate) bytes: usize,
    /// For responses that do not announce their length, and for responses to requests that cannot be repeated.
    pub(crate) time: Duration,
}

/// No buffering, and 100 ms once it is turned on.
impl Default for BufferLimits {
    fn default() -> Self {
        Self { bytes: 0, time: Duration::from_millis(100) }
    }
}

impl BufferLimits {
    /// Whether the response announces a length within the limit.
    pub(crate) fn allow_body(self, response: &Response<ReceivedBody>) -> bool {
        let length = response.body().size_hint().exact();
        length.is_some_and(|length| (1..=self.bytes as u64).contains(&length))
    }
}

/// How a response is read ahead.
pub(crate) struct ReadAhead {
    max_bytes: usize,
    max_time: Option<Duration>,
    reservation: Option<Reservation>,
    /// Whether a longer body is an error.
    to_end: bool,
}

impl ReadAhead {
    /// Reads to the end. If the body is longer than `max_bytes`, that is an error; but not with a status other than 2xx,
    /// which may be retried.
    pub(crate) fn complete(max_bytes: usize, status: StatusCode) -> Self {
        Self { max_bytes, max_time: None, reservation: None, to_end: status.is_success() }
    }

    /// Reads within limits. `None` if the response is not to be buffered: it is complete, empty or a stream, or it
    /// announces a length that exceeds the limit or the quota.
    pub(crate) fn limited(
        limits: BufferLimits,
        request_headers: &HeaderMap,
        response: &Response<ReceivedBody>,
        repeatable: bool,
        quota: &BufferQuota,
    ) -> Option<Self> {
        let body = response.body();
        if body.is_complete()
            || body.is_end_stream()
            || is_stream(response.headers())
            || accepts_only_streams(request_headers)
        {
            return None;
        }
        let mut reservation = quota.reserve_none();
        let length = response.body().size_hint().exact();
        if let Some(length) = length {
            usize::try_from(length).ok().filter(|length| *length <= limits.bytes && reservation.grow(*length))?;
        }
        // Waiting for the end is useful only if another attempt may follow. A server that announces a short length is
        // about to send it, and half of it is useless to the client.
        let max_time = if length.is_some() && repeatable { None } else { Some(limits.time) };
        Some(Self { max_bytes: limits.bytes, max_time, reservation: Some(reservation), to_end: false })
    }

    /// Reads the body of `response`.
    pub(crate) async fn read(self, response: &mut Response<ReceivedBody>) -> Result<(), Error> {
        if self.to_end && response.body().size_hint().lower() > self.max_bytes as u64 {
            return Err(Error::too_large(self.max_bytes));
        }
        response.body_mut().reserve(self.reservation);
        let reading = response.body_mut().read_ahead(self.max_bytes, |_| false);
        match self.max_time {
            None => reading.await?,
            // After that time, what was read is returned.
            Some(time) => timeout(time, reading).await.unwrap_or(Ok(()))?,
        }
        if self.to_end && !response.body().is_complete() {
            return Err(Error::too_large(self.max_bytes));
        }
        // Trailers are sent over HTTP/1.1 only if the head announces them.
        if let Some(trailers) = response.body().trailers()
            && !response.headers().contains_key(TRAILER)
        {
            let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
            if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
                response.headers_mut().insert(TRAILER, names);
            }
        }
        Ok(())
    }
}
