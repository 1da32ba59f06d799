//! `Via` (RFC 9110, section 7.6.3): names the gateway in the messages that it forwards, and detects loops.

use http::{HeaderMap, HeaderValue, Version, header::VIA};

/// This gateway's entry in `Via`.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
    /// The entry for messages that were received over HTTP/1.0, HTTP/1.1 and HTTP/2.
    entries: [HeaderValue; 3],
}

impl Via {
    /// `instance` distinguishes this process from others: a request that passes through another one is not a loop.
    pub(crate) fn new(instance: u32) -> Self {
        let pseudonym = format!("retry-service-{instance:08x}");
        let entries = ["1.0", "1.1", "2.0"].map(|version| {
            let value = HeaderValue::try_from(format!("{version} {pseudonym}"));
            value.unwrap_or_else(|_| HeaderValue::from_static("1.1 retry-service"))
        });
        Self { pseudonym, entries }
    }

    /// Adds the entry to a message that was received in this version.
    pub(super) fn add(&self, headers: &mut HeaderMap, version: Version) {
        let [http10, http11, http2] = &self.entries;
        let entry = match version {
            Version::HTTP_09 | Version::HTTP_10 => http10,
            Version::HTTP_2 => http2,
            _ => http11,
        };
        headers.append(VIA, entry.clone());
    }

    /// Whether the request has been forwarded by this process before.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let is_ours = |entry: &str| entry.split_whitespace().nth(1) == Some(&self.pseudonym);
        headers.get_all(VIA).iter().filter_map(|via| via.to_str().ok()).flat_map(|via| via.split(',')).any(is_ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_came_back_is_recognized() {
        let via = Via::new(0xab);
        let check = |value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(VIA, HeaderValue::from_static(value))]);
            assert_eq!(via.is_in(&headers), expected, "{value}");
        };
        check("1.1 retry-service-000000ab", true);
        check("1.0 fred, 2.0 retry-service-000000ab (comment), 1.1 x", true);
        check("1.1 retry-service-000000ac", false);
        check("retry-service-000000ab", false);
        let mut headers = HeaderMap::new();
        via.add(&mut headers, Version::HTTP_2);
        assert_eq!(headers[VIA], "2.0 retry-service-000000ab");
    }
}
