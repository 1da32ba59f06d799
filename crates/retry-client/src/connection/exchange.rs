//! A connection, and the exchange on it: a request is sent, and the head of the response is received.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode, header::EXPECT};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
    ext::on_informational,
};
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    activity::Activity,
    base_url::BaseUrl,
    connection::{
        driver::Driver, http2_handle::Http2Handle, keep_alive, stall_timeout::StallTimeout,
        tracked_io::ConnectionPermit,
    },
    lock::lock,
    request::{expect_continue::ContinueSignal, replay::AttemptBody},
};

/// The stall timeout for the remainder of an exchange whose response was read, for clients without a timeout.
const REMAINDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes connections back when they can be reused.
pub(crate) trait ReturnConnection: Send + Sync {
    fn return_connection(&self, connection: Box<Connection>);
}

/// An HTTP/1.1 connection, or one exchange on an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Connection {
    protocol: Protocol,
    stall_timeout: Option<StallTimeout>,
    state: State,
    /// Whether the connection carried an exchange before. The server may have closed it since.
    pub(crate) reused: bool,
    /// `Some` if the current request has `Expect: 100-continue`.
    continue_signal: Option<ContinueSignal>,
    /// How long the server keeps the connection open while it is idle. `None` if it does not say.
    pub(crate) keep_alive: Option<Duration>,
    /// When it carries no further exchange. `None` if never.
    pub(crate) retires: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum Protocol {
    Http1(Http1),
    Http2(Http2Handle),
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    /// Dropped before the driver, which then shuts the connection down.
    pub(crate) sender: http1::SendRequest<AttemptBody>,
    pub(crate) driver: Driver,
    pub(crate) to_proxy: bool,
    pub(crate) activity: Activity,
    pub(crate) permit: Weak<ConnectionPermit>,
    pub(crate) pool: Weak<dyn ReturnConnection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A request was sent.
    AwaitingHead,
    /// The head of the response has arrived.
    ReadingBody,
    /// Another protocol has taken over.
    Upgraded,
}

/// Why an exchange has no response.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    Failed(Box<TrySendError<Request<AttemptBody>>>),
    /// The stall timeout, of this length, elapsed.
    Stalled(Duration),
}

/// A connection that is dropped during an exchange is closed at once, whatever it is still reading or writing.
impl Drop for Connection {
    fn drop(&mut self) {
        let Protocol::Http1(http1) = &mut self.protocol else { return };
        if let Some(signal) = &self.continue_signal {
            signal.cancel();
        }
        if matches!(self.state, State::AwaitingHead | State::ReadingBody) {
            http1.driver.abort();
        }
    }
}

impl Connection {
    pub(crate) fn new(protocol: Protocol, stall_timeout: Option<StallTimeout>, reused: bool) -> Self {
        let (state, continue_signal, keep_alive, retires) = (State::Idle, None, None, None);
        Self { protocol, stall_timeout, state, reused, continue_signal, keep_alive, retires }
    }

