//! What each proxy of the comparison adds to the heads of requests and responses: what the gateway adds by default.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, VIA},
};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Prepares the headers of a request for the upstream. Returns the id of the request.
pub(crate) fn prepare_request(headers: &mut HeaderMap, peer: SocketAddr, authority: Option<&str>) -> HeaderValue {
    let host = headers.get(HOST).cloned().or_else(|| HeaderValue::from_str(authority?).ok());
    if let Some(host) = host {
        headers.insert(HOST, host.clone());
        headers.insert(X_FORWARDED_HOST, host);
    }
    let id = HeaderValue::from_str(&format!("{:032x}", fastrand::u128(..))).unwrap();
    headers.insert(X_REQUEST_ID, id.clone());
    headers.insert(X_FORWARDED_FOR, HeaderValue::from_str(&peer.ip().to_string()).unwrap());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.append(VIA, HeaderValue::from_static("1.1 bare"));
    id
}

/// Prepares the headers of a response for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap, id: HeaderValue) {
    headers.append(VIA, HeaderValue::from_static("1.1 bare"));
    headers.insert(X_REQUEST_ID, id);
}
