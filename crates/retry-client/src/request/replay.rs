//! A request body that can be sent again.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    activity::{Activity, UploadGuard},
    error_chain::BoxError,
    lock::lock,
    request::{
        body::{Body, Stream},
        buffer_quota::{BufferQuota, Reservation},
        expect_continue::{ContinueSignal, WaitForContinue},
        replay_buffer::ReplayBuffer,
    },
};

/// The largest frame that is sent from the buffer.
const FRAME_SIZE: usize = 64 * 1024;

/// A request body for several attempts.
///
/// A stream is sent as it is read, and buffered. The next attempt sends what was buffered and then reads on. A stream
/// that exceeds the limit is no longer buffered: the current attempt continues, but there is no other.
pub(crate) enum ReplayBody {
    Bytes(Bytes),
    Stream(Arc<Mutex<StreamBuffer>>),
}

impl ReplayBody {
    pub(crate) fn new(body: Body, limit: usize, quota: &BufferQuota) -> Self {
        match body.into_bytes() {
            Ok(bytes) => Self::Bytes(bytes),
            Err(source) => Self::Stream(Arc::new(Mutex::new(StreamBuffer {
                size: source.size_hint(),
                source,
                buffer: ReplayBuffer::default(),
                trailers: None,
                limit,
                overflowed: false,
                reservation: quota.reserve_none(),
                prefetched: None,
                ended: false,
                permit: None,
                reader: 0,
            }))),
        }
    }

    /// Returns the stream, if the body is one.
    pub(crate) fn stream(&self) -> Option<&Mutex<StreamBuffer>> {
        match self {
            Self::Bytes(_) => None,
            Self::Stream(stream) => Some(stream),
        }
    }

    /// Returns the body for the next attempt. From then on, the body of an earlier attempt fails if it is read, unless
    /// [everything is buffered](Self::is_buffered).
    pub(crate) fn attempt(&self) -> AttemptBody {
        let source = match self {
            Self::Bytes(bytes) => Source::Bytes(bytes.clone()),
            Self::Stream(stream) => {
                let reader = {
                    let mut stream = lock(stream);
                    stream.reader += 1;
                    stream.reader
                };
                Source::Stream { stream: Arc::clone(stream), reader, offset: 0, trailers_sent: false }
            }
        };
        AttemptBody { source, activity: None, continue_wait: None, _upload: None }
    }

    /// Ends the current attempt before another one: its body fails if it is read on, unless everything is buffered. Returns
    /// whether everything that was read can be sent again.
    pub(crate) fn end_attempt(&self) -> bool {
        let Self::Stream(stream) = self else { return true };
        let mut stream = lock(stream);
        stream.reader += 1;
        !stream.overflowed
    }

    /// Whether everything that was read can be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        self.stream().is_none_or(|stream| !lock(stream).overflowed)
    }

    /// Whether several attempts can send it at the same time.
    pub(crate) fn is_buffered(&self) -> bool {
        self.stream().is_none_or(|stream| lock(stream).is_buffered())
    }

    /// Whether it will be replayable when it is complete, according to its announced length.
    pub(crate) fn fits(&self) -> bool {
        self.stream().is_none_or(|stream| lock(stream).fits())
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_fully_read(&self) -> bool {
        self.stream().is_none_or(|stream| lock(stream).ended)
    }
}

/// A streamed body, and the buffer of what was read.
pub(crate) struct StreamBuffer {
    source: Stream,
    size: SizeHint,
    buffer: ReplayBuffer,
    trailers: Option<HeaderMap>,
    /// The maximum size of the buffer.
    limit: usize,
    /// Whether something was read that could not be buffered.
    overflowed: bool,
    /// As many bytes as the buffer's capacity.
    reservation: Reservation,
    /// Read before there was a connection, and not buffered.
    prefetched: Option<Result<Frame<Bytes>, BoxError>>,
    ended: bool,
    /// Limits the number of incomplete uploads that have a connection.
    permit: Option<OwnedSemaphorePermit>,
    /// The number of the attempt that may read: the latest.
    reader: u32,
}

impl StreamBuffer {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match self.prefetched.take() {
            Some(prefetched) => Some(prefetched),
            None => ready!(Pin::new(&mut self.source).poll_frame(cx)),
        };
        Poll::Ready(match next {
            Some(Ok(frame)) => {
                if frame.data_ref().is_some_and(|data| !self.append(data)) {
                    self.drop_buffer();
                }
                self.note_end(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.drop_buffer();
                Some(Err(SourceError(error).into()))
            }
            None => {
                self.end();
                None
            }
        })
    }

