//! One attempt: one exchange with the server, within its limits on time.

use std::{error::Error as StdError, future::poll_fn, pin::Pin, task::Poll, time::Duration};

use http::{Extensions, Request, Response, request};
use hyper_util::client::legacy::{
    self,
    connect::{CaptureConnection, Connected, capture_connection},
};

use crate::{
    BoxError,
    classify::Fate,
    client::Http,
    config::Config,
    error::Error,
    idle::{Activity, Idle},
    replay::{AttemptBody, Replay, SourceFailed},
    response::ResponseBody,
};

/// An attempt without an answer: what went wrong, and what became of the request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) fate: Fate,
}

/// What to do with the body of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Hand over the response as soon as its head is there.
    Streaming,
    /// The attempt ends when the body does, so a body that breaks is an attempt that failed.
    Whole,
}

/// Sends the request once.
pub(crate) async fn attempt(
    http: &Http,
    config: &Config,
    head: &request::Parts,
    body: &Replay,
    delivery: Delivery,
) -> Result<Response<ResponseBody>, Failure> {
    let exchange = exchange(http, config, head, body, delivery);
    let Some(limit) = config.attempt_timeout else { return exchange.await };
    let late = |_| Failure { error: Error::attempt_timeout(limit), fate: Fate::TimedOut };
    tokio::time::timeout(limit, exchange).await.map_err(late)?
}

async fn exchange(
    http: &Http,
    config: &Config,
    head: &request::Parts,
    body: &Replay,
    delivery: Delivery,
) -> Result<Response<ResponseBody>, Failure> {
    let upload = (!body.is_empty()).then(Activity::start);
    let mut request = request(head, body.attempt(upload.clone()));
    let mut watch = Watch::new(config, &mut request, upload);
    let mut response = http.request(request);
    let response = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| failure(config, error)));
        }
        watch.poll_idle(cx).map(|limit| Err(Failure { error: Error::idle(limit), fate: Fate::TimedOut }))
    })
    .await?;

    let (mut head, incoming) = response.into_parts();
    // The pool's own note about the connection, of no use to callers.
    head.extensions.remove::<Activity>();
    let body = ResponseBody::streaming(incoming, watch.into_idle());
    if delivery == Delivery::Streaming {
        return Ok(Response::from_parts(head, body));
    }
    let fate = |error: Error| {
        let fate = if error.kind() == crate::ErrorKind::Timeout { Fate::TimedOut } else { Fate::MaybeProcessed };
        Failure { error, fate }
    };
    let bytes = body.bytes().await.map_err(fate)?;
    Ok(Response::from_parts(head, ResponseBody::whole(bytes)))
}

fn request(head: &request::Parts, body: AttemptBody) -> Request<AttemptBody> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    request
}

/// The idle timeout of one exchange: off while it connects or waits for the pool.
struct Watch {
    timeout: Option<Duration>,
    http2: bool,
    captured: Option<CaptureConnection>,
    upload: Option<Activity>,
    idle: Option<Idle>,
}

impl Watch {
    fn new(config: &Config, request: &mut Request<AttemptBody>, upload: Option<Activity>) -> Self {
        let captured = config.timeout.map(|_| capture_connection(request));
        Self { timeout: config.timeout, http2: config.http2, captured, upload, idle: None }
    }

    fn poll_idle(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Duration> {
        self.start();
        match &mut self.idle {
            Some(idle) => idle.poll_idle(cx).map(|()| idle.timeout()),
            None => Poll::Pending,
        }
    }

    /// Starts the timeout once the exchange has its connection.
    fn start(&mut self) {
        let (None, Some(timeout), Some(captured)) = (&self.idle, self.timeout, &self.captured) else { return };
        let connected = captured.connection_metadata();
        let Some(connected) = connected.as_ref() else { return };
        // A connection that is shared tells nothing of this exchange.
        let alone = !self.http2 && !connected.is_negotiated_h2();
        let activity = alone.then(|| activity_of(connected)).flatten();
        self.idle = Some(Idle::start(timeout, activity, self.upload.take()));
    }

    fn into_idle(mut self) -> Option<Idle> {
        self.start();
        self.idle
    }
}

fn activity_of(connected: &Connected) -> Option<Activity> {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.remove()
}

/// What an error of the transport means. This is the one place that knows how hyper puts things.
fn failure(config: &Config, error: legacy::Error) -> Failure {
    if error.is_connect() {
        return Failure { error: Error::connect(config.target.authority(), error.into()), fate: Fate::NeverSent };
    }
    if let Some(body) = find::<SourceFailed>(&error) {
        return Failure { error: Error::bad_input(body.to_string()), fate: Fate::Hopeless };
    }
    let transport = find::<hyper::Error>(&error);
    let is = |predicate: fn(&hyper::Error) -> bool| transport.is_some_and(predicate);
    let error_of = |error: legacy::Error| -> BoxError { error.into() };
    if is(hyper::Error::is_canceled) {
        // hyper hands a request back, unsent, with this error alone.
        return Failure { error: Error::broken(error_of(error)), fate: Fate::NeverSent };
    }
    if is(hyper::Error::is_parse) {
        return Failure { error: Error::bad_response(error_of(error)), fate: Fate::MaybeProcessed };
    }
    if is(hyper::Error::is_user) {
        return Failure { error: Error::bad_input(crate::error::root_of(&error)), fate: Fate::Hopeless };
    }
    let refused = find::<h2::Error>(&error).is_some_and(is_refusal);
    let fate = if refused { Fate::Refused } else { Fate::MaybeProcessed };
    Failure { error: Error::broken(error_of(error)), fate }
}

/// Whether the server said that it did not process the stream: RFC 9113, section 8.7. h2 gives a stream
/// a remote GOAWAY as its error only where its number is above the last that the server took.
fn is_refusal(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
