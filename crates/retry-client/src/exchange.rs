//! One attempt over hyper: one exchange, within the idle timeout.

use http::{Request, Response};
use http_body::Body as _;

use crate::{
    Client, ErrorKind,
    call::{Answer, Transport},
    connection::Unanswered,
    error::Error,
    failure::{Failure, Fate},
    memory::Held,
    prepared::Sending,
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

/// The client's connections as a transport.
pub(crate) struct Hyper<'a> {
    pub(crate) client: &'a Client,
    pub(crate) delivery: Delivery,
    /// Whether the response's body is gone on with where it breaks off.
    pub(crate) resume: bool,
}

impl<'a> Transport for Hyper<'a> {
    type Body = ResponseBody;

    fn send<'b>(
        &mut self,
        sending: Sending<'b>,
    ) -> impl Future<Output = Result<Answer<ResponseBody>, Failure>> + use<'a, 'b> {
        exchange(self.client, sending, self.delivery)
    }

    fn hand_over(&mut self, request: &Request<()>, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.resume { Resuming::wrap(self.client, request, response) } else { response }
    }
}

async fn exchange(client: &Client, sending: Sending<'_>, delivery: Delivery) -> Result<Answer<ResponseBody>, Failure> {
    let response = answer(client, sending).await?;
    match delivery {
        Delivery::Streaming => Ok(response),
        // Boxed, as most exchanges would hold the room for it in vain.
        Delivery::HeldBack(limit) => {
            let mut held = client.config().rules.replay_memory.hold();
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

/// The answer, as soon as its head is there.
///
/// A kept connection may turn out to be closed before anything was sent on it. Then another is taken, which is no
/// attempt: nothing left this process.
async fn answer(client: &Client, sending: Sending<'_>) -> Result<Answer<ResponseBody>, Failure> {
    let (config, pool) = (client.config(), client.pool());
    loop {
        let mut connection = match pool.take() {
            Some(connection) => connection,
            None => pool.wait().await.map_err(|error| Failure::to_connect(error, &config.place))?,
        };
        let mut error = match connection.exchange(sending.request(), &config.target).await {
            Ok(response) => {
                return Ok(Box::new(response.map(|incoming| ResponseBody::streaming(incoming, connection))));
            }
            Err(Unanswered::Silent(limit)) => {
                pool.give_up(&connection, limit);
                return Err(Failure { error: Error::idle(limit), fate: Fate::TimedOut });
            }
            Err(Unanswered::Failed(error)) => error,
        };
        let unsent = error.take_message().is_some();
        if !unsent || !connection.is_reused() {
            return Err(Failure::of(error.into_error().into(), &config.place));
        }
    }
}

/// The same response, once its body has come to its end.
async fn whole(response: Answer<ResponseBody>, held: Option<Held>) -> Result<Answer<ResponseBody>, Failure> {
    let (head, body) = response.into_parts();
    let body = body.whole(held).await.map_err(while_reading)?;
    Ok(Box::new(Response::from_parts(head, body)))
}

fn while_reading(error: Error) -> Failure {
    let fate = if error.kind() == ErrorKind::Timeout { Fate::TimedOut } else { Fate::MaybeProcessed };
    Failure { error, fate }
}
