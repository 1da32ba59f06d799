//! The response of a stub.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;

use crate::routes::known_bytes;
use crate::routes::responses::{self, ECHO_LIMIT, Response, boxed};
use crate::stubs::json::Json;
use crate::stubs::template::{Placeholder, Template};

/// What a stub responds with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StubResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) content: Content,
}

/// The body of a response.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Empty,
    Text(Template),
    Json(Json),
    /// The content of a file.
    Fixed(Bytes),
    /// This many known bytes.
    KnownBytes(u64),
    /// The request.
    Echo,
}

impl Default for StubResponse {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), content_type: None, content: Content::Empty }
    }
}

impl StubResponse {
    /// Returns how many bytes of the request's body the response needs.
    pub(crate) fn body_limit(&self) -> usize {
        if self.content == Content::Echo { ECHO_LIMIT } else { 0 }
    }

    /// Returns the response to a request. `parameters` are those of the path.
    pub(crate) fn respond(&self, head: &Parts, body: &[u8], parameters: &[(String, String)]) -> Response {
        let value = |placeholder: &Placeholder| value(placeholder, head, parameters);
        let mut response = match &self.content {
            Content::Empty => Response::new(boxed(Full::default())),
            Content::Text(text) => Response::new(boxed(Full::from(text.fill(value)))),
            Content::Json(json) => Response::new(boxed(Full::from(json.fill(&value)))),
            Content::Fixed(content) => Response::new(boxed(Full::from(content.clone()))),
            Content::KnownBytes(length) => known_bytes::respond(head, *length),
            Content::Echo => responses::echo(head, body),
        };
        // Not if it is the response to a range of known bytes.
        if response.status() == StatusCode::OK {
            *response.status_mut() = self.status;
        }
        if let Some(content_type) = &self.content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
        }
        for (name, _) in &self.headers {
            response.headers_mut().remove(name);
        }
        for (name, text) in &self.headers {
            // A value of the request may be invalid in a field, for example because of a line break.
            if let Ok(value) = HeaderValue::from_str(&text.fill(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

fn value(placeholder: &Placeholder, head: &Parts, parameters: &[(String, String)]) -> String {
    match placeholder {
        Placeholder::Parameter(name) => find(parameters, name).to_owned(),
        Placeholder::Query(name) => find(&query(head), name).to_owned(),
        Placeholder::Header(name) => {
            let value = head.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        }
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

/// Returns the decoded query parameters of a request.
pub(crate) fn query(head: &Parts) -> Vec<(String, String)> {
    form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}
