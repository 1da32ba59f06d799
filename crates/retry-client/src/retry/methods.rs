//! Which methods may be repeated.

use http::Method;

/// The methods of requests that may be repeated even if the server may have processed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetryMethods {
    /// The idempotent methods of RFC 9110, section 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT and DELETE. The default.
    #[default]
    Idempotent,
    /// Every method: for servers that can handle a repeated POST.
    All,
}

impl RetryMethods {
    pub(crate) fn allows(self, method: &Method) -> bool {
        self == Self::All || method.is_idempotent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotent_methods_are_those_of_rfc_9110() {
        let custom = Method::from_bytes(b"BREW").unwrap();
        for (method, idempotent) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::TRACE, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::CONNECT, false),
            (custom, false),
        ] {
            assert_eq!(RetryMethods::Idempotent.allows(&method), idempotent, "{method}");
            assert!(RetryMethods::All.allows(&method));
        }
    }
}