    /// Whether an HTTP/1.1 connection can carry another exchange now.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(http1) if http1.sender.is_ready())
    }

    /// Whether this is an exchange on the connection of `handle`.
    pub(crate) fn is_on(&self, handle: &Http2Handle) -> bool {
        matches!(&self.protocol, Protocol::Http2(own) if own.is_same_connection(handle))
    }

    /// Returns the time of the last progress.
    pub(crate) fn last_used(&self) -> Instant {
        self.stall_timeout.as_ref().and_then(StallTimeout::last_progress).unwrap_or_else(Instant::now)
    }

    /// Sends a request, and waits for the head of its response.
    pub(crate) fn exchange(
        &mut self,
        mut request: Request<AttemptBody>,
        base_url: &BaseUrl,
    ) -> impl Future<Output = Result<Response<Incoming>, ExchangeError>> + use<'_> {
        if let Some(timeout) = &mut self.stall_timeout {
            request.body_mut().track(timeout.start_exchange());
        }
        self.state = State::AwaitingHead;
        let response = match &mut self.protocol {
            Protocol::Http1(http1) => {
                if self.reused {
                    http1.activity.request_peek();
                }
                base_url.address_http1(&mut request, http1.to_proxy);
                if !request.body().is_end_stream() {
                    request.body_mut().hold(http1.activity.begin_upload());
                }
                self.continue_signal = delay_body(&mut request);
                PendingResponse::Http1 { response: http1.sender.try_send_request(request) }
            }
            Protocol::Http2(handle) => {
                base_url.address_http2(&mut request);
                // hyper does not report informational responses over HTTP/2.
                request.headers_mut().remove(EXPECT);
                PendingResponse::Http2 { response: handle.sender.try_send_request(request) }
            }
        };
        Exchange { response, connection: self }
    }

    fn head_received(&mut self, response: &Response<Incoming>) {
        self.state = State::ReadingBody;
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.activity.head_received();
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                self.state = State::Upgraded;
                http1.driver.spawn();
                // The limit on connections is for HTTP only.
                if let Some(permit) = http1.permit.upgrade() {
                    lock(&permit).take();
                }
            }
            if let Some(signal) = &self.continue_signal {
                signal.response(response.status());
            }
            if http1.activity.is_sending() {
                // The server may send no more before it has received more, while nobody reads the response.
                http1.driver.spawn();
            }
            self.keep_alive = keep_alive::limit(response.headers());
        }
        self.stop_waiting();
    }

    /// Notes that what was waited for has arrived.
    pub(crate) fn stop_waiting(&mut self) {
        if let Some(timeout) = &mut self.stall_timeout {
            timeout.stop_waiting();
        }
    }

    /// Polls a part of the response, and the connection that receives it.
    pub(crate) fn poll_response<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.driver.poll(cx, poll),
            Protocol::Http2(_) => poll(cx),
        }
    }

    /// Ready when the stall timeout has elapsed, with its length.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(timeout) = &mut self.stall_timeout else { return Poll::Pending };
        timeout.poll_stalled(cx)
    }

    /// Returns the connection to its pool when it can be reused. Otherwise closes it, for example if its response has
    /// not arrived.
    pub(crate) fn release(mut self: Box<Self>) {
        let Protocol::Http1(http1) = &mut self.protocol else { return };
        let body_rejected = self.continue_signal.take().is_some_and(|signal| signal.response_read());
        if body_rejected || self.state == State::AwaitingHead || http1.sender.is_closed() {
            return;
        }
        if http1.sender.is_ready() {
            return self.return_to_pool();
        }
        // The rest of the request has yet to be sent, or the rest of the response to be read.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut timeout = StallTimeout::new(REMAINDER_TIMEOUT, http1.activity.clone());
        runtime.spawn(async move {
            if poll_fn(|cx| self.poll_reusable(&mut timeout, cx)).await {
                self.return_to_pool();
            }
        });
    }

    /// Ready when the exchange is complete or has stalled, with whether the connection can be reused. `timeout` is for
    /// clients without one.
    fn poll_reusable(&mut self, timeout: &mut StallTimeout, cx: &mut Context<'_>) -> Poll<bool> {
        let Protocol::Http1(http1) = &mut self.protocol else { return Poll::Ready(false) };
        if let Poll::Ready(ready) = http1.driver.poll(cx, |cx| http1.sender.poll_ready(cx)) {
            return Poll::Ready(ready.is_ok());
        }
        self.stall_timeout.as_mut().unwrap_or(timeout).poll_stalled(cx).map(|_| false)
    }

    fn return_to_pool(mut self: Box<Self>) {
        self.state = State::Idle;
        self.reused = true;
        let Protocol::Http1(http1) = &mut self.protocol else { return };
        http1.driver.detach();
        if let Some(pool) = http1.pool.upgrade() {
            pool.return_connection(self);
        }
    }
}

