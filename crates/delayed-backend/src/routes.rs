//! What the backend offers, and where.

pub(crate) mod bytes;
mod range;
pub(crate) mod responses;

use http::Method;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The sample's greeting.
    Hello,
    /// What arrived.
    Echo,
    /// So many known bytes.
    Bytes(u64),
    /// The journal.
    Requests,
    /// Which methods a resource has; these.
    Options(&'static str),
    /// A method that a resource does not have; it has these.
    WrongMethod(&'static str),
    /// No resource at all.
    Unknown,
}

impl Route {
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let (resource, allowed) = match path {
            "/hello" => (Self::Hello, "GET, OPTIONS"),
            "/requests" => (Self::Requests, "GET, HEAD, OPTIONS"),
            "/echo" => return Self::Echo,
            _ => match path.strip_prefix("/bytes/").and_then(length) {
                Some(length) => (Self::Bytes(length), "GET, HEAD, OPTIONS"),
                None => return Self::Unknown,
            },
        };
        if *method == Method::OPTIONS {
            Self::Options(allowed)
        } else if allowed.split(", ").any(|one| one == method.as_str()) {
            resource
        } else {
            Self::WrongMethod(allowed)
        }
    }

    /// Whether the script decides what becomes of such a request; only those are counted.
    pub(crate) fn is_scripted(self) -> bool {
        matches!(self, Self::Hello | Self::Echo | Self::Bytes(_))
    }
}

fn length(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, path: &str, expected: Route) {
        assert_eq!(Route::of(&method.parse().unwrap(), path), expected, "{method} {path}");
    }

    #[test]
    fn routes() {
        let (get, head) = ("GET, OPTIONS", "GET, HEAD, OPTIONS");
        check("GET", "/hello", Route::Hello);
        check("OPTIONS", "/hello", Route::Options(get));
        check("HEAD", "/hello", Route::WrongMethod(get));
        check("PURGE", "/hello", Route::WrongMethod(get));
        check("GET", "/hello/", Route::Unknown);
        check("GET", "/Hello", Route::Unknown);
        check("PURGE", "/echo", Route::Echo);
        check("OPTIONS", "/echo", Route::Echo);
        check("GET", "/bytes/0", Route::Bytes(0));
        check("HEAD", "/bytes/18446744073709551615", Route::Bytes(u64::MAX));
        check("POST", "/bytes/1", Route::WrongMethod(head));
        check("GET", "/bytes/18446744073709551616", Route::Unknown);
        check("GET", "/bytes/", Route::Unknown);
        check("GET", "/bytes/+1", Route::Unknown);
        check("GET", "/bytes/1/2", Route::Unknown);
        check("GET", "/requests", Route::Requests);
        check("DELETE", "/requests", Route::WrongMethod(head));
        check("GET", "/", Route::Unknown);
        check("GET", "*", Route::Unknown);
        check("GET", "", Route::Unknown);
    }
}