    /// Ready when nothing more can be read and buffered.
    pub(crate) fn poll_prefetch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.ended && self.prefetched.is_none() {
            match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                Some(Ok(frame)) if frame.data_ref().is_none_or(|data| self.append(data)) => self.note_end(&frame),
                Some(next) => self.prefetched = Some(next),
                None => self.end(),
            }
        }
        Poll::Ready(())
    }

    fn note_end(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        if frame.is_trailers() || self.source.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.permit = None;
    }

    /// Whether the body is incomplete and has no permit yet.
    pub(crate) fn needs_permit(&self) -> bool {
        !self.ended && self.permit.is_none()
    }

    /// Holds the permit until the body is complete.
    pub(crate) fn hold_permit(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit).filter(|_| !self.ended);
    }

    pub(crate) fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Whether the body may be buffered to its end, according to its announced length.
    fn fits(&self) -> bool {
        self.size.lower() <= self.limit as u64
    }

    /// Whether the buffer has the complete body.
    fn is_buffered(&self) -> bool {
        self.ended && !self.overflowed
    }

    /// Buffers `data`, and returns whether that was possible.
    fn append(&mut self, data: &Bytes) -> bool {
        let length = self.buffer.len() + data.len();
        if self.overflowed || !self.fits() || length > self.limit {
            return false;
        }
        let mut capacity = self.buffer.capacity();
        if length > capacity {
            // Allocates the announced length at once, and doubles otherwise.
            let announced = usize::try_from(self.size.lower()).unwrap_or(usize::MAX);
            let wanted = length.max(announced).max((2 * capacity).min(self.limit));
            if !self.reservation.grow(wanted - capacity) {
                return false;
            }
            capacity = wanted;
        }
        self.buffer.append(data, capacity);
        true
    }

    fn drop_buffer(&mut self) {
        self.overflowed = true;
        self.buffer = ReplayBuffer::default();
        self.reservation.release();
    }
}

/// The error of a stream that was passed as request body. It is permanent.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed: {0}")]
pub(crate) struct SourceError(#[source] BoxError);

#[derive(Debug, thiserror::Error)]
#[error("a later attempt reads the request body")]
struct Superseded;

/// The request body of one attempt.
pub(crate) struct AttemptBody {
    source: Source,
    activity: Option<Activity>,
    /// `Some` until the server asks for the body.
    continue_wait: Option<WaitForContinue>,
    _upload: Option<UploadGuard>,
}

impl AttemptBody {
    /// Converts it for a service that does not know this type.
    pub(crate) fn into_body(self) -> Body {
        match self.source {
            Source::Bytes(bytes) => bytes.into(),
            Source::Stream { .. } => Body::new(self),
        }
    }

    /// Holds the guard until hyper has read the body.
    pub(crate) fn hold(&mut self, upload: UploadGuard) {
        self._upload = Some(upload);
    }

    /// Records progress of the body in `activity`.
    pub(crate) fn track(&mut self, activity: &Activity) {
        self.activity = Some(activity.clone());
    }

    /// Delays the body until the server asks for it.
    pub(crate) fn wait_for(&mut self, signal: &ContinueSignal) {
        self.continue_wait = Some(signal.wait());
    }
}

impl fmt::Debug for AttemptBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptBody")
    }
}

enum Source {
    Bytes(Bytes),
    Stream {
        stream: Arc<Mutex<StreamBuffer>>,
        reader: u32,
        /// How much of the buffer was sent.
        offset: usize,
        trailers_sent: bool,
    },
}

