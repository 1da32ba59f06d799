//! A request body that can be sent again.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    connection::stall_timeout::Activity,
    error_chain::BoxError,
    request::{
        body::{Body, Kind},
        buffer_quota::{Held, Memory},
        expect_continue::{Consent, Wait},
        upload_limit::Place,
    },
};

/// How much of what was kept is sent at a time.
const PIECE: usize = 64 * 1024;

/// A request body across attempts.
///
/// A streamed body goes out as it is read, and what was read is kept. The next attempt gets what was
/// kept and then reads on. Past the limit nothing is kept: the attempt under way goes on unharmed, but
/// it was the last.
pub(crate) enum Replay {
    Empty,
    Whole(Bytes),
    Stream(Arc<Mutex<Stream>>),
}

impl Replay {
    pub(crate) fn new(body: Body, limit: usize, memory: &Memory) -> Self {
        match body.0 {
            Kind::Empty => Self::Empty,
            Kind::Whole(bytes) => Self::Whole(bytes),
            Kind::Stream(source) => Self::Stream(Arc::new(Mutex::new(Stream {
                size: source.size_hint(),
                source,
                kept: Vec::new(),
                limit,
                lost: false,
                held: memory.hold(),
                ahead: None,
                trailers: None,
                ended: false,
                place: None,
                turn: 0,
            }))),
        }
    }

    /// The body, if it is read from somewhere.
    pub(crate) fn stream(&self) -> Option<&Mutex<Stream>> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Stream(stream) => Some(stream),
        }
    }

    /// The body for the next attempt. An earlier attempt's body, should it still be about, ends with an error.
    pub(crate) fn attempt(&self) -> RequestBody {
        let source = match self {
            Self::Empty => Source::Empty,
            Self::Whole(bytes) => Source::Whole(bytes.clone()),
            Self::Stream(stream) => {
                let turn = {
                    let mut stream = lock(stream);
                    stream.turn += 1;
                    stream.turn
                };
                Source::Stream { stream: Arc::clone(stream), turn, offset: 0, trailed: false }
            }
        };
        RequestBody { source, activity: None, wait: None }
    }

    /// Whether all that was read is still there to be sent again.
    pub(crate) fn can_repeat(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Stream(stream) => !lock(stream).lost,
        }
    }

    /// Whether it will be, as far as its announced length tells.
    pub(crate) fn fits(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Stream(stream) => lock(stream).fits(),
        }
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Stream(stream) => lock(stream).ended,
        }
    }
}

/// A streamed body and what was kept of it.
pub(crate) struct Stream {
    source: UnsyncBoxBody<Bytes, BoxError>,
    size: SizeHint,
    /// A copy: the pieces themselves may be small parts of large buffers.
    kept: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// How many bytes may be kept.
    limit: usize,
    /// Whether something was read that was not kept.
    lost: bool,
    /// As many bytes as `kept` has memory for.
    held: Held,
    /// Read ahead of the attempt, and not kept.
    ahead: Option<Result<Frame<Bytes>, BoxError>>,
    ended: bool,
    /// Among those that are still coming, once it needs one.
    place: Option<Place>,
    /// The attempt that may read: only the latest.
    turn: u32,
}

impl Stream {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => ready!(Pin::new(&mut self.source).poll_frame(cx)),
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.lose();
                return Poll::Ready(Some(Err(SourceFailed(error).into())));
            }
            None => {
                self.end();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref()
            && !self.keep(data)
        {
            self.lose();
        }
        self.note_end(&frame);
        Poll::Ready(Some(Ok(frame)))
    }

    /// Ready once nothing more can be read and kept.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.ended && self.ahead.is_none() {
            let Some(next) = ready!(Pin::new(&mut self.source).poll_frame(cx)) else {
                self.end();
                break;
            };
            match next {
                Ok(frame) if frame.data_ref().is_none_or(|data| self.keep(data)) => self.note_end(&frame),
                next => self.ahead = Some(next),
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
        self.place = None;
    }

    /// Whether it is still coming, and has no place among those yet.
    pub(crate) fn needs_place(&self) -> bool {
        !self.ended && self.place.is_none()
    }

    /// Holds a place until its end.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = Some(place).filter(|_| !self.ended);
    }

    /// Whether all of it may be kept, as far as its announced length tells.
    fn fits(&self) -> bool {
        self.size.lower() <= self.limit as u64
    }

    /// Keeps a piece if that is possible.
    fn keep(&mut self, data: &Bytes) -> bool {
        let length = self.kept.len() + data.len();
        if self.lost || !self.fits() || length > self.limit {
            return false;
        }
        let capacity = self.kept.capacity();
        if length > capacity {
            // What is announced is made room for at once; otherwise room is doubled.
            let announced = usize::try_from(self.size.lower()).unwrap_or(usize::MAX);
            let wanted = length.max(announced).max((2 * capacity).min(self.limit));
            if !self.held.take(wanted - capacity) {
                return false;
            }
            self.kept.reserve_exact(wanted - self.kept.len());
        }
        self.kept.extend_from_slice(data);
        true
    }

    fn lose(&mut self) {
        self.lost = true;
        self.kept = Vec::new();
        self.held.give_back();
    }
}

