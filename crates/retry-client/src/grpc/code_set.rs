//! A set of gRPC status codes.

use std::fmt;

use http::HeaderMap;

use crate::grpc::code::GrpcCode;

/// A set of status codes, a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GrpcCodes(u32);

impl GrpcCodes {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, code: GrpcCode) -> bool {
        self.0 & bit(code) != 0
    }

    /// Whether trailers have one of these codes, for which the server is to blame.
    pub(crate) fn blame_server(self, trailers: &HeaderMap) -> bool {
        GrpcCode::of(trailers).is_some_and(|code| self.contains(code) && code.is_server_error())
    }
}

fn bit(code: GrpcCode) -> u32 {
    1 << (code as u8)
}

impl FromIterator<GrpcCode> for GrpcCodes {
    fn from_iter<I: IntoIterator<Item = GrpcCode>>(codes: I) -> Self {
        Self(codes.into_iter().fold(0, |bits, code| bits | bit(code)))
    }
}

impl fmt::Debug for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(GrpcCode::all().filter(|code| self.contains(*code))).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_set_contains_the_codes_that_it_was_made_of() {
        assert!(GrpcCodes::default().is_empty() && GrpcCodes::from_iter([]).is_empty());
        let codes = GrpcCodes::from_iter([GrpcCode::Unavailable, GrpcCode::Unauthenticated, GrpcCode::Unavailable]);
        assert!(!codes.is_empty());
        assert_eq!(format!("{codes:?}"), "{Unavailable, Unauthenticated}");
    }

    #[test]
    fn the_server_is_to_blame_for_some_codes_of_a_set() {
        let codes = GrpcCodes::from_iter([GrpcCode::ResourceExhausted, GrpcCode::Unavailable]);
        for (code, expected) in
            [(None, false), (Some("0"), false), (Some("8"), false), (Some("13"), false), (Some("14"), true)]
        {
            let field = |code| (HeaderName::from_static("grpc-status"), HeaderValue::from_static(code));
            assert_eq!(codes.blame_server(&code.map(field).into_iter().collect()), expected, "{code:?}");
        }
    }
}
