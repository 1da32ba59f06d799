//! Going on with a response body where it broke off. RFC 9110, section 14.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, IF_RANGE, RANGE},
};
use http_body::{Body as _, Frame, SizeHint};
use retry_core::{Journal, Record};

use crate::{
    client::Client,
    error::Error,
    request::body::Body,
    response::body::ResponseBody,
    retry::attempt_event::{AttemptEvent, Outcome, Place},
};

/// What to ask for again.
struct Origin {
    uri: Uri,
    headers: HeaderMap,
}

impl Origin {
    /// By which other logs know the request, if it has such an id.
    fn request_id(&self) -> &str {
        self.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-")
    }
}

/// Whether a request could be gone on with: not where it asks for a part already, or for something other than a
/// representation.
fn is_for_the_whole(request: &Request<()>) -> bool {
    request.method() == Method::GET && !request.headers().contains_key(RANGE)
}

/// How many bytes have to arrive for a body to be resumed as often again as at its begin. Less could be a server that
/// sends a few bytes on each connection, to be asked for ever.
const PROGRESS: u64 = 64 * 1024;

/// What holds a resumed body to the one that broke off.
struct Anchor {
    /// A strong validator: the same bytes, not just the same meaning.
    etag: HeaderValue,
    /// The length of the whole body, once the server has announced it.
    total: Option<u64>,
}

/// The bytes that one 206 response carries, and the length of the whole they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// One past the last byte.
    end: u64,
    total: u64,
}

impl Anchor {
    fn of(response: &Response<ResponseBody>) -> Option<Self> {
        let headers = response.headers();
        let etag = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))?;
        let ranges = headers.get(ACCEPT_RANGES).is_none_or(|ranges| ranges != "none");
        (ranges && response.status() == StatusCode::OK)
            .then(|| Self { etag: etag.clone(), total: response.body().size_hint().exact() })
    }

    /// Checks that a response continues the body at `offset`: RFC 9110, section 15.3.7. `length` is the length of its
    /// body, if announced.
    fn check(&self, status: StatusCode, headers: &HeaderMap, length: Option<u64>, offset: u64) -> Result<Part, String> {
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(format!("the server returned {status}"));
        }
        if headers.get(ETAG).is_some_and(|etag| *etag != self.etag) {
            return Err("the ETag has changed".to_owned());
        }
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(ContentRange::parse);
        let Some(range) = range else { return Err("the response has no valid Content-Range".to_owned()) };
        if range.first != offset {
            return Err(format!("the response starts at byte {}", range.first));
        }
        let Some(total) = range.total.or(self.total) else {
            return Err("the total length is unknown".to_owned());
        };
        if self.total.is_some_and(|announced| announced != total) {
            return Err("the total length has changed".to_owned());
        }
        if range.last >= total || length.is_some_and(|length| length != range.last - range.first + 1) {
            return Err("the response contradicts its Content-Range".to_owned());
        }
        Ok(Part { end: range.last + 1, total })
    }
}

/// A `Content-Range` such as `bytes 3-5/6`: RFC 9110, section 14.4.
struct ContentRange {
    first: u64,
    last: u64,
    /// `None` if it is not known to the server: `*`.
    total: Option<u64>,
}

impl ContentRange {
    fn parse(value: &str) -> Option<Self> {
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        // The largest number could not be added to.
        if first > last || last == u64::MAX {
            return None;
        }
        Some(Self { first, last, total: if total == "*" { None } else { Some(total.parse().ok()?) } })
    }
}

/// A response body that is resumed when it breaks off, until all that was announced has arrived.
pub(crate) struct Resuming {
    client: Client,
    origin: Origin,
    anchor: Anchor,
    /// The attempt that the response under way is of.
    record: Record,
    offset: u64,
    /// One past the last byte that the response under way may send, if announced.
    end: Option<u64>,
    /// How often it may still be resumed.
    left: u32,
    /// The offset at which `left` was last set to the policy's count.
    renewed: u64,
    state: State,
}

enum State {
    Reading(ResponseBody),
    Continuing(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>),
    Failed,
}

