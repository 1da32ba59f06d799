//! One attempt over hyper: one exchange, within the idle timeout.

use std::sync::Mutex;

use http::{HeaderName, HeaderValue, Request, Response, Version, header::TRAILER};
use http_body::Body as _;

use crate::{
    client::Client,
    connection::{exchange::Unanswered, pool::Wanted},
    error::{Error, ErrorKind},
    request::{attempt_request::Sending, hop_by_hop::trim_values, replay::Stream, upload_limit::Uploads},
    response::{
        body::ResponseBody,
        buffering::{ResponseBuffer, is_stream},
        framing::check_framing,
        resume::Resuming,
    },
    retry::{
        failure::{Failure, Fate},
        retry_loop::{Answer, Transport},
    },
};

/// What to do with the body of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Hand over the response as soon as its head is there.
    Streaming,
    /// Read ahead, and hand over what breaks off meanwhile as an attempt that failed.
    Buffered(ResponseBuffer),
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
    let repeatable = sending.is_repeatable();
    if let Some((uploads, stream)) = client.config().uploads.as_ref().zip(sending.stream()) {
        Box::pin(wait_for_body(client, uploads, &sending, stream)).await?;
    }
    let response = answer(client, sending).await?;
    match delivery {
        Delivery::Streaming => Ok(response),
        Delivery::Buffered(_) if response.body().is_end_stream() || is_stream(response.headers()) => Ok(response),
        // Boxed, as most exchanges would hold the room for it in vain.
        Delivery::Buffered(buffer) => {
            let mut held = client.config().rules.replay_memory.hold();
            let (bytes, time) = match response.body().size_hint().exact() {
                // It would not fit, or not now.
                Some(length)
                    if !usize::try_from(length).is_ok_and(|length| length <= buffer.bytes && held.take(length)) =>
                {
                    return Ok(response);
                }
                // To wait for the whole pays off only if another attempt may follow. Who announces a short length has
                // it ready, and nobody waits for half of it.
                Some(_) if repeatable => (buffer.bytes, None),
                _ => (buffer.bytes, Some(buffer.time)),
            };
            Box::pin(read(response, |body| body.read_ahead(bytes, time, Some(held)))).await
        }
        Delivery::Whole => Box::pin(read(response, ResponseBody::whole)).await,
    }
}

/// Waits until a body is worth a connection.
async fn wait_for_body(
    client: &Client,
    uploads: &Uploads,
    sending: &Sending<'_>,
    stream: &Mutex<Stream>,
) -> Result<(), Failure> {
    if sending.may_read_ahead() {
        uploads.read_ahead(stream).await;
    }
    // A shared connection has room for all.
    if client.pool().is_shared() {
        return Ok(());
    }
    uploads.enter(stream).await.map_err(|error| Failure::to_connect(error, &client.config().place))
}

/// The answer, as soon as its head is there.
///
/// A kept connection may turn out to be closed before anything was sent on it. Then another is taken, which is no
/// attempt: nothing left this process.
async fn answer(client: &Client, sending: Sending<'_>) -> Result<Answer<ResponseBody>, Failure> {
    let (config, pool) = (client.config(), client.pool());
    let wanted = if sending.is_repeatable() { Wanted::Any } else { Wanted::Fresh };
    loop {
        let mut connection = match pool.take(wanted) {
            Some(connection) => connection,
            None => pool.wait(wanted).await.map_err(|error| Failure::to_connect(error, &config.place))?,
        };
        let mut error = match connection.exchange(sending.request(), &config.target).await {
            Ok(mut response) => {
                if response.version() == Version::HTTP_2 {
                    trim_values(response.headers_mut());
                }
                check_framing(response.headers_mut())
                    .map_err(|error| Failure { error: Error::bad_head(error.into()), fate: Fate::Hopeless })?;
                return Ok(Box::new(response.map(|incoming| ResponseBody::streaming(incoming, connection))));
            }
            Err(Unanswered::Silent(limit)) => {
                pool.give_up(&connection, limit);
                return Err(Failure { error: Error::idle(limit), fate: Fate::TimedOut });
            }
            Err(Unanswered::Failed(error)) => error,
        };
        let unsent = error.take_message().is_some();
        if unsent {
            sending.came_back();
        }
        if !unsent || !connection.is_reused() {
            return Err(Failure::of(error.into_error().into(), &config.place));
        }
    }
}

/// The same response, once its body was read.
async fn read<F: Future<Output = Result<ResponseBody, Error>>>(
    response: Answer<ResponseBody>,
    read: impl FnOnce(ResponseBody) -> F,
) -> Result<Answer<ResponseBody>, Failure> {
    let (mut head, body) = response.into_parts();
    let body = read(body).await.map_err(while_reading)?;
    if let Some(trailers) = body.trailers()
        && !head.headers.contains_key(TRAILER)
    {
        // Who passes them on over HTTP/1.1 has to announce them.
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            head.headers.insert(TRAILER, names);
        }
    }
    Ok(Box::new(Response::from_parts(head, body)))
}

fn while_reading(error: Error) -> Failure {
    let fate = if error.kind() == ErrorKind::Timeout { Fate::TimedOut } else { Fate::MaybeProcessed };
    Failure { error, fate }
}
