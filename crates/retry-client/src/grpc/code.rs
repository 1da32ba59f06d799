//! The status of a gRPC call.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The [status code](https://grpc.github.io/grpc/core/md_doc_statuscodes.html) of a gRPC call, `as u8` its number.
///
/// It displays as its name, and is parsed from its name in upper or lower case, or from its number, as in the
/// configuration of gRPC's own retries (gRFC A6).
///
/// ```
/// use retry_client::GrpcCode;
///
/// for text in ["UNAVAILABLE", "unavailable", "14"] {
///     assert_eq!(text.parse(), Ok(GrpcCode::Unavailable));
/// }
/// assert_eq!(GrpcCode::Unavailable.to_string(), "UNAVAILABLE");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum GrpcCode {
    /// Success.
    Ok = 0,
    /// The call was canceled, usually by the client.
    Cancelled = 1,
    /// An error of which no more is known, or with a code that is not known.
    Unknown = 2,
    /// The request is invalid, whatever the state of the server.
    InvalidArgument = 3,
    /// The deadline passed. The call may have been processed.
    DeadlineExceeded = 4,
    /// What was requested does not exist.
    NotFound = 5,
    /// What was to be created exists already.
    AlreadyExists = 6,
    /// The client may not make this call.
    PermissionDenied = 7,
    /// A quota or another resource is used up.
    ResourceExhausted = 8,
    /// The state of the server does not allow the call; another attempt fails too.
    FailedPrecondition = 9,
    /// The call conflicts with another one.
    Aborted = 10,
    /// The call goes beyond what there is, such as the end of a file.
    OutOfRange = 11,
    /// The server does not support the call.
    Unimplemented = 12,
    /// An internal error, or a violation of the protocol.
    Internal = 13,
    /// The server cannot process calls now. This is the code to retry.
    Unavailable = 14,
    /// Data is lost or corrupted.
    DataLoss = 15,
    /// The client did not prove who it is.
    Unauthenticated = 16,
}

/// The codes in the order of their numbers, and their names.
const NAMES: [(GrpcCode, &str); 17] = [
    (GrpcCode::Ok, "OK"),
    (GrpcCode::Cancelled, "CANCELLED"),
    (GrpcCode::Unknown, "UNKNOWN"),
    (GrpcCode::InvalidArgument, "INVALID_ARGUMENT"),
    (GrpcCode::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (GrpcCode::NotFound, "NOT_FOUND"),
    (GrpcCode::AlreadyExists, "ALREADY_EXISTS"),
    (GrpcCode::PermissionDenied, "PERMISSION_DENIED"),
    (GrpcCode::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (GrpcCode::FailedPrecondition, "FAILED_PRECONDITION"),
    (GrpcCode::Aborted, "ABORTED"),
    (GrpcCode::OutOfRange, "OUT_OF_RANGE"),
    (GrpcCode::Unimplemented, "UNIMPLEMENTED"),
    (GrpcCode::Internal, "INTERNAL"),
    (GrpcCode::Unavailable, "UNAVAILABLE"),
    (GrpcCode::DataLoss, "DATA_LOSS"),
    (GrpcCode::Unauthenticated, "UNAUTHENTICATED"),
];

impl GrpcCode {
    /// Returns the code in the headers or the trailers of a response. `None` if they have none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get(GRPC_STATUS).map(|value| Self::from_digits(value.as_bytes()))
    }

    /// Clients take a number that they do not know for UNKNOWN, and so is what is not a number.
    fn from_digits(digits: &[u8]) -> Self {
        let number = match digits {
            [digit @ b'0'..=b'9'] => digit - b'0',
            [b'1', digit @ b'0'..=b'9'] => 10 + digit - b'0',
            _ => return Self::Unknown,
        };
        NAMES.get(usize::from(number)).map_or(Self::Unknown, |(code, _)| *code)
    }

    /// Returns all codes in the order of their numbers.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(code, _)| code)
    }

    /// Returns the name, such as `UNAVAILABLE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("UNKNOWN", |(_, name)| name)
    }

    /// Whether the server is to blame: the codes for which google.rpc.Code names an HTTP status of 5xx.
    pub(crate) fn is_server_error(self) -> bool {
        use GrpcCode::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
        matches!(self, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is not a [`GrpcCode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a gRPC status code: expected a name such as UNAVAILABLE, or a number from 0 to 16")]
pub struct ParseGrpcCodeError(String);

impl FromStr for GrpcCode {
    type Err = ParseGrpcCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut codes = NAMES.into_iter();
        let found = codes.find(|(code, name)| name.eq_ignore_ascii_case(text) || (*code as u8).to_string() == text);
        found.map(|(code, _)| code).ok_or_else(|| ParseGrpcCodeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn codes_have_their_numbers_and_names() {
        for (number, (code, name)) in NAMES.into_iter().enumerate() {
            assert_eq!(code as usize, number, "{name}");
            assert_eq!(code.to_string(), name);
            for text in [name.to_owned(), name.to_ascii_lowercase(), number.to_string()] {
                assert_eq!(text.parse(), Ok(code), "{text}");
            }
        }
        for nonsense in ["", "17", "-1", "+1", "014", " 14", "UNAVAILABLE ", "DATALOSS", "503"] {
            nonsense.parse::<GrpcCode>().expect_err(nonsense);
        }
    }

    #[test]
    fn the_code_of_a_response_is_in_grpc_status() {
        let check = |values: &[&'static str], expected| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(GRPC_STATUS, HeaderValue::from_static(value));
            }
            assert_eq!(GrpcCode::of(&headers), expected, "{values:?}");
        };
        check(&[], None);
        check(&["0"], Some(GrpcCode::Ok));
        check(&["14"], Some(GrpcCode::Unavailable));
        check(&["8"], Some(GrpcCode::ResourceExhausted));
        check(&["14", "0"], Some(GrpcCode::Unavailable));
        for unknown in ["", "2", "17", "99", "100", "-1", "x", "1x", "UNAVAILABLE"] {
            check(&[unknown], Some(GrpcCode::Unknown));
        }
    }

    #[test]
    fn the_server_is_to_blame_for_some() {
        let to_blame: Vec<_> =
            NAMES.into_iter().filter(|(code, _)| code.is_server_error()).map(|(_, name)| name).collect();
        let expected = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
        assert_eq!(to_blame, expected);
    }
}
