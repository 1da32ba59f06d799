//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::control::reply::{Invalid, Reply};
use crate::recorder::events::Event;
use crate::server::Server;

/// The time without events after which a comment is sent, so that the end of the connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The maximum number of clients. A slow one costs little memory, as events contain no requests.
const MAX_CLIENTS: usize = 64;

/// The time for which a client can read nothing while there are events for it. It is disconnected then, so that it does not
/// count as a client forever.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a response that never ends, with an event for each change.
pub(crate) fn reply(server: &Arc<Server>) -> Result<Reply, Invalid> {
    if server.subscribers() >= MAX_CLIENTS {
        let error = format!("{MAX_CLIENTS} clients read the events already");
        return Err(Invalid::new(StatusCode::SERVICE_UNAVAILABLE, error));
    }
    let (sender, body) = Channel::new(1);
    tokio::spawn(forward(Arc::clone(server), server.events(), sender));
    let mut reply = Response::new(body.boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// Sends events until the client disconnects.
async fn forward(server: Arc<Server>, mut events: Receiver<Event>, mut body: Sender<Bytes, Infallible>) {
    // The head of the response is sent with the first bytes of the body.
    let mut text = ": connected\n\n".to_owned();
    while let Ok(Ok(())) = timeout(STALL_TIMEOUT, body.send_data(text.into())).await {
        text = match timeout(KEEP_ALIVE, events.recv()).await {
            Ok(Ok(event)) => format(&server, event),
            Ok(Err(RecvError::Lagged(count))) => format!("event: missed\ndata: {{\"count\":{count}}}\n\n"),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => ": idle\n\n".to_owned(),
        };
    }
}

/// Returns the text of an event. Empty if it is about a request that is no longer recorded.
fn format(server: &Server, event: Event) -> String {
    match event {
        // Serializing numbers, strings and dates cannot fail. JSON has no line breaks between its values.
        Event::Request(number) => server.state().recorder.get(number).map_or_else(String::new, |request| {
            format!("event: request\ndata: {}\n\n", serde_json::to_string(&*request).unwrap_or_default())
        }),
        Event::Cleared => "event: cleared\ndata: {}\n\n".to_owned(),
        Event::Changed => "event: changed\ndata: {}\n\n".to_owned(),
    }
}
