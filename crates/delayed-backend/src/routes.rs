//! The routes of the backend.

pub(crate) mod known_bytes;
mod range;
pub(crate) mod responses;

use http::Method;

/// The route of a request, by its path and method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/hello`: the sample's greeting.
    Hello,
    /// `/echo`: the request itself.
    Echo,
    /// `/bytes/N`: this many known bytes.
    Bytes(u64),
    /// `/requests`: the recorded requests.
    Requests,
    /// OPTIONS, with the allowed methods.
    Options(&'static str),
    /// A method that is not allowed, with those that are.
    MethodNotAllowed(&'static str),
    /// An unknown path.
    NotFound,
    /// Any request, while a recording is played that may be of another API.
    Recorded,
}

impl Route {
    /// Returns the route of a request with this method and path.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let (resource, allowed) = match path {
            "/hello" => (Self::Hello, "GET, OPTIONS"),
            "/requests" => (Self::Requests, "GET, HEAD, OPTIONS"),
            "/echo" => return Self::Echo,
            _ => match path.strip_prefix("/bytes/").and_then(length) {
                Some(length) => (Self::Bytes(length), "GET, HEAD, OPTIONS"),
                None => return Self::NotFound,
            },
        };
        if *method == Method::OPTIONS {
            Self::Options(allowed)
        } else if allowed.split(", ").any(|one| one == method.as_str()) {
            resource
        } else {
            Self::MethodNotAllowed(allowed)
        }
    }

    /// Returns whether the script applies.
    pub(crate) fn is_scripted(self) -> bool {
        matches!(self, Self::Hello | Self::Echo | Self::Bytes(_) | Self::Recorded)
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
    fn routes_depend_on_path_and_method() {
        let (get, head) = ("GET, OPTIONS", "GET, HEAD, OPTIONS");
        check("GET", "/hello", Route::Hello);
        check("OPTIONS", "/hello", Route::Options(get));
        check("HEAD", "/hello", Route::MethodNotAllowed(get));
        check("PURGE", "/hello", Route::MethodNotAllowed(get));
        check("GET", "/hello/", Route::NotFound);
        check("GET", "/Hello", Route::NotFound);
        check("PURGE", "/echo", Route::Echo);
        check("OPTIONS", "/echo", Route::Echo);
        check("GET", "/bytes/0", Route::Bytes(0));
        check("HEAD", "/bytes/18446744073709551615", Route::Bytes(u64::MAX));
        check("POST", "/bytes/1", Route::MethodNotAllowed(head));
        check("GET", "/bytes/18446744073709551616", Route::NotFound);
        check("GET", "/bytes/", Route::NotFound);
        check("GET", "/bytes/+1", Route::NotFound);
        check("GET", "/bytes/1/2", Route::NotFound);
        check("GET", "/requests", Route::Requests);
        check("DELETE", "/requests", Route::MethodNotAllowed(head));
        check("GET", "/", Route::NotFound);
        check("GET", "*", Route::NotFound);
        check("GET", "", Route::NotFound);
    }
}
