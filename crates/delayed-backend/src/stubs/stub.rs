//! A stub: which requests it matches, and what becomes of them.

use http::request::Parts;
use http::{HeaderName, Method};

use crate::script::Script;
use crate::stubs::path_pattern::{PathPattern, RequestPath};
use crate::stubs::response::{StubResponse, query};
use crate::stubs::text_pattern::TextPattern;

/// A stub. A condition that is empty or `None` matches every request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stub {
    pub(crate) name: String,
    pub(crate) methods: Vec<Method>,
    pub(crate) path: Option<PathPattern>,
    pub(crate) query: Vec<(String, TextPattern)>,
    pub(crate) headers: Vec<(HeaderName, TextPattern)>,
    pub(crate) script: Script,
    pub(crate) response: StubResponse,
}

/// What the conditions of stubs look at, decoded once for all stubs.
#[derive(Debug)]
pub(crate) struct Conditions<'a> {
    head: &'a Parts,
    path: RequestPath,
    query: Vec<(String, String)>,
}

impl<'a> Conditions<'a> {
    pub(crate) fn of(head: &'a Parts) -> Self {
        Self { head, path: RequestPath::new(head.uri.path()), query: query(head) }
    }
}

impl Stub {
    /// Returns the parameters of the path if all conditions match.
    pub(crate) fn match_request(&self, request: &Conditions<'_>) -> Option<Vec<(String, String)>> {
        let matches = self.matches_method(&request.head.method)
            && self.query.iter().all(|(name, pattern)| {
                request.query.iter().any(|(other, value)| other == name && pattern.matches(value))
            })
            && self.headers.iter().all(|(name, pattern)| {
                let values = request.head.headers.get_all(name);
                values.iter().any(|value| pattern.matches(&String::from_utf8_lossy(value.as_bytes())))
            });
        let parameters = match &self.path {
            Some(path) => path.match_path(&request.path)?,
            None => Vec::new(),
        };
        matches.then_some(parameters)
    }

    /// A stub for GET also matches HEAD, whose response is that of GET without the body (RFC 9110, section 9.3.2).
    fn matches_method(&self, method: &Method) -> bool {
        let is = |method| self.methods.iter().any(|one| one == method);
        self.methods.is_empty() || is(method) || (method == Method::HEAD && is(&Method::GET))
    }
}
