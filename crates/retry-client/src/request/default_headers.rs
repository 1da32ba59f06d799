//! The headers that each request of a client gets.

use std::fmt;

use http::{HeaderMap, HeaderValue};

use crate::{
    error::Error,
    request::{header_count::check_header_count, idempotency_key::IDEMPOTENCY_KEY},
};

/// Headers for requests that do not have them.
#[derive(Clone)]
pub(crate) struct DefaultHeaders(pub(crate) HeaderMap);

impl DefaultHeaders {
    /// Rejects headers that not every request can have.
    pub(crate) fn validate(self) -> Result<Self, Error> {
        if self.0.contains_key(IDEMPOTENCY_KEY) {
            // All requests would count as one that is repeated.
            let expected = "expected a key for each request, by RequestBuilder::header or add_idempotency_key";
            return Err(Error::bad_input(format!("default_headers has {IDEMPOTENCY_KEY}: {expected}")));
        }
        check_header_count(self.0.len())?;
        Ok(self)
    }

    /// Adds the headers whose names the request does not have.
    pub(crate) fn add(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        check_header_count(headers.len() + self.0.len())?;
        for name in self.0.keys() {
            if !headers.contains_key(name) {
                headers.reserve(1);
                for value in self.0.get_all(name) {
                    headers.append(name, value.clone());
                }
            }
        }
        Ok(())
    }

    /// Returns a copy for another thread, which shares no reference counts with this one.
    pub(crate) fn unshared(&self) -> Self {
        Self(self.0.iter().map(|(name, value)| (name.clone(), unshared(value))).collect())
    }
}

/// Without the values, which may be confidential.
impl fmt::Debug for DefaultHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Copies a value for another thread. Requests clone it, and so write to its reference count, which the copy does not
/// share.
pub(crate) fn unshared(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_request_replaces_all_defaults_of_its_name() {
        let pairs = [("accept", "a"), ("accept", "b"), ("user-agent", "me")];
        let mut defaults = HeaderMap::new();
        for (name, value) in pairs {
            defaults.append(name, HeaderValue::from_static(value));
        }
        let defaults = DefaultHeaders(defaults).unshared();
        let mut headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("own"))]);
        defaults.add(&mut headers).unwrap();
        assert_eq!(headers.get_all("accept").iter().collect::<Vec<_>>(), ["own"]);
        assert_eq!(headers["user-agent"], "me");
        let mut headers = HeaderMap::new();
        defaults.add(&mut headers).unwrap();
        assert_eq!(headers.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!format!("{defaults:?}").contains("me"));
    }
}
