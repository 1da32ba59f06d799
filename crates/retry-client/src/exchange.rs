//! One attempt over hyper: one exchange, within the idle timeout.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Extensions, Request, Response};
use http_body::Body as _;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, capture_connection};

use crate::{
    ErrorKind, RequestBody,
    call::Transport,
    client::Http,
    config::Config,
    error::Error,
    failure::{Failure, Fate},
    idle::{Activity, Idle},
    response::ResponseBody,
};

/// What to do with the body of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Hand over the response as soon as its head is there.
    Streaming,
    /// As [`Whole`](Self::Whole) where the answer says that it has so many bytes at the most.
    HeldBack(usize),
    /// The attempt ends when the body does, so a body that breaks is an attempt that failed.
    Whole,
}

/// hyper's pooled client as a transport.
pub(crate) struct Hyper<'a> {
    pub(crate) http: &'a Http,
    pub(crate) config: &'a Config,
    pub(crate) delivery: Delivery,
}

impl<'a> Transport for Hyper<'a> {
    type Body = ResponseBody;

    fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Failure>> + use<'a> {
        exchange(self.http, self.config, self.delivery, request)
    }
}

async fn exchange(
    http: &Http,
    config: &Config,
    delivery: Delivery,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Failure> {
    let mut watch = Watch::new(config, &mut request);
    let mut response = http.request(request);
    let response = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| Failure::of(error.into(), &config.place)));
        }
        watch.poll_idle(cx).map(|limit| Err(Failure { error: Error::idle(limit), fate: Fate::TimedOut }))
    })
    .await?;

    let (mut head, incoming) = response.into_parts();
    // The pool's own note about the connection, of no use to callers.
    head.extensions.remove::<Activity>();
    let body = ResponseBody::streaming(incoming, watch.into_idle());
    let body = match delivery {
        Delivery::Streaming => body,
        Delivery::HeldBack(limit) => {
            let mut held = config.rules.replay_memory.hold();
            let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
            if length.is_some_and(|length| length <= limit && held.take(length)) {
                body.whole(Some(held)).await.map_err(while_reading)?
            } else {
                body
            }
        }
        Delivery::Whole => body.whole(None).await.map_err(while_reading)?,
    };
    Ok(Response::from_parts(head, body))
}

fn while_reading(error: Error) -> Failure {
    let fate = if error.kind() == ErrorKind::Timeout { Fate::TimedOut } else { Fate::MaybeProcessed };
    Failure { error, fate }
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
    fn new(config: &Config, request: &mut Request<RequestBody>) -> Self {
        let captured = config.timeout.map(|_| capture_connection(request));
        let upload = captured.as_ref().and_then(|_| request.body_mut().watch());
        Self { timeout: config.timeout, http2: config.http2, captured, upload, idle: None }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
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
