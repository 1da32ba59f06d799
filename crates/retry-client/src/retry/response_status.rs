//! The status of a response, as far as retries depend on it.

use http::StatusCode;

use crate::grpc::code::GrpcCode;

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseStatus {
    pub(crate) http: StatusCode,
    /// `None` if it is not known yet, if the request is not a gRPC call, and if no code is retried.
    pub(crate) grpc: Option<GrpcCode>,
}

impl ResponseStatus {
    /// Whether it says that the client sends too much. A 503 may come from a server that is down.
    pub(crate) fn is_throttled(self) -> bool {
        self.http == StatusCode::TOO_MANY_REQUESTS || self.grpc == Some(GrpcCode::ResourceExhausted)
    }
}
