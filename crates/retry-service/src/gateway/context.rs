//! The context of a request.

use http::{HeaderValue, Response, Version, header::CONNECTION};
use retry_client::has_grpc_status;

use super::{
    downstream::Downstream, forwarded::Hop, present_headers::PresentHeaders, request_id::X_REQUEST_ID,
    upgrade::Handshake,
};
use crate::{
    exchange::{
        error_response::ErrorResponse, response_body::Outgoing, unread_body::UnreadBody, upload_rate::ResponseProgress,
    },
    telemetry::access_log::AccessLogEntry,
};

/// What the response and the logs need of a request, whose head is changed before it is forwarded.
pub(crate) struct RequestContext<'a> {
    pub(super) downstream: &'a Downstream,
    /// The original method and URI, the id and the address of the client.
    pub(super) entry: &'a AccessLogEntry,
    pub(super) present: PresentHeaders,
    /// Whether the forwarding headers of the peer are trusted.
    pub(super) is_trusted: bool,
    pub(super) version: Version,
    /// The scheme that the client used.
    pub(super) scheme: &'static str,
    /// The host that the request is for; `None` until it is validated, and for an HTTP/1.0 request without a host.
    pub(super) host: Option<HeaderValue>,
    // Boxed, as most requests have none.
    pub(super) handshake: Option<Box<Handshake>>,
    /// Over HTTP/2, what is left of the request's body when the response ends.
    pub(super) unread_body: Option<Box<UnreadBody>>,
    /// The progress of the response, shared with the request's body; `None` without a body.
    pub(super) response_progress: Option<ResponseProgress>,
}

impl RequestContext<'_> {
    /// Returns what is added to the forwarding headers.
    pub(super) fn hop(&self) -> Hop<'_> {
        Hop {
            ip: self.downstream.ip,
            ip_value: &self.downstream.ip_value,
            host: self.host.as_ref(),
            is_trusted: self.is_trusted,
        }
    }

    pub(super) fn fail(&mut self, error: ErrorResponse) -> Response<Outgoing> {
        let mut response = error.into_response(&self.entry.method, &self.entry.uri);
        self.conclude(&mut response);
        response
    }

    /// Adds the request's id to the response, and ties it to what is left of the request's body.
    pub(super) fn conclude(&mut self, response: &mut Response<Outgoing>) {
        response.headers_mut().insert(X_REQUEST_ID, self.entry.id.clone());
        if let Some(progress) = self.response_progress.take() {
            response.body_mut().track(progress.begin());
            let connection = &self.downstream.connection;
            let is_error = response.status().is_client_error() || response.status().is_server_error();
            if self.version < Version::HTTP_2 && (connection.has_unread_body() || connection.has_upload() && is_error) {
                // The connection closes after this response: RFC 9112, section 9.6.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        // The clients of gRPC know that a call may end before its request, and a status without a message (Trailers-Only) is
        // valid only if the head itself ends the stream.
        if let Some(body) = self.unread_body.take()
            && !has_grpc_status(response.headers())
        {
            response.body_mut().end_after(body);
        }
    }
}
