//! Resuming a response body that ended early, by range requests: RFC 9110, section 14.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, IF_RANGE, RANGE},
};
use http_body::{Body as _, Frame, SizeHint};

use crate::{
    error::Error,
    history::{History, Outcome, PastAttempt},
    request::body::Body,
    response::received_body::ReceivedBody,
    retry::{
        attempt_event::{AttemptEvent, WithoutQuery},
        attempt_request::ReplayableRequest,
        call_options::CallOptions,
        config::{Observer, RetryConfig},
    },
};

pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<Response<ReceivedBody>, Error>> + Send>>;

/// Sends range requests.
pub(crate) trait RangeClient: Send + Sync {
    fn fetch(self: Arc<Self>, request: Request<Body>) -> Fetching;

    fn retry_config(&self) -> &RetryConfig;
}

/// After this many bytes, a body may be resumed as often again. Fewer do not count as progress, as a server that sends
/// a few bytes on each connection would get requests forever.
const PROGRESS: u64 = 64 * 1024;

/// What the rest of a body has to match.
struct Validator {
    /// A strong validator: it stands for the same bytes, not only for the same meaning.
    etag: HeaderValue,
    /// The length of the complete body, if the server has announced it.
    total: Option<u64>,
}

impl Validator {
    /// `None` if the response cannot be resumed.
    fn new(response: &Response<ReceivedBody>) -> Option<Self> {
        let headers = response.headers();
        let etag = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))?;
        let ranges = headers.get(ACCEPT_RANGES).is_none_or(|ranges| ranges != "none");
        (ranges && response.status() == StatusCode::OK)
            .then(|| Self { etag: etag.clone(), total: response.body().size_hint().exact() })
    }

    /// Checks that a response continues the body at `offset`: RFC 9110, section 15.3.7. `length` is the announced
    /// length of its body. Returns the offset of its end, and the length of the complete body.
    fn check(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        offset: u64,
    ) -> Result<(u64, u64), String> {
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(format!("the server returned {status}"));
        }
        if headers.get(ETAG).is_some_and(|etag| *etag != self.etag) {
            return Err("the ETag has changed".to_owned());
        }
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(parse_content_range);
        let Some((first, last, total)) = range else {
            return Err("the response has no valid Content-Range".to_owned());
        };
        if first != offset {
            return Err(format!("the response starts at byte {first}"));
        }
        let Some(total) = total.or(self.total) else { return Err("the total length is unknown".to_owned()) };
        if self.total.is_some_and(|announced| announced != total) {
            return Err("the total length has changed".to_owned());
        }
        if last >= total || length.is_some_and(|length| length != last - first + 1) {
            return Err("the response contradicts its Content-Range".to_owned());
        }
        Ok((last + 1, total))
    }
}

/// Parses a `Content-Range` such as `bytes 3-5/6` (RFC 9110, section 14.4) to its first byte, its last byte and the total
/// length, which is `None` if the server does not know it: `*`.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    // One past the last byte has to be a number too.
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

/// A response body that is resumed if it ends early, until its announced length has arrived.
pub(crate) struct ResumingBody {
    client: Arc<dyn RangeClient>,
    uri: Uri,
    headers: HeaderMap,
    /// Apply to each range request.
    options: Option<Box<CallOptions>>,
    validator: Validator,
    /// The attempt that returned the current response.
    attempt: PastAttempt,
    offset: u64,
    /// One past the last byte of the current response, if announced.
    end: Option<u64>,
    /// How often the body may be resumed without progress.
    max_resumes: u32,
    /// How often it may still be resumed.
    resumes_left: u32,
    /// The offset at which `resumes_left` was last reset.
    reset_at: u64,
    state: State,
}

enum State {
    Reading(ReceivedBody),
    Fetching(Fetching),
    Ended,
}