impl http_body::Body for AttemptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(wait) = &mut this.continue_wait {
            if let Err(error) = ready!(wait.as_mut().poll(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
            this.continue_wait = None;
        }
        let frame = match &mut this.source {
            Source::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Source::Stream { stream, reader, offset, trailers_sent } => {
                let mut stream = lock(stream);
                if stream.reader != *reader && !stream.is_buffered() {
                    return Poll::Ready(Some(Err(Superseded.into())));
                }
                if let Some(unsent) = stream.buffer.read(*offset, FRAME_SIZE) {
                    *offset += unsent.len();
                    Some(Ok(Frame::data(unsent)))
                } else if stream.ended {
                    let trailers = stream.trailers.clone().filter(|_| !std::mem::replace(trailers_sent, true));
                    trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                } else {
                    let polled = stream.poll_source(cx);
                    if polled.is_pending() {
                        // The server waits for the client, which waits for the stream.
                        this.activity.as_ref().inspect(|activity| activity.pause());
                    }
                    let frame = ready!(polled);
                    *offset = stream.buffer.len();
                    *trailers_sent = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
                    frame
                }
            }
        };
        if let Some(activity) = &this.activity {
            activity.request_progress();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // hyper calls this when it starts to send the request, which over HTTP/2 may be long after the exchange began.
        if let Some(activity) = &self.activity {
            activity.request_progress();
        }
        match &self.source {
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream { stream, .. } => lock(stream).size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use http_body_util::BodyExt;

    use super::*;
    use crate::connection::upload_limit::UploadLimit;

    /// A body of these parts, with a trailer.
    fn streamed(parts: &[&'static str]) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", http::HeaderValue::from_static("x"));
        let frames = parts.iter().map(|part| Frame::data(Bytes::from_static(part.as_bytes())));
        Body::new(Frames(frames.chain([Frame::trailers(trailers)]).collect()))
    }

    struct Frames(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    /// Reads at most this many frames.
    async fn read(mut body: AttemptBody, frames: usize) -> (String, bool) {
        let (mut text, mut trailers) = (String::new(), false);
        for _ in 0..frames {
            match body.frame().await {
                Some(Ok(frame)) if frame.is_trailers() => trailers = true,
                Some(Ok(frame)) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Some(Err(error)) => panic!("{error}"),
                None => break,
            }
        }
        (text, trailers)
    }

    #[tokio::test]
    async fn a_stream_is_replayed_with_its_trailers_wherever_the_previous_attempt_stopped() {
        for stop in 0..=4 {
            let replay = ReplayBody::new(streamed(&["ab", "cd", "ef"]), 6, &BufferQuota::new(1000));
            read(replay.attempt(), stop).await;
            assert!(replay.is_replayable());
            assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true), "stopped after {stop} frames");
            assert!(replay.is_fully_read());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn prefetched_data_is_sent_first_even_if_it_could_not_all_be_buffered() {
        let time = Duration::from_secs(1);
        let limit = UploadLimit::new(time, time, 4);
        for (bytes, is_replayable) in [(6, true), (5, false), (2, false), (0, false)] {
            let replay = ReplayBody::new(streamed(&["ab", "cd", "ef"]), bytes, &BufferQuota::new(1000));
            limit.prefetch(replay.stream().unwrap()).await;
            assert!(replay.is_replayable(), "nothing has overflowed yet");
            assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true), "{bytes}");
            assert_eq!(replay.is_replayable(), is_replayable, "{bytes}");
        }
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
        let replay = ReplayBody::new(Body::new(body), 100, &BufferQuota::new(1000));
        sender.send_data(Bytes::from("ab")).await.unwrap();
        let begin = tokio::time::Instant::now();
        limit.prefetch(replay.stream().unwrap()).await;
        assert_eq!(begin.elapsed(), time, "prefetching ends after its time");
        drop(sender);
        assert_eq!(read(replay.attempt(), 1).await.0, "ab");
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_uploads_take_at_most_half_of_the_connections() {
        let limit = UploadLimit::new(Duration::ZERO, Duration::from_secs(3), 3);
        let slow = || {
            let (sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
            (sender, ReplayBody::new(Body::new(body), 100, &BufferQuota::new(1000)))
        };
        let [(first_sender, first), (_sender, second), (_other, third)] = [slow(), slow(), slow()];
        for slow in [&first, &second] {
            limit.acquire(slow.stream().unwrap()).await.unwrap();
        }
        // It has a permit already.
        limit.acquire(second.stream().unwrap()).await.unwrap();
        let error = limit.acquire(third.stream().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 3s");
        let complete = ReplayBody::new(streamed(&[]), 100, &BufferQuota::new(1000));
        limit.prefetch(complete.stream().unwrap()).await;
        limit.acquire(complete.stream().unwrap()).await.unwrap();
        // The end of a body releases its permit.
        drop(first_sender);
        read(first.attempt(), 9).await;
        limit.acquire(third.stream().unwrap()).await.unwrap();
        drop(second);
        let (_sender, fourth) = slow();
        limit.acquire(fourth.stream().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn small_pieces_of_large_buffers_take_no_more_memory_than_their_length() {
        let quota = BufferQuota::new(1000);
        let buffer = Bytes::from(vec![b'x'; 100_000]);
        let pieces = (0..500).map(|at| Frame::data(buffer.slice(at..=at)));
        let replay = ReplayBody::new(Body::new(Frames(pieces.collect())), 1000, &quota);
        drop(buffer);
        assert_eq!(read(replay.attempt(), 1000).await.0.len(), 500);
        assert!(replay.is_replayable());
        let ReplayBody::Stream(stream) = &replay else { panic!("a stream") };
        let capacity = lock(stream).buffer.capacity();
        assert!(capacity < 1000, "{capacity}");
        assert_eq!(quota.available(), 1000 - capacity);
    }

    #[tokio::test]
    async fn a_stream_beyond_the_limit_is_sent_once() {
        let replay = ReplayBody::new(streamed(&["ab", "cd", "ef"]), 5, &BufferQuota::new(1000));
        assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true));
        assert!(!replay.is_replayable());
    }

    #[tokio::test]
    async fn a_body_that_fails_is_not_repeated() {
        struct Fails;
        impl http_body::Body for Fails {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                Poll::Ready(Some(Err("disk on fire".into())))
            }
        }
        let replay = ReplayBody::new(Body::new(Fails), 100, &BufferQuota::new(1000));
        let error = replay.attempt().frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the request body failed: disk on fire");
        assert!(!replay.is_replayable());
    }

    #[tokio::test]
    async fn an_earlier_attempt_cannot_read_what_a_later_one_needs() {
        let replay = ReplayBody::new(streamed(&["ab", "cd"]), 100, &BufferQuota::new(1000));
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        let second = replay.attempt();
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(read(second, 9).await.0, "abcd");
    }

    #[tokio::test]
    async fn an_attempt_that_has_ended_reads_nothing_that_could_not_be_buffered() {
        let replay = ReplayBody::new(streamed(&["ab", "cd"]), 3, &BufferQuota::new(1000));
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        assert!(replay.end_attempt());
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(read(replay.attempt(), 9).await.0, "abcd");
        assert!(!replay.end_attempt(), "it was longer than the buffer");
        let complete = ReplayBody::new(streamed(&["ab"]), 3, &BufferQuota::new(1000));
        let (mut first, second) = (complete.attempt(), complete.attempt());
        read(second, 9).await;
        assert!(complete.end_attempt());
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "ab", "it is buffered completely");
    }

    #[tokio::test]
    async fn several_attempts_can_read_what_is_completely_buffered() {
        let replay = ReplayBody::new(streamed(&["ab", "cd"]), 100, &BufferQuota::new(1000));
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        assert!(!replay.is_buffered());
        read(replay.attempt(), 9).await;
        assert!(replay.is_buffered());
        let mut second = replay.attempt();
        second.frame().await.unwrap().unwrap();
        assert_eq!(read(replay.attempt(), 9).await, ("abcd".to_owned(), true));
        assert_eq!(read(first, 9).await, ("cd".to_owned(), true));
        assert_eq!(read(second, 9).await, ("cd".to_owned(), true));
    }

    #[tokio::test]
    async fn bytes_are_sent_completely_each_time_with_their_length() {
        let replay = ReplayBody::new(Body::from("abc"), 0, &BufferQuota::new(1000));
        for _ in 0..2 {
            let body = replay.attempt();
            assert_eq!(body.size_hint().exact(), Some(3));
            assert_eq!(read(body, 2).await.0, "abc");
        }
        assert!(ReplayBody::new(Body::from(""), 0, &BufferQuota::new(1000)).attempt().is_end_stream());
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_together_is_limited_and_released() {
        let quota = BufferQuota::new(9);
        let first = ReplayBody::new(streamed(&["abc", "def"]), 100, &quota);
        let second = ReplayBody::new(streamed(&["ghi", "jkl"]), 100, &quota);
        read(first.attempt(), 9).await;
        assert_eq!(quota.available(), 3);
        assert_eq!(read(second.attempt(), 9).await.0, "ghijkl");
        assert!(first.is_replayable() && !second.is_replayable());
        assert_eq!(quota.available(), 3, "a body that does not fit is not buffered in part");
        drop(first);
        assert_eq!(quota.available(), 9);
    }
}
