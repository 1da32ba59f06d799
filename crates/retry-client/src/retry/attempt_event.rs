//! The event that an observer gets for each attempt, and its log line.

use std::{borrow::Cow, fmt, time::Duration};

use http::{Method, Uri, uri::Authority};

use crate::{end_reason::EndReason, error::Error, history::PastAttempt};

/// An attempt failed, a call ended, or a response body is resumed.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttemptEvent<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URL, without credentials. Its query may be confidential. With several endpoints, this is the URL at
    /// the first one, whichever the request was sent to.
    pub uri: &'a Uri,
    /// The attempt, as in the [`History`](crate::History). For a response that is resumed, this is the attempt that returned
    /// it, which had an event of its own, with the outcome [`Resumed`](crate::Outcome::Resumed).
    pub attempt: &'a PastAttempt,
    /// The error of the attempt. `None` if there was a response, or if the deadline passed first.
    pub error: Option<&'a Error>,
    /// Why the call ended. `None` if another attempt follows.
    pub ended: Option<EndReason>,
}

impl AttemptEvent<'_> {
    /// Logs an attempt that failed, with its parts as key-values, but without the URL's query: it may be confidential.
    pub(crate) fn log(&self, count: u32) {
        let Self { method, uri, attempt: PastAttempt { number, outcome, endpoint, wait, .. }, ended, .. } = self;
        if *ended == Some(EndReason::Accepted) || !log::log_enabled!(log::Level::Warn) {
            return;
        }
        let next = match ended {
            None => match wait.unwrap_or_default() {
                Duration::ZERO => "; next attempt at once".to_owned(),
                wait => format!("; next attempt in {wait:?}"),
            },
            // The message says why.
            Some(EndReason::Outage) => String::new(),
            Some(reason) => format!("; {reason}"),
        };
        let of = u64::from(count) + 1;
        let at = endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        log::warn!(
            method:% = method, attempt = *number, wait_ms = wait.map_or(0, |wait| wait.as_millis() as u64);
            "{method} {}: attempt {number} of {of}{at} {outcome}{next}", WithoutQuery(uri)
        );
    }
}

/// Returns an authority without user name and password, which requests through a layer may have.
pub(crate) fn host_and_port(authority: &Authority) -> &str {
    let authority = authority.as_str();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Returns a URL without user name and password.
pub(crate) fn without_credentials(uri: &Uri) -> Cow<'_, Uri> {
    let Some(authority) = uri.authority() else { return Cow::Borrowed(uri) };
    let host = host_and_port(authority);
    if host == authority.as_str() {
        return Cow::Borrowed(uri);
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = host.parse().ok();
    // Without a host, an empty URL is better than one with a password.
    Cow::Owned(Uri::from_parts(parts).unwrap_or_default())
}

/// Displays a URL without credentials and query.
pub(crate) struct WithoutQuery<'a>(pub(crate) &'a Uri);

impl fmt::Display for WithoutQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        if let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) {
            write!(f, "{scheme}://{}", host_and_port(authority))?;
        }
        f.write_str(uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_displayed_without_credentials_and_query() {
        for (url, displayed, without) in [
            ("http://u:p@h:1/a?b", "http://h:1/a", "http://h:1/a?b"),
            ("http://u@[::1]/", "http://[::1]/", "http://[::1]/"),
            ("http://h/a?b", "http://h/a", "http://h/a?b"),
            ("/a?b", "/a", "/a?b"),
        ] {
            let url = Uri::from_static(url);
            assert_eq!(WithoutQuery(&url).to_string(), displayed);
            assert_eq!(*without_credentials(&url), without);
        }
    }
}
