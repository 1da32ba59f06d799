//! A connection, for one exchange after the other.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode, header::EXPECT};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    ext::on_informational,
};
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    base_url::Target,
    connection::{
        keep_alive,
        pool::Pool,
        stall_timeout::{Activity, Idle},
        tracked_io::Place,
    },
    request::{expect_continue::Consent, replay::RequestBody},
};

/// How long the rest of an exchange may make no progress when its client has no idle timeout.
const REST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a shared connection has for its goodbye once nobody uses it any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection of HTTP/1.1, or one exchange's share of one of HTTP/2.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
    idle: Option<Idle>,
    /// Of a connection that carries one exchange at a time.
    activity: Option<Activity>,
    stage: Stage,
    reused: bool,
    /// Of the exchange under way, if its body waits for it.
    consent: Option<Consent>,
    /// How long the server keeps it without a request; `None` if it does not say.
    keep_alive: Option<Duration>,
    /// Where it goes back to.
    pool: Weak<Pool>,
    /// What drives it; `None` for a share of one, and once another protocol has taken over.
    task: Option<Task>,
}

/// What drives a connection, and its place among those that there may be.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) task: AbortHandle,
    pub(crate) place: Weak<Place>,
}

/// A connection that nobody waits for any more ends at once, whatever it is still reading or writing.
impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(consent) = &self.consent {
            consent.abandon();
        }
        if let Some(Task { task, .. }) = self.task.take().filter(|_| self.stage != Stage::Free) {
            task.abort();
        }
    }
}

#[derive(Debug)]
enum Sender {
    Http1 { sender: http1::SendRequest<RequestBody>, to_proxy: bool },
    Http2(Share),
}

/// One of those who share a connection.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    sender: http2::SendRequest<RequestBody>,
    /// The connection's; an exchange has one of its own.
    activity: Activity,
    /// The same for all.
    whole: Arc<Driver>,
}

/// What drives a shared connection. It says goodbye when the last share is dropped, and may be stuck in that.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        let task = self.0.clone();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                sleep(GOODBYE).await;
                task.abort();
            })),
            Err(_) => task.abort(),
        }
    }
}

impl Share {
    /// The first.
    pub(crate) fn new(sender: http2::SendRequest<RequestBody>, activity: Activity, task: AbortHandle) -> Self {
        Self { sender, activity, whole: Arc::new(Driver(task)) }
    }

    /// Whether an exchange has one like it.
    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.whole) > 1
    }

    /// Whether nothing has come from the server for so long.
    pub(crate) fn is_silent_for(&self, limit: Duration) -> bool {
        self.activity.unheard() >= limit
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    /// A request is on its way.
    Asked,
    /// The head of its answer has come.
    Answered,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Failed(Box<TrySendError<Request<RequestBody>>>),
    /// Nothing moved for so long.
    Silent(Duration),
}

impl Connection {
    /// One that may go back to a pool.
    pub(crate) fn http1(
        sender: http1::SendRequest<RequestBody>,
        to_proxy: bool,
        idle: Option<Idle>,
        activity: Activity,
        task: Task,
        pool: Weak<Pool>,
    ) -> Self {
        let sender = Sender::Http1 { sender, to_proxy };
        Self {
            sender,
            idle,
            activity: Some(activity),
            stage: Stage::Free,
            reused: false,
            consent: None,
            keep_alive: None,
            pool,
            task: Some(task),
        }
    }

    /// A share, of which the pool keeps the whole.
    pub(crate) fn http2(share: Share, idle: Option<Idle>, reused: bool) -> Self {
        let (sender, pool) = (Sender::Http2(share), Weak::new());
        Self {
            sender,
            idle,
            activity: None,
            stage: Stage::Free,
            reused,
            consent: None,
            keep_alive: None,
            pool,
            task: None,
        }
    }