/// A poisoned lock means that a caller's body panicked while it was read; the call is failing already.
pub(crate) fn lock(stream: &Mutex<Stream>) -> std::sync::MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The caller's own body failed: no fault of the network, and nothing to repeat.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed: {0}")]
pub(crate) struct SourceFailed(#[source] BoxError);

#[derive(Debug, thiserror::Error)]
#[error("another attempt has taken over the request body")]
struct Superseded;

/// The body of one attempt: what a transport beneath a [`RetryLayer`](crate::RetryLayer) is given to send.
pub struct RequestBody {
    source: Source,
    activity: Option<Activity>,
    /// While the server's consent is waited for.
    wait: Option<Box<Wait>>,
}

impl RequestBody {
    /// Tells of its progress, too.
    pub(crate) fn watch(&mut self, activity: &Activity) {
        self.activity = Some(activity.clone());
    }

    /// Goes out only once the server has seen the head.
    pub(crate) fn wait_for(&mut self, consent: Consent) {
        self.wait = Some(Box::new(Wait::new(consent)));
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

enum Source {
    Empty,
    Whole(Bytes),
    /// From which byte of what was kept, and whether its trailers have been sent.
    Stream {
        stream: Arc<Mutex<Stream>>,
        turn: u32,
        offset: usize,
        trailed: bool,
    },
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(wait) = &mut this.wait {
            if let Err(error) = ready!(wait.poll(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
            this.wait = None;
        }
        let frame = match &mut this.source {
            Source::Empty => None,
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Source::Stream { stream, turn, offset, trailed } => {
                let mut stream = lock(stream);
                if stream.turn != *turn {
                    return Poll::Ready(Some(Err(Superseded.into())));
                }
                let kept = stream.kept.get(*offset..).unwrap_or_default();
                let kept = kept.get(..kept.len().min(PIECE)).unwrap_or_default();
                if !kept.is_empty() {
                    *offset += kept.len();
                    Some(Ok(Frame::data(Bytes::copy_from_slice(kept))))
                } else if stream.ended {
                    // Trailers come right after the last of the data, and once.
                    let trailers = stream.trailers.clone().filter(|_| !std::mem::replace(trailed, true));
                    trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                } else {
                    let polled = stream.poll_source(cx);
                    if polled.is_pending() {
                        // The server waits for us, and we for the caller.
                        this.activity.as_ref().inspect(|activity| activity.pause());
                    }
                    let frame = ready!(polled);
                    *offset = stream.kept.len();
                    *trailed = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
                    frame
                }
            }
        };
        if let Some(activity) = &this.activity {
            activity.part();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // hyper asks when it takes the request up, which on HTTP/2 may be late.
        if let Some(activity) = &self.activity {
            activity.part();
        }
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream { stream, .. } => lock(stream).size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt;

    use std::time::Duration;

    use super::*;
    use crate::request::upload_limit::Uploads;

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

    /// Reads so many frames at most.
    async fn read(mut body: RequestBody, frames: usize) -> (String, bool) {
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
    async fn a_stream_is_replayed_with_its_trailers_wherever_the_attempt_before_stopped() {
        for stop in 0..=4 {
            let replay = Replay::new(streamed(&["ab", "cd", "ef"]), 6, &Memory::new(1000));
            read(replay.attempt(), stop).await;
            assert!(replay.can_repeat());
            assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true), "stopped after {stop} frames");
            assert!(replay.is_read());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_is_sent_first_whether_all_of_it_could_be_kept_or_not() {
        let time = Duration::from_secs(1);
        let uploads = Uploads::new(time, time, 4);
        for (limit, can_repeat) in [(6, true), (5, false), (2, false), (0, false)] {
            let replay = Replay::new(streamed(&["ab", "cd", "ef"]), limit, &Memory::new(1000));
            uploads.read_ahead(replay.stream().unwrap()).await;
            assert!(replay.can_repeat(), "nothing is lost yet");
            assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true), "{limit}");
            assert_eq!(replay.can_repeat(), can_repeat, "{limit}");
        }
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
        let replay = Replay::new(Body::new(body), 100, &Memory::new(1000));
        sender.send_data(Bytes::from("ab")).await.unwrap();
        let begin = tokio::time::Instant::now();
        uploads.read_ahead(replay.stream().unwrap()).await;
        assert_eq!(begin.elapsed(), time, "a sender that waits for the response is not waited for");
        drop(sender);
        assert_eq!(read(replay.attempt(), 1).await.0, "ab");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_still_coming_have_half_of_the_places() {
        let uploads = Uploads::new(Duration::ZERO, Duration::from_secs(3), 3);
        let slow = || {
            let (sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
            (sender, Replay::new(Body::new(body), 100, &Memory::new(1000)))
        };
        let [(first_sender, first), (_sender, second), (_other, third)] = [slow(), slow(), slow()];
        for slow in [&first, &second] {
            uploads.enter(slow.stream().unwrap()).await.unwrap();
        }
        // It has one.
        uploads.enter(second.stream().unwrap()).await.unwrap();
        let error = uploads.enter(third.stream().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 3s");
        let whole = Replay::new(streamed(&[]), 100, &Memory::new(1000));
        uploads.read_ahead(whole.stream().unwrap()).await;
        uploads.enter(whole.stream().unwrap()).await.unwrap();
        // The end of a body frees its place.
        drop(first_sender);
        read(first.attempt(), 9).await;
        uploads.enter(third.stream().unwrap()).await.unwrap();
        drop(second);
        let (_sender, fourth) = slow();
        uploads.enter(fourth.stream().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn small_pieces_of_large_buffers_take_no_more_memory_than_they_count() {
        let memory = Memory::new(1000);
        let buffer = Bytes::from(vec![b'x'; 100_000]);
        let pieces = (0..500).map(|at| Frame::data(buffer.slice(at..=at)));
        let replay = Replay::new(Body::new(Frames(pieces.collect())), 1000, &memory);
        drop(buffer);
        assert_eq!(read(replay.attempt(), 1000).await.0.len(), 500);
        assert!(replay.can_repeat());
        let Replay::Stream(stream) = &replay else { panic!("a stream") };
        let capacity = lock(stream).kept.capacity();
        assert!(capacity < 1000, "{capacity}");
        assert_eq!(memory.left(), 1000 - capacity);
    }

    #[tokio::test]
    async fn past_the_limit_the_first_attempt_goes_on_and_is_the_last() {
        let replay = Replay::new(streamed(&["ab", "cd", "ef"]), 5, &Memory::new(1000));
        assert_eq!(read(replay.attempt(), 9).await, ("abcdef".to_owned(), true));
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn a_body_that_fails_is_not_repeated_and_tells_why() {
        struct Fails;
        impl http_body::Body for Fails {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                Poll::Ready(Some(Err("disk on fire".into())))
            }
        }
        let replay = Replay::new(Body::new(Fails), 100, &Memory::new(1000));
        let error = replay.attempt().frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the request body failed: disk on fire");
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn an_earlier_attempt_cannot_take_data_from_a_later_one() {
        let replay = Replay::new(streamed(&["ab", "cd"]), 100, &Memory::new(1000));
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        let second = replay.attempt();
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(read(second, 9).await.0, "abcd");
    }

    #[tokio::test]
    async fn bytes_are_sent_whole_each_time_with_their_length() {
        let replay = Replay::new(Body::from("abc"), 0, &Memory::new(1000));
        for _ in 0..2 {
            let body = replay.attempt();
            assert_eq!(body.size_hint().exact(), Some(3));
            assert_eq!(read(body, 2).await.0, "abc");
        }
        assert!(Replay::new(Body::from(""), 0, &Memory::new(1000)).attempt().is_end_stream());
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_together_is_bounded_and_given_back() {
        let memory = Memory::new(9);
        let first = Replay::new(streamed(&["abc", "def"]), 100, &memory);
        let second = Replay::new(streamed(&["ghi", "jkl"]), 100, &memory);
        read(first.attempt(), 9).await;
        assert_eq!(memory.left(), 3);
        assert_eq!(read(second.attempt(), 9).await.0, "ghijkl");
        assert!(first.can_repeat() && !second.can_repeat());
        assert_eq!(memory.left(), 3, "what cannot be kept whole is not kept in part");
        drop(first);
        assert_eq!(memory.left(), 9);
    }
}
