//! The kinds of errors.

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or a setting is invalid, and nothing was sent.
    BadInput,
    /// Reading the request's body failed while it was sent. That error is the [root cause](crate::Error::root_cause).
    RequestBody,
    /// No connection could be made: the server refused it, was unreachable or unknown, a certificate was rejected, or
    /// the connect timeout elapsed.
    Connect,
    /// No endpoint could be reached within [`outage_wait`](crate::ClientBuilder::outage_wait). The last
    /// attempt was not sent. If there were earlier ones, the request may be repeated.
    Outage,
    /// The idle timeout (`timeout`), the attempt timeout or the deadline elapsed.
    Timeout,
    /// The connection was closed or reset before the response was complete.
    ConnectionClosed,
    /// The response was not valid HTTP, or not the response that was asked for: the rest of a body, text or JSON.
    BadResponse,
    /// The response has a status other than 2xx, and its body was asked for, as by
    /// [`RequestBuilder::text`](crate::RequestBuilder::text).
    Status,
    /// The body of the response is longer than [`response_limit`](crate::ClientBuilder::response_limit).
    TooLarge,
}
