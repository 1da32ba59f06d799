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
    BoxError,
    body::{Body, Kind},
    expect_continue::{Consent, Wait},
    idle::Activity,
    memory::{Held, Memory},
};

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
                room: Some(limit),
                held: memory.hold(),
                trailers: None,
                ended: false,
                turn: 0,
            }))),
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
                Source::Stream { stream: Arc::clone(stream), turn, next: 0 }
            }
        };
        RequestBody { source, activity: None, wait: None }
    }

    /// Whether all that was read is still there to be sent again.
    pub(crate) fn can_repeat(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Stream(stream) => lock(stream).room.is_some(),
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
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Bytes that may still be kept; none once something was lost.
    room: Option<usize>,
    held: Held,
    ended: bool,
    /// The attempt that may read: only the latest.
    turn: u32,
}

impl Stream {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.lose();
                return Poll::Ready(Some(Err(SourceFailed(error).into())));
            }
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        match frame.data_ref() {
            Some(data) => self.keep(data.clone()),
            None => self.trailers = frame.trailers_ref().cloned(),
        }
        self.ended = frame.is_trailers() || self.source.is_end_stream();
        Poll::Ready(Some(Ok(frame)))
    }

    fn keep(&mut self, data: Bytes) {
        let Some(room) = self.room else { return };
        match room.checked_sub(data.len()) {
            Some(room) if self.held.take(data.len()) => {
                self.room = Some(room);
                self.kept.push(data);
            }
            _ => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.room = None;
        self.kept = Vec::new();
        self.held.give_back();
    }
}

/// A poisoned lock means that a caller's body panicked while it was read; the call is failing already.
fn lock(stream: &Mutex<Stream>) -> std::sync::MutexGuard<'_, Stream> {
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
    Stream { stream: Arc<Mutex<Stream>>, turn: u32, next: usize },
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
            Source::Stream { stream, turn, next } => {
                let mut stream = lock(stream);
                if stream.turn != *turn {
                    return Poll::Ready(Some(Err(Superseded.into())));
                }
                let position = *next;
                *next += 1;
                match stream.kept.get(position) {
                    Some(kept) => Some(Ok(Frame::data(kept.clone()))),
                    None if stream.ended => {
                        // Trailers come right after the last of the data, and once.
                        let trailers = stream.trailers.clone().filter(|_| position == stream.kept.len());
                        trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                    }
                    None => {
                        let polled = stream.poll_source(cx);
                        if polled.is_pending() {
                            *next = position;
                            // The server waits for us, and we for the caller.
                            this.activity.as_ref().inspect(|activity| activity.pause());
                        }
                        ready!(polled)
                    }
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

    use super::*;

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
