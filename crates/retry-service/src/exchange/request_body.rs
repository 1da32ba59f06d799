//! The body of an inbound request, within what one caller may take.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};

use crate::{
    gateway::headers::remove_reserved,
    server::connection_state::{LINGER_BYTES, LINGER_TIME, UploadGuard},
};

/// A body that may stall only so long, and be only so large.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// `None` once its end was read.
    body: Option<Incoming>,
    /// What was read before anybody asked for it.
    first: Option<Result<Frame<Bytes>, BoxError>>,
    left: Option<u64>,
    patience: Duration,
    pace: Pace,
    /// Until its end, as it may outlast the answer.
    upload: Option<UploadGuard>,
    /// Made when the caller has to be waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Gets the body back if it is dropped before its end.
    rest: Option<oneshot::Sender<Incoming>>,
}

/// How fast a body arrives. Only the time counts in which its caller is waited for.
#[derive(Debug)]
struct Pace {
    /// Bytes a second; `None` if any will do.
    least: Option<u64>,
    /// For how long the caller may still be waited for. Each byte earns some.
    credit: Duration,
    /// More than that is not earned, lest a fast beginning pays for a slow end.
    most: Duration,
    waiting_since: Option<Instant>,
    response: Progress,
    /// Whether the response was over before.
    is_rest: bool,
}

/// How far the response to a request is. While it is under way, the caller may have good reasons to send slowly, such as
/// a conversation; before and behind it, all that is waited for is the body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

const UNDER_WAY: u8 = 1;
const OVER: u8 = 2;

impl Progress {
    /// Notes that the response has begun, and that it is over once what this returns is dropped.
    pub(crate) fn begin(self) -> UnderWay {
        self.0.store(UNDER_WAY, Relaxed);
        UnderWay(self)
    }
}

/// A response that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Progress);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.store(OVER, Relaxed);
    }
}

/// How long a body may arrive slowly at first: Apache's `RequestReadTimeout` allows as long.
const GRACE: Duration = Duration::from_secs(20);

/// And behind the response, as nginx's `lingering_timeout` has it.
const REST_GRACE: Duration = Duration::from_secs(5);

impl Pace {
    fn new(least: Option<u64>, silence: Duration, response: Progress) -> Self {
        Self { least, credit: GRACE, most: silence.max(GRACE), waiting_since: None, response, is_rest: false }
    }

    fn begin_wait(&mut self) {
        if self.least.is_some() && self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
        }
    }

    /// Whether it is fast enough, now that so many bytes more have arrived.
    fn is_enough(&mut self, bytes: usize) -> bool {
        let Some(least) = self.least else { return true };
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match self.response.0.load(Relaxed) {
            UNDER_WAY => return true,
            OVER if !self.is_rest => {
                (self.is_rest, self.credit, self.most) = (true, REST_GRACE, REST_GRACE);
                return true;
            }
            _ => {}
        }
        let earned = (bytes as u64).saturating_mul(1_000_000_000) / least.max(1);
        match self.credit.saturating_add(Duration::from_nanos(earned)).checked_sub(waited) {
            Some(credit) => {
                self.credit = credit.min(self.most);
                true
            }
            None => false,
        }
    }
}

/// It is larger than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the body is too large")]
pub(crate) struct TooLarge;

/// The caller has stopped sending it, or sends too slowly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stalled {
    #[error("the caller sent nothing more of the body for {0:?}")]
    Silent(Duration),
    #[error("the caller sent less than {0} bytes of the body a second")]
    Slow(u64),
}

