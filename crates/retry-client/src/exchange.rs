//! One attempt over hyper: one exchange, within the idle timeout.

use std::{future::poll_fn, pin::Pin, task::Poll};

use http::{Request, Response};
use http_body::Body as _;

use crate::{
    ErrorKind, RequestBody,
    call::Transport,
    client::Http,
    config::Config,
    error::Error,
    failure::{Failure, Fate},
    idle::Idle,
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
    let mut idle = config.timeout.map(|timeout| Idle::new(timeout, request.body_mut().watch()));
    let mut response = http.request(request);
    let response = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| Failure::of(error.into(), &config.place)));
        }
        let Some(idle) = &mut idle else { return Poll::Pending };
        idle.poll_idle(cx).map(|()| Err(Failure { error: Error::idle(idle.timeout()), fate: Fate::TimedOut }))
    })
    .await?;

    let (head, incoming) = response.into_parts();
    if let Some(idle) = &mut idle {
        idle.progress();
    }
    let body = ResponseBody::streaming(incoming, idle);
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
