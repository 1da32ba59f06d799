//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::control::reply::Reply;
use crate::recorder::events::Event;

/// The time without events after which a comment is sent, so that the end of the connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Returns a response that never ends, with an event for each change.
pub(crate) fn reply(events: Receiver<Event>) -> Reply {
    let (sender, body) = Channel::new(1);
    tokio::spawn(forward(events, sender));
    let mut reply = Response::new(body.boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Sends events until the client disconnects.
async fn forward(mut events: Receiver<Event>, mut body: Sender<Bytes, Infallible>) {
    // The head of the response is sent with the first bytes of the body.
    let mut text = ": connected\n\n".to_owned();
    while body.send_data(text.into()).await.is_ok() {
        text = match timeout(KEEP_ALIVE, events.recv()).await {
            Ok(Ok(event)) => format(&event),
            Ok(Err(RecvError::Lagged(count))) => format!("event: missed\ndata: {{\"count\":{count}}}\n\n"),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => ": idle\n\n".to_owned(),
        };
    }
}

fn format(event: &Event) -> String {
    match event {
        // Serializing numbers, strings and dates cannot fail. JSON has no line breaks between its values.
        Event::Request(request) => {
            format!("event: request\ndata: {}\n\n", serde_json::to_string(&**request).unwrap_or_default())
        }
        Event::Cleared => "event: cleared\ndata: {}\n\n".to_owned(),
        Event::Changed => "event: changed\ndata: {}\n\n".to_owned(),
    }
}
