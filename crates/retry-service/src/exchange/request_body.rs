//! The body of a request, within the limits for one client.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::{
    exchange::{
        unread_body::UnreadBody,
        upload_rate::{ResponseProgress, UploadRate},
    },
    server::{connection_state::UploadGuard, timer::LazyTimer},
};

/// What applies to a request body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyRules {
    /// Maximum size in bytes.
    pub(crate) max_size: Option<u64>,
    /// How long the client may send nothing.
    pub(crate) idle_timeout: Duration,
    /// Minimum rate in bytes per second.
    pub(crate) min_rate: Option<u64>,
    /// Removes trailers that must not be forwarded.
    pub(crate) clean_trailers: fn(&mut HeaderMap),
}

/// The body is larger than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the body is larger than {0} bytes")]
pub(crate) struct BodyTooLarge(pub(crate) u64);

/// The client has stopped sending the body, or sends it too slowly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadTimeout {
    #[error("the client sent nothing of the body for {0:?}")]
    Idle(Duration),
    #[error("the client sent less than {0} bytes of the body per second")]
    Slow(u64),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body that enforces [`BodyRules`].
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` once the end has been read.
    body: Option<Incoming>,
    /// A frame that was read in advance.
    first: Option<Result<Frame<Bytes>, BoxError>>,
    rules: BodyRules,
    /// Bytes that have been read.
    size: u64,
    rate: UploadRate,
    /// Held until the end of the body, which may come after the response.
    upload: Option<UploadGuard>,
    /// Ends the wait for the client.
    timer: LazyTimer,
    /// Receives the body if this is dropped before its end.
    unread: Option<oneshot::Sender<Incoming>>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, rules: BodyRules, upload: UploadGuard, response: ResponseProgress) -> Self {
        Self {
            body: Some(body),
            first: None,
            rules,
            size: 0,
            rate: UploadRate::new(rules.min_rate, rules.idle_timeout, response),
            upload: Some(upload),
            timer: LazyTimer::default(),
            unread: None,
        }
    }

    /// Returns what reads the rest of the body when this is dropped before its end.
    pub(crate) fn unread(&mut self) -> UnreadBody {
        let (unread, dropped) = oneshot::channel();
        self.unread = Some(unread);
        UnreadBody::new(dropped)
    }

    /// Reads the first frame that is not empty, or the end, in advance.
    pub(crate) async fn read_first(&mut self) {
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        loop {
            let first = poll_fn(|cx| self.poll_next(cx)).await;
            if !matches!(&first, Some(Ok(frame)) if is_empty(frame)) {
                self.first = first;
                return;
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            if frame.is_none() || body.is_end_stream() {
                self.body = None;
                self.upload = None;
            }
            return Poll::Ready(frame.map(|frame| self.check(frame?)));
        }
        let limit = self.rules.idle_timeout;
        let Some(due) = self.rate.begin_wait().checked_add(limit) else { return Poll::Pending };
        self.timer.poll_until(due, cx).map(|()| Some(Err(UploadTimeout::Idle(limit).into())))
    }

    fn check(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        if let Some(trailers) = frame.trailers_mut() {
            (self.rules.clean_trailers)(trailers);
            return Ok(frame);
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.size += length as u64;
        if let Some(limit) = self.rules.max_size.filter(|limit| self.size > *limit) {
            return Err(BodyTooLarge(limit).into());
        }
        self.rate.count(length).map_err(UploadTimeout::Slow)?;
        Ok(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_some() {
            // A frame is read in advance only if the length is unknown.
            return SizeHint::new();
        }
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            if let Some(upload) = &self.upload {
                upload.in_flight.connection.abandon_body();
            }
            if let Some(unread) = self.unread.take() {
                // Nothing receives it once the response has ended.
                drop(unread.send(body));
            }
        }
    }
}