impl Resuming {
    /// Makes a response's body one that resumes, where there is something to hold it to.
    pub(crate) fn wrap(
        client: &Client,
        request: &Request<()>,
        response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        if !is_for_the_whole(request) || response.body().is_whole() {
            return response;
        }
        let record = response.extensions().get::<Journal>().map(|journal| *journal.last());
        let Some((anchor, record)) = Anchor::of(&response).zip(record) else { return response };
        let origin = Origin { uri: request.uri().clone(), headers: request.headers().clone() };
        let (client, left) = (client.clone(), client.retry_count());
        let end = anchor.total;
        response.map(|body| {
            let state = State::Reading(body);
            ResponseBody::resuming(Self { client, origin, anchor, record, offset: 0, end, left, renewed: 0, state })
        })
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match &mut self.state {
                State::Reading(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    // Trailers of a part are not those of the whole.
                    Some(Ok(frame)) if frame.is_trailers() && self.is_short() => {}
                    Some(Ok(frame)) => return self.pass(frame),
                    Some(Err(error)) => {
                        if let Err(error) = self.resume(error) {
                            return self.fail(error);
                        }
                    }
                    None if self.is_short() => {
                        if let Err(error) = self.resume(Error::cut_short(self.offset)) {
                            return self.fail(error);
                        }
                    }
                    None => return Poll::Ready(None),
                },
                State::Continuing(rest) => match ready!(rest.as_mut().poll(cx)).and_then(|rest| self.accept(rest)) {
                    Ok(body) => self.state = State::Reading(body),
                    Err(error) => return self.fail(error),
                },
                State::Failed => return Poll::Ready(None),
            }
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.offset += frame.data_ref().map_or(0, |data| data.len() as u64);
        if self.end.is_some_and(|end| self.offset > end) {
            return self.fail(Error::cannot_resume(self.offset, "the response is longer than its Content-Range"));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether less has arrived than was announced.
    fn is_short(&self) -> bool {
        self.anchor.total.is_some_and(|total| self.offset < total)
    }

    fn resume(&mut self, broken: Error) -> Result<(), Error> {
        if self.offset - self.renewed >= PROGRESS {
            (self.left, self.renewed) = (self.client.retry_count(), self.offset);
        }
        let Some(left) = self.left.checked_sub(1) else { return Err(broken) };
        self.left = left;
        let Self { client, origin, anchor, record, offset, .. } = self;
        // So that it is filtered by this name wherever it is from.
        log::warn!(
            target: "retry_client::resume", offset = *offset, request_id = origin.request_id();
            "GET {}: response body incomplete after {offset} bytes: {broken}; resuming; id {}",
            Place(&origin.uri), origin.request_id()
        );
        if let Some(observer) = &client.config().rules.observer {
            let outcome = Outcome::Resumed(&broken);
            observer(&AttemptEvent { method: &Method::GET, uri: &origin.uri, record, outcome, ended: None });
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = origin.uri.clone();
        *request.headers_mut() = origin.headers.clone();
        request.headers_mut().insert(IF_RANGE, anchor.etag.clone());
        // Digits and a dash are always a valid value.
        let range = HeaderValue::try_from(format!("bytes={offset}-")).map_err(|_| broken)?;
        request.headers_mut().insert(RANGE, range);
        let client = client.clone();
        self.state = State::Continuing(Box::pin(async move { client.stream(request).await }));
        Ok(())
    }

    fn accept(&mut self, rest: Response<ResponseBody>) -> Result<ResponseBody, Error> {
        let length = rest.body().size_hint().exact();
        let part = self
            .anchor
            .check(rest.status(), rest.headers(), length, self.offset)
            .map_err(|why| Error::cannot_resume(self.offset, &why))?;
        self.anchor.total = Some(part.total);
        self.end = Some(part.end);
        if let Some(journal) = rest.extensions().get::<Journal>() {
            self.record = *journal.last();
        }
        Ok(rest.into_body())
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.state = State::Failed;
        Poll::Ready(Some(Err(error)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Reading(body) => body.is_end_stream() && !self.is_short(),
            State::Continuing(_) => false,
            State::Failed => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.anchor.total {
            Some(total) => SizeHint::with_exact(total.saturating_sub(self.offset)),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Resuming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resuming").field("offset", &self.offset).field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_taken_only_where_it_fits() {
        let anchor = |total| Anchor { etag: HeaderValue::from_static("\"v1\""), total };
        let check = |total, status: u16, headers: &[(&'static str, &'static str)], expected: Result<u64, &str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            let expected = expected.map(|end| Part { end, total: 6 }).map_err(str::to_owned);
            assert_eq!(anchor(total).check(status, &map, None, 3), expected, "{headers:?}");
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
    fn a_length_has_to_be_that_of_the_range() {
        let anchor = Anchor { etag: HeaderValue::from_static("\"v1\""), total: Some(6) };
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static("bytes 3-4/6"))]);
        let check = |length| anchor.check(StatusCode::PARTIAL_CONTENT, &headers, length, 3).is_ok();
        assert!(check(None) && check(Some(2)));
        assert!(!check(Some(1)) && !check(Some(3)));
    }
}