/// Delays the body of a request with `Expect: 100-continue` until the server asks for it.
fn delay_body(request: &mut Request<AttemptBody>) -> Option<ContinueSignal> {
    // Few requests have it: comparing each name is cheaper than a look-up.
    if !request.headers().keys().any(|name| *name == EXPECT) {
        return None;
    }
    if request.body().is_end_stream() {
        // Not allowed for requests without content.
        request.headers_mut().remove(EXPECT);
        return None;
    }
    let signal = ContinueSignal::default();
    request.body_mut().wait_for(&signal);
    let on_continue = signal.clone();
    on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            on_continue.proceed();
        }
    });
    Some(signal)
}

pin_project! {
    /// An exchange until the head of the response has arrived.
    struct Exchange<'a, A, B> {
        #[pin]
        response: PendingResponse<A, B>,
        connection: &'a mut Connection,
    }
}

pin_project! {
    #[project = PendingResponseProjection]
    enum PendingResponse<A, B> {
        Http1 { #[pin] response: A },
        Http2 { #[pin] response: B },
    }
}

type Received = Result<Response<Incoming>, TrySendError<Request<AttemptBody>>>;

impl<A: Future<Output = Received>, B: Future<Output = Received>> Future for Exchange<'_, A, B> {
    type Output = Result<Response<Incoming>, ExchangeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = this.response;
        let received = this.connection.poll_response(cx, |cx| match response.as_mut().project() {
            PendingResponseProjection::Http1 { response } => response.poll(cx),
            PendingResponseProjection::Http2 { response } => response.poll(cx),
        });
        match received {
            Poll::Ready(Ok(response)) => {
                this.connection.head_received(&response);
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(ExchangeError::Failed(error.into()))),
            Poll::Pending => this.connection.poll_stalled(cx).map(|timeout| Err(ExchangeError::Stalled(timeout))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
    };

    use hyper::rt::{Read, ReadBufCursor, Write};
    use tokio::{task::yield_now, time::timeout};

    use super::*;
    use crate::{
        connection::flush_tracker::FlushTracker,
        request::{body::Body, buffer_quota::BufferQuota, replay::ReplayBody},
    };

    /// A stream that responds to the first write, and flushes nothing. Counts how often it is asked to.
    struct Unflushed {
        response: &'static [u8],
        was_written: bool,
        flushes: Arc<AtomicUsize>,
    }

    impl Read for Unflushed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.was_written || self.response.is_empty() {
                return Poll::Pending;
            }
            buf.put_slice(std::mem::take(&mut self.response));
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Unflushed {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.was_written = true;
            cx.waker().wake_by_ref();
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes.fetch_add(1, SeqCst);
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Idle(Mutex<Vec<Connection>>);

    impl ReturnConnection for Idle {
        fn return_connection(&self, connection: Box<Connection>) {
            lock(&self.0).push(*connection);
        }
    }

    #[tokio::test]
    async fn a_request_that_is_not_flushed_is_sent_after_its_response() {
        let flushes = Arc::<AtomicUsize>::default();
        let response = b"HTTP/1.1 204 No Content\r\n\r\n";
        let stream = Unflushed { response, was_written: false, flushes: Arc::clone(&flushes) };
        let (activity, pool) = (Activity::of_connection(), Arc::<Idle>::default());
        let stream = FlushTracker::new(Box::new(stream), activity.clone());
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        let driver = Driver::new(connection.with_upgrades());
        let home: Weak<Idle> = Arc::downgrade(&pool);
        let http1 = Http1 { sender, driver, to_proxy: false, activity, permit: Weak::new(), pool: home };
        let mut connection = Box::new(Connection::new(Protocol::Http1(http1), None, false));
        let body = ReplayBody::new(Body::empty(), 0, &BufferQuota::new(0)).attempt();
        let response = connection.exchange(Request::new(body), &BaseUrl::parse("http://a").unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        connection.release();
        let before = flushes.load(SeqCst);
        let sent = async {
            while flushes.load(SeqCst) < before + 9 {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), sent).await.expect("a flush");
    }
}