    /// Whether it was there before the exchange, which may find that it was closed meanwhile.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether it could carry the next exchange now.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1 { sender, .. } => sender.is_ready(),
            // Not asked: it is the whole that the pool keeps.
            Sender::Http2(share) => !share.is_closed(),
        }
    }

    pub(crate) fn is_share_of(&self, other: &Share) -> bool {
        matches!(&self.sender, Sender::Http2(share) if Arc::ptr_eq(&share.whole, &other.whole))
    }

    /// When something last moved on it.
    pub(crate) fn last_used(&self) -> Instant {
        self.idle.as_ref().and_then(Idle::last).unwrap_or_else(Instant::now)
    }

    /// How long the server keeps it without a request; `None` if it does not say.
    pub(crate) fn keep_alive(&self) -> Option<Duration> {
        self.keep_alive
    }

    /// Sends a request to the server, and waits for the head of its answer.
    pub(crate) fn exchange(
        &mut self,
        mut request: Request<RequestBody>,
        server: &Target,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered>> + use<'_> {
        if let Some(idle) = &mut self.idle {
            request.body_mut().watch(idle.begin());
        }
        if let Some(activity) = self.activity.as_ref().filter(|_| self.reused) {
            activity.ask_to_look();
        }
        self.stage = Stage::Asked;
        let answer = match &mut self.sender {
            Sender::Http1 { sender, to_proxy } => {
                server.address_http1(&mut request, *to_proxy);
                self.consent = ask_for_consent(&mut request);
                Answer::Http1 { answer: sender.try_send_request(request) }
            }
            Sender::Http2(share) => {
                server.address_http2(&mut request);
                // hyper does not tell of informational responses here.
                request.headers_mut().remove(EXPECT);
                Answer::Http2 { answer: share.sender.try_send_request(request) }
            }
        };
        Exchange { answer, connection: self }
    }

    /// Notes that what was waited for has come.
    pub(crate) fn progress(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.progress();
        }
    }

    /// Ready, with the limit, once nothing has moved for as long as that.
    pub(crate) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(idle) = &mut self.idle else { return Poll::Pending };
        idle.poll_idle(cx).map(|()| idle.timeout())
    }

    /// Gives it back if it is of use to others. Where an answer is still to come it is not: it is closed then.
    pub(crate) fn give_back(mut self: Box<Self>) {
        let Sender::Http1 { sender, .. } = &self.sender else { return };
        let refused = self.consent.take().is_some_and(|consent| consent.end());
        if refused || self.stage == Stage::Asked || sender.is_closed() {
            return;
        }
        if sender.is_ready() {
            return self.put();
        }
        // Something of the exchange is left to do: the rest of the request is to be sent, or of the response to be read.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if poll_fn(|cx| self.poll_rest(cx)).await {
                self.put();
            }
        });
    }

    /// Whether it can carry the next exchange, once that is known: nothing may move for the idle timeout at most.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Sender::Http1 { sender, .. } = &mut self.sender
            && let Poll::Ready(ready) = sender.poll_ready(cx)
        {
            return Poll::Ready(ready.is_ok());
        }
        if self.idle.is_none() {
            self.idle = self.activity.clone().map(|activity| Idle::new(REST_TIMEOUT, activity));
        }
        self.poll_silent(cx).map(|_| false)
    }

    fn put(mut self: Box<Self>) {
        self.stage = Stage::Free;
        self.reused = true;
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self);
        }
    }
}

/// Holds the body of a request back until the server has seen its head, if the request says so.
fn ask_for_consent(request: &mut Request<RequestBody>) -> Option<Consent> {
    // Hardly any request has it: to look at each name is cheaper than to look this one up.
    if !request.headers().keys().any(|name| *name == EXPECT) {
        return None;
    }
    if request.body().is_end_stream() {
        // Only a request with content may expect that.
        request.headers_mut().remove(EXPECT);
        return None;
    }
    let consent = Consent::default();
    request.body_mut().wait_for(consent.clone());
    let told = consent.clone();
    on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            told.give();
        }
    });
    Some(consent)
}

pin_project! {
    /// One exchange, until the head of the answer has come.
    struct Exchange<'a, A, B> {
        #[pin]
        answer: Answer<A, B>,
        connection: &'a mut Connection,
    }
}

pin_project! {
    #[project = AnswerProjection]
    enum Answer<A, B> {
        Http1 { #[pin] answer: A },
        Http2 { #[pin] answer: B },
    }
}

type Answered = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl<A: Future<Output = Answered>, B: Future<Output = Answered>> Future for Exchange<'_, A, B> {
    type Output = Result<Response<Incoming>, Unanswered>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.answer.project() {
            AnswerProjection::Http1 { answer } => answer.poll(cx),
            AnswerProjection::Http2 { answer } => answer.poll(cx),
        };
        match answer {
            Poll::Ready(Ok(response)) => {
                this.connection.stage = Stage::Answered;
                if let Some(activity) = &this.connection.activity {
                    activity.head_came();
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    // It belongs to another protocol from here on, and takes up no place among those of HTTP.
                    let task = this.connection.task.take();
                    if let Some(place) = task.and_then(|task| task.place.upgrade()) {
                        place.leave();
                    }
                }
                if let Some(consent) = &this.connection.consent {
                    consent.responded(response.status());
                }
                this.connection.keep_alive = keep_alive::limit(response.headers());
                this.connection.progress();
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Unanswered::Failed(error.into()))),
            Poll::Pending => this.connection.poll_silent(cx).map(|limit| Err(Unanswered::Silent(limit))),
        }
    }
}
