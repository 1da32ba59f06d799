//! The service's answers.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request};
use http_body_util::Full;
use jiff::Timestamp;
use retry_client::{Client, Error, ErrorKind};

use crate::common::error_payload::ErrorPayload;

/// The sample's service: `/retry`, whatever the method, gets a text from the backend and hands it on.
#[derive(Debug)]
pub struct App {
    client: Client,
    path: String,
}

impl App {
    /// A service that gets `path` through `client`.
    #[must_use]
    pub fn new(client: Client, path: impl Into<String>) -> Self {
        Self { client, path: path.into() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its retries.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (request, _) = request.into_parts();
        if request.uri.path() != "/retry" {
            return not_found(&request);
        }
        match self.client.get_text(&self.path).await {
            Ok(payload) => text(payload),
            Err(error) => failed(error, &request),
        }
    }
}

fn text(payload: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(payload));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// What the caller is told when the backend gave no text: its own answer if it gave one.
fn failed(error: Error, request: &request::Parts) -> Response<Full<Bytes>> {
    let error = match error.into_response() {
        Ok(answer) => return hand_on(answer),
        Err(error) => error,
    };
    let (status, message) = match error.kind() {
        ErrorKind::Timeout => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Idle timeout triggered before initiating inbound response".to_owned())
        }
        ErrorKind::Connect | ErrorKind::ConnectionClosed | ErrorKind::BadResponse => {
            (StatusCode::BAD_GATEWAY, format!("Something wrong with the connection: {}", error.cause()))
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    problem(status, message, request)
}

/// The backend's status, body and content headers; the rest of its head concerns the backend alone.
fn hand_on(answer: Response<Bytes>) -> Response<Full<Bytes>> {
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = head.status;
    let content = head.headers.iter().filter(|(name, _)| name.as_str().starts_with("content-"));
    for (name, value) in content {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn not_found(request: &request::Parts) -> Response<Full<Bytes>> {
    let (path, method) = (request.uri.path(), &request.method);
    let message = format!("no matching resource found for path : {path} , method : {method}");
    problem(StatusCode::NOT_FOUND, message, request)
}

fn problem(status: StatusCode, message: String, request: &request::Parts) -> Response<Full<Bytes>> {
    ErrorPayload::new(Timestamp::now(), status, message, &request.method, &request.uri).into_response()
}