impl ResumingBody {
    /// Prepares to resume a response. `None` if it cannot be resumed, or is complete. Call [`reading`](Self::reading)
    /// next.
    pub(crate) fn new<C: RangeClient + 'static>(
        client: &Arc<C>,
        request: &ReplayableRequest<'_>,
        response: &Response<ReceivedBody>,
    ) -> Option<Self> {
        let ReplayableRequest { head, settings, .. } = request;
        let is_whole_get = head.method() == Method::GET && !head.headers().contains_key(RANGE);
        // The range request is processed as well.
        if response.body().is_complete() || !is_whole_get || !request.is_idempotent() {
            return None;
        }
        let validator = Validator::new(response)?;
        let attempt = response.extensions().get::<History>()?.last().clone();
        let max_resumes = settings.policy().count();
        Some(Self {
            client: Arc::clone(client) as _,
            uri: head.uri().clone(),
            headers: head.headers().clone(),
            options: settings.options.clone(),
            attempt,
            offset: 0,
            end: validator.total,
            validator,
            max_resumes,
            resumes_left: max_resumes,
            reset_at: 0,
            state: State::Ended,
        })
    }

    /// Starts with the body of the response.
    pub(crate) fn reading(mut self, body: ReceivedBody) -> Self {
        self.state = State::Reading(body);
        self
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.offset += frame.data_ref().map_or(0, |data| data.len() as u64);
        if self.end.is_some_and(|end| self.offset > end) {
            return self.fail(Error::cannot_resume(self.offset, "the response is longer than its Content-Range"));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether less than the announced length has arrived.
    fn is_incomplete(&self) -> bool {
        self.validator.total.is_some_and(|total| self.offset < total)
    }

    /// Requests the rest of the body, which ended with `error`. Returns that error if there were too many requests.
    fn resume(&mut self, error: Error) -> Result<(), Error> {
        if self.offset - self.reset_at >= PROGRESS {
            (self.resumes_left, self.reset_at) = (self.max_resumes, self.offset);
        }
        let Some(resumes_left) = self.resumes_left.checked_sub(1) else { return Err(error) };
        self.resumes_left = resumes_left;
        let Self { uri, headers, options, validator, attempt, offset, .. } = self;
        let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
        // A fixed target, so that log filters do not depend on the module.
        log::warn!(
            target: "retry_client::resume", offset = *offset, request_id;
            "GET {}: response body incomplete after {offset} bytes: {error}; resuming; id {request_id}",
            WithoutQuery(uri)
        );
        if let Some(Observer(observer)) = &self.client.retry_config().observer {
            attempt.outcome = Outcome::Resumed { kind: error.kind(), message: error.to_string() };
            observer(&AttemptEvent { method: &Method::GET, uri, attempt, error: Some(&error), ended: None });
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        if let Some(options) = options {
            request.extensions_mut().insert(CallOptions::clone(options));
        }
        request.headers_mut().insert(IF_RANGE, validator.etag.clone());
        // Always a valid header value.
        let range = HeaderValue::try_from(format!("bytes={offset}-")).map_err(|_| error)?;
        request.headers_mut().insert(RANGE, range);
        self.state = State::Fetching(Arc::clone(&self.client).fetch(request));
        Ok(())
    }

    fn accept(&mut self, response: Response<ReceivedBody>) -> Result<ReceivedBody, Error> {
        let length = response.body().size_hint().exact();
        let (end, total) = self
            .validator
            .check(response.status(), response.headers(), length, self.offset)
            .map_err(|why| Error::cannot_resume(self.offset, &why))?;
        (self.end, self.validator.total) = (Some(end), Some(total));
        if let Some(history) = response.extensions().get::<History>() {
            self.attempt = history.last().clone();
        }
        Ok(response.into_body())
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for ResumingBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let error = match &mut self.state {
                State::Reading(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    // The trailers of a part are not those of the complete body.
                    Some(Ok(frame)) if frame.is_trailers() && self.is_incomplete() => continue,
                    Some(Ok(frame)) => return self.pass(frame),
                    Some(Err(error)) => error,
                    None if self.is_incomplete() => Error::incomplete_body(self.offset),
                    None => return Poll::Ready(None),
                },
                State::Fetching(response) => {
                    match ready!(response.as_mut().poll(cx)).and_then(|response| self.accept(response)) {
                        Ok(body) => self.state = State::Reading(body),
                        Err(error) => return self.fail(error),
                    }
                    continue;
                }
                State::Ended => return Poll::Ready(None),
            };
            if let Err(error) = self.resume(error) {
                return self.fail(error);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Reading(body) => body.is_end_stream() && !self.is_incomplete(),
            State::Fetching(_) => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let total = self.validator.total;
        total.map_or_else(SizeHint::default, |total| SizeHint::with_exact(total.saturating_sub(self.offset)))
    }
}

impl fmt::Debug for ResumingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumingBody")
            .field("offset", &self.offset)
            .field("resumes_left", &self.resumes_left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_has_to_match() {
        let validator = |total| Validator { etag: HeaderValue::from_static("\"v1\""), total };
        let check = |total, status: u16, headers: &[(&'static str, &'static str)], expected: Result<u64, &str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            let expected = expected.map(|end| (end, 6)).map_err(str::to_owned);
            assert_eq!(validator(total).check(status, &map, None, 3), expected, "{headers:?}");
        };
        let fits = ("content-range", "bytes 3-5/6");
        check(Some(6), 206, &[fits, ("etag", "\"v1\"")], Ok(6));
        check(Some(6), 206, &[fits], Ok(6));
        check(None, 206, &[fits], Ok(6));
        check(None, 206, &[("content-range", "bytes 3-4/6")], Ok(5));
        check(Some(6), 206, &[("content-range", "bytes 3-5/*")], Ok(6));
        check(None, 206, &[("content-range", "bytes 3-5/*")], Err("the total length is unknown"));
        check(Some(6), 200, &[("etag", "\"v1\"")], Err("the server returned 200 OK"));
        check(Some(6), 412, &[], Err("the server returned 412 Precondition Failed"));
        check(Some(6), 206, &[fits, ("etag", "\"v2\"")], Err("the ETag has changed"));
        check(Some(6), 206, &[fits, ("etag", "W/\"v1\"")], Err("the ETag has changed"));
        check(Some(6), 206, &[("content-range", "bytes 0-5/6")], Err("the response starts at byte 0"));
        check(Some(6), 206, &[("content-range", "bytes 3-6/7")], Err("the total length has changed"));
        check(Some(6), 206, &[("content-range", "bytes 3-6/6")], Err("the response contradicts its Content-Range"));
        check(Some(6), 206, &[("content-range", "bytes 3-9/*")], Err("the response contradicts its Content-Range"));
        for nonsense in [
            "",
            "bytes",
            "bytes 3/6",
            "bytes x-5/6",
            "lines 3-5/6",
            "bytes 3-5",
            "bytes 3-5/x",
            "bytes 3-/6",
            "bytes 5-3/6",
            "bytes 3-18446744073709551615/18446744073709551615",
        ] {
            let expected = Err("the response has no valid Content-Range");
            check(Some(6), 206, &[("content-range", nonsense)], expected);
        }
        check(Some(6), 206, &[], Err("the response has no valid Content-Range"));
    }

    #[test]
    fn the_length_has_to_match_the_range() {
        let validator = Validator { etag: HeaderValue::from_static("\"v1\""), total: Some(6) };
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static("bytes 3-4/6"))]);
        let check = |length| validator.check(StatusCode::PARTIAL_CONTENT, &headers, length, 3).is_ok();
        assert!(check(None) && check(Some(2)));
        assert!(!check(Some(1)) && !check(Some(3)));
    }
}
