//! The responses of the sample.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request};
use http_body_util::Full;
use jiff::Timestamp;
use retry_client::{Client, Error, ErrorKind};

use crate::common::error_payload;

/// The sample's service: `/retry`, with any method, responds with a text from the backend.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) client: Client,
    /// The path that is requested from the backend.
    pub(crate) path: String,
}

impl Sample {
    /// Responds to a request. Dropping the future, as when the client disconnects, cancels its attempts.
    pub(crate) async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (request, _) = request.into_parts();
        if request.uri.path() != "/retry" {
            return not_found(&request);
        }
        match self.client.get(&self.path).text().await {
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

/// Responds with the backend's own response if there is one, or with an error.
fn failed(error: Error, request: &request::Parts) -> Response<Full<Bytes>> {
    let error = match error.into_response() {
        Ok(response) => return pass_through(response),
        Err(error) => error,
    };
    let (status, message) = match error.kind() {
        ErrorKind::Timeout => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Idle timeout triggered before initiating inbound response".to_owned())
        }
        ErrorKind::Connect | ErrorKind::ConnectionClosed | ErrorKind::BadResponse => {
            (StatusCode::BAD_GATEWAY, format!("Something wrong with the connection: {}", error.root_cause()))
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, error.message().to_owned()),
    };
    error_response(status, &message, request)
}

/// Returns the backend's status, body and content headers, but no other headers.
fn pass_through(response: Response<Bytes>) -> Response<Full<Bytes>> {
    let (head, body) = response.into_parts();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = head.status;
    for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("content-")) {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn not_found(request: &request::Parts) -> Response<Full<Bytes>> {
    let (path, method) = (request.uri.path(), &request.method);
    let message = format!("no matching resource found for path : {path} , method : {method}");
    error_response(StatusCode::NOT_FOUND, &message, request)
}

fn error_response(status: StatusCode, message: &str, request: &request::Parts) -> Response<Full<Bytes>> {
    error_payload::error_response(Timestamp::now(), status, message, &request.method, &request.uri)
}