/// What one caller may take with a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes; `None` is any.
    pub(crate) size: Option<u64>,
    /// How long nothing may come.
    pub(crate) silence: Duration,
    /// Bytes a second; `None` is any.
    pub(crate) rate: Option<u64>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Inbound {
    /// The body, and what will be left of it once nobody sends it on any more.
    ///
    /// `response` tells how far the response is.
    pub(crate) fn new(body: Incoming, limits: BodyLimits, upload: UploadGuard, response: Progress) -> (Self, Rest) {
        let BodyLimits { size, silence, rate } = limits;
        let pace = Pace::new(rate, silence, response);
        let (rest, dropped) = oneshot::channel();
        let inbound = Self {
            body: Some(body),
            first: None,
            left: size,
            patience: silence,
            pace,
            upload: Some(upload),
            waiting: None,
            rest: Some(rest),
        };
        (inbound, Rest { dropped, body: None, bytes: LINGER_BYTES, waiting: None })
    }

    /// Reads ahead of whoever sends it on until there is something to send, or the end.
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
            self.waiting = None;
            if frame.is_none() || body.is_end_stream() {
                self.body = None;
                self.upload = None;
            }
            return Poll::Ready(frame.map(|frame| self.count(frame?)));
        }
        self.pace.begin_wait();
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(Stalled::Silent(patience).into())))
    }

    /// Counts a frame; of trailers, what only the gateway may say is left out.
    fn count(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        if let Some(trailers) = frame.trailers_mut() {
            remove_reserved(trailers);
            return Ok(frame);
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length as u64).ok_or(TooLarge)?;
        }
        let least = self.pace.least;
        match least.filter(|_| !self.pace.is_enough(length)) {
            Some(least) => Err(Stalled::Slow(least).into()),
            None => Ok(frame),
        }
    }
}

impl Body for Inbound {
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
        let mut hint = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if self.first.is_some() {
            // It is read ahead only where the length is not known.
            hint = SizeHint::new();
        }
        hint
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            if let Some(upload) = &self.upload {
                upload.connection().abandon_body();
            }
            if let Some(rest) = self.rest.take() {
                // Nobody may want it.
                drop(rest.send(body));
            }
        }
    }
}

/// What is left of a body when it is not sent on any more: the upstream had enough of it, or the end alone is missing.
///
/// It is read to its end before the response ends. An HTTP/2 caller that is still sending would get a reset of the
/// stream behind the response, and some take that for a failure of the whole.
#[derive(Debug)]
pub(crate) struct Rest {
    dropped: oneshot::Receiver<Incoming>,
    body: Option<Incoming>,
    bytes: usize,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Rest {
    /// Ready once all was read, or as much as it is worth. At once while the body is still sent on.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.is_none() {
            self.body = self.dropped.try_recv().ok();
        }
        let Some(body) = &mut self.body else { return Poll::Ready(()) };
        while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            let Some(Ok(frame)) = frame else { return Poll::Ready(()) };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match self.bytes.checked_sub(length) {
                Some(left) if !body.is_end_stream() => self.bytes = left,
                _ => return Poll::Ready(()),
            }
        }
        ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME))).as_mut().poll(cx));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_time_counts_in_which_the_caller_is_waited_for() {
        let new = || Pace::new(Some(500), GRACE, Progress::default());
        // A byte a second.
        let drip = async |pace: &mut Pace| {
            for second in 0..120 {
                pace.begin_wait();
                sleep(Duration::from_secs(1)).await;
                if !pace.is_enough(1) {
                    return Some(second);
                }
            }
            None
        };
        assert_eq!(drip(&mut new()).await, Some(20));
        assert_eq!(drip(&mut Pace::new(None, GRACE, Progress::default())).await, None);
        // A fast beginning pays for no more than a silence of the length that is allowed.
        for (silence, second) in [(GRACE, 20), (Duration::from_secs(60), 60)] {
            let mut pace = Pace::new(Some(500), silence, Progress::default());
            assert!(pace.is_enough(1_000_000));
            assert_eq!(drip(&mut pace).await, Some(second));
        }
        let mut pace = new();
        let response = pace.response.clone().begin();
        assert_eq!(drip(&mut pace).await, None);
        // The first byte behind the response begins anew.
        drop(response);
        assert_eq!(drip(&mut pace).await, Some(6));
        // The upstream is slow, not the caller.
        let mut pace = new();
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            assert!(pace.is_enough(1));
        }
        let mut pace = new();
        for _ in 0..60 {
            pace.begin_wait();
            sleep(Duration::from_secs(1)).await;
            assert!(pace.is_enough(500));
        }
    }
}
