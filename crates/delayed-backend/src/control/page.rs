//! The page of the control port, to watch and change the backend in a browser.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::control::reply::{Reply, typed};
use crate::recorder::recorded_request::RecordedRequest;
use crate::state::State;

/// The page, with a name in double braces for each part that the server fills in.
const PAGE: &str = include_str!("page.html");

/// The number of requests that the page shows.
const LIMIT: usize = 200;

/// Allows only the page's own style and script, by their digests (<https://www.w3.org/TR/CSP3/>), so nothing that a request
/// brings along can be executed, even if an escape were missing.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest("<style>", "</style>"),
        digest("<script>", "</script>"),
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// Returns whether the client prefers a page to plain text. Browsers name HTML, other clients do not.
pub(crate) fn is_preferred(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| range.trim_start().starts_with("text/html"))
}

/// Returns the page, which shows the state also without JavaScript.
pub(crate) fn reply(state: &State, headers: &HeaderMap) -> Reply {
    let mut reply = typed("text/html; charset=utf-8", render(state, headers));
    let fields: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    reply.headers_mut().extend(fields);
    reply
}

fn render(state: &State, headers: &HeaderMap) -> String {
    let mut parts = PAGE.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or_default();
        page += &match name {
            "script" => escaped(&state.script.script().to_string()),
            "stubs" => escaped(&state.stubs.stubs.to_string()),
            "host" => escaped(headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()),
            "rows" => state.recorder.latest(LIMIT).requests.iter().rev().map(|request| row(request)).collect(),
            _ => LIMIT.to_string(),
        };
        page += rest;
    }
    page
}

/// Returns a row of the table. The script of the page makes the same cells, and a button of the path.
fn row(request: &RecordedRequest) -> String {
    let number = request.number.to_string();
    let arrived = request.time.strftime("%H:%M:%S%.3f").to_string();
    let (mut status, mut bytes, mut milliseconds) = ("–".to_owned(), String::new(), String::new());
    if let Some(response) = &request.response {
        status = response.status.to_string();
        bytes = format!("{}{}", response.length, if response.complete { "" } else { " (partial)" });
        milliseconds = response.milliseconds.to_string();
    }
    let fault = format!("{}{}", request.behavior, if request.fault_missed { " (not reached)" } else { "" });
    let status_class = format!("status class{}", request.response.as_ref().map_or(0, |response| response.status / 100));
    let cells = [
        ("number", &*number),
        ("arrived", &arrived),
        ("method", &request.method),
        ("path", &request.target),
        ("stub", request.stub.as_deref().unwrap_or_default()),
        (if request.behavior == "ok" { "fault ok" } else { "fault" }, &fault),
        (&status_class, &status),
        ("bytes", &bytes),
        ("ms", &milliseconds),
    ];
    let mut row = "<tr>".to_owned();
    for (class, text) in cells {
        // Writing to a string cannot fail.
        let _ = write!(row, "<td class=\"{class}\">{}</td>", escaped(text));
    }
    row + "</tr>\n"
}

/// Escapes the characters that are special in the text and in the quoted attributes of HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Returns the digest of what is between the tags, as a source of a content security policy.
fn digest(start: &str, end: &str) -> String {
    let content = PAGE.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(content, _)| content);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escaped("/a?b=<script>&\"'"), "/a?b=&lt;script&gt;&amp;&quot;&#39;");
    }

    #[test]
    fn browsers_get_the_page_and_other_clients_the_list() {
        let is_preferred = |accept: &'static str| {
            is_preferred(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(is_preferred("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(is_preferred("application/json, text/html;q=0.5"));
        assert!(!is_preferred("*/*"));
        assert!(!is_preferred("application/json"));
    }

    #[test]
    fn the_page_has_no_resources_and_only_the_styles_and_scripts_that_the_policy_allows() {
        for tag in ["<style", "<script"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        for text in [" style=", " onclick=", " src=", "http://", "https://", "innerHTML", "insertAdjacentHTML"] {
            assert!(!PAGE.contains(text), "{text}");
        }
        assert!(PAGE.lines().all(|line| !line.contains("{{") || line.contains("}}")));
    }
}
