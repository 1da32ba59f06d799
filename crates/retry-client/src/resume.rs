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

use crate::{Body, Client, Error, ResponseBody, event::Place};

/// What to ask for again.
struct Origin {
    uri: Uri,
    headers: HeaderMap,
}

/// Whether a request could be gone on with: not where it asks for a part already, or for something other than a
/// representation.
fn is_for_the_whole(request: &Request<()>) -> bool {
    request.method() == Method::GET && !request.headers().contains_key(RANGE)
}

/// What holds a resumed body to the one that broke off.
struct Anchor {
    /// A strong validator: the same bytes, not just the same meaning.
    etag: HeaderValue,
    /// How long the whole is, where the server said so.
    total: Option<u64>,
}

impl Anchor {
    fn of(response: &Response<ResponseBody>) -> Option<Self> {
        let headers = response.headers();
        let etag = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))?;
        let ranges = headers.get(ACCEPT_RANGES).is_none_or(|ranges| ranges != "none");
        (ranges && response.status() == StatusCode::OK)
            .then(|| Self { etag: etag.clone(), total: response.body().size_hint().exact() })
    }

    /// Whether a response is the rest, from `offset` on, of what broke off; why not otherwise.
    fn check(&self, status: StatusCode, headers: &HeaderMap, offset: u64) -> Result<(), String> {
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(format!("it was answered {status}"));
        }
        if headers.get(ETAG).is_some_and(|etag| *etag != self.etag) {
            return Err("it has changed since".to_owned());
        }
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(parse_content_range);
        match (range, self.total) {
            (Some((from, _)), _) if from != offset => Err(format!("the part sent begins at {from}")),
            (Some((_, Some(now))), Some(total)) if now != total => Err("its length has changed since".to_owned()),
            (Some(_), _) => Ok(()),
            (None, _) => Err("the part sent does not say where it begins".to_owned()),
        }
    }
}

/// The first byte and the whole length (if told) of `bytes 3-5/6`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    if total == "*" { Some((from, None)) } else { Some((from, Some(total.parse().ok()?))) }
}

/// A response body that is gone on with when it breaks off.
pub(crate) struct Resuming {
    client: Client,
    origin: Origin,
    anchor: Anchor,
    offset: u64,
    /// How often it may still be gone on with.
    left: u32,
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
        let Some(anchor) = Anchor::of(&response) else { return response };
        let origin = Origin { uri: request.uri().clone(), headers: request.headers().clone() };
        let (client, left) = (client.clone(), client.retry_count());
        response.map(|body| {
            ResponseBody::resuming(Self { client, origin, anchor, offset: 0, left, state: State::Reading(body) })
        })
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match &mut self.state {
                State::Reading(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        self.offset += frame.data_ref().map_or(0, |data| data.len() as u64);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(Err(error)) => {
                        if let Err(error) = self.go_on(error) {
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

    fn go_on(&mut self, broken: Error) -> Result<(), Error> {
        let Some(left) = self.left.checked_sub(1) else { return Err(broken) };
        self.left = left;
        let Self { client, origin, anchor, offset, .. } = self;
        log::warn!(
            "GET {}: the body broke off after {offset} bytes: {broken}; asking for the rest",
            Place(&origin.uri)
        );
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

    fn accept(&self, rest: Response<ResponseBody>) -> Result<ResponseBody, Error> {
        let refused = |why: String| Error::cannot_resume(self.offset, &why);
        self.anchor.check(rest.status(), rest.headers(), self.offset).map_err(refused)?;
        Ok(rest.into_body())
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.state = State::Failed;
        Poll::Ready(Some(Err(error)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Reading(body) => body.is_end_stream(),
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
        let check = |total, status: u16, headers: &[(&'static str, &'static str)], expected: Result<(), &str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(anchor(total).check(status, &map, 3), expected.map_err(str::to_owned), "{headers:?}");
        };
        let fits = ("content-range", "bytes 3-5/6");
        check(Some(6), 206, &[fits, ("etag", "\"v1\"")], Ok(()));
        check(Some(6), 206, &[fits], Ok(()));
        check(None, 206, &[("content-range", "bytes 3-5/*")], Ok(()));
        check(Some(6), 200, &[("etag", "\"v1\"")], Err("it was answered 200 OK"));
        check(Some(6), 412, &[], Err("it was answered 412 Precondition Failed"));
        check(Some(6), 206, &[fits, ("etag", "\"v2\"")], Err("it has changed since"));
        check(Some(6), 206, &[fits, ("etag", "W/\"v1\"")], Err("it has changed since"));
        check(Some(6), 206, &[("content-range", "bytes 0-5/6")], Err("the part sent begins at 0"));
        check(Some(6), 206, &[("content-range", "bytes 3-6/7")], Err("its length has changed since"));
        for nonsense in ["", "bytes", "bytes 3/6", "bytes x-5/6", "lines 3-5/6", "bytes 3-5", "bytes 3-5/x"] {
            let expected = Err("the part sent does not say where it begins");
            check(Some(6), 206, &[("content-range", nonsense)], expected);
        }
        check(Some(6), 206, &[], Err("the part sent does not say where it begins"));
    }
}
