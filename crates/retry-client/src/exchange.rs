//! One attempt over hyper: one exchange, within the idle timeout.

use std::{future::poll_fn, pin::Pin, task::Poll};

use http::{Request, Response, request};
use http_body::Body as _;
use hyper_util::client::legacy::ResponseFuture;

use crate::{
    Client, ErrorKind, RequestBody,
    call::Transport,
    config::Config,
    error::Error,
    failure::{Failure, Fate},
    idle::Idle,
    memory::Held,
    response::ResponseBody,
    resume::Resuming,
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
    pub(crate) client: &'a Client,
    pub(crate) delivery: Delivery,
    /// Whether the response's body is gone on with where it breaks off.
    pub(crate) resume: bool,
}

impl<'a> Transport for Hyper<'a> {
    type Body = ResponseBody;

    fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Failure>> + use<'a> {
        let config = self.client.config();
        let idle = config.timeout.map(|timeout| Idle::new(config.connect_timeout, timeout, request.body_mut().watch()));
        // Not in the future below, which would hold the request twice.
        exchange(self.client.http().request(request), idle, config, self.delivery)
    }

    fn hand_over(&mut self, request: &request::Parts, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.resume { Resuming::wrap(self.client, request, response) } else { response }
    }
}

async fn exchange(
    mut response: ResponseFuture,
    mut idle: Option<Idle>,
    config: &Config,
    delivery: Delivery,
) -> Result<Response<ResponseBody>, Failure> {
    let response = poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| Failure::of(error.into(), &config.place)));
        }
        let Some(idle) = &mut idle else { return Poll::Pending };
        idle.poll_idle(cx).map(|()| Err(too_late(idle, config)))
    })
    .await?;
    if let Some(idle) = &mut idle {
        idle.progress();
    }
    let response = response.map(|incoming| ResponseBody::streaming(incoming, idle));
    match delivery {
        Delivery::Streaming => Ok(response),
        // Boxed, as most exchanges would hold the room for it in vain.
        Delivery::HeldBack(limit) => {
            let mut held = config.rules.replay_memory.hold();
            let length = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
            if length.is_some_and(|length| length <= limit && held.take(length)) {
                Box::pin(whole(response, Some(held))).await
            } else {
                Ok(response)
            }
        }
        Delivery::Whole => Box::pin(whole(response, None)).await,
    }
}

/// A request that no connection took up may be taken up by another thread at this very moment, so neither kind counts
/// as never sent.
fn too_late(idle: &Idle, config: &Config) -> Failure {
    let error = if idle.has_begun() { Error::idle(idle.timeout()) } else { Error::not_taken_up(&config.place) };
    Failure { error, fate: Fate::TimedOut }
}

/// The same response, once its body has come to its end.
async fn whole(response: Response<ResponseBody>, held: Option<Held>) -> Result<Response<ResponseBody>, Failure> {
    let (head, body) = response.into_parts();
    let body = body.whole(held).await.map_err(while_reading)?;
    Ok(Response::from_parts(head, body))
}

fn while_reading(error: Error) -> Failure {
    let fate = if error.kind() == ErrorKind::Timeout { Fate::TimedOut } else { Fate::MaybeProcessed };
    Failure { error, fate }
}
