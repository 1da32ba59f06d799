//! Handles the requests to the control API.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};

use crate::common::duration;
use crate::control::reply::{Invalid, Reply, done, json, typed};
use crate::control::{endpoints, event_stream, page};
use crate::fault::duration_text;
use crate::script::Script;
use crate::script::error::ScriptError;
use crate::server::Server;
use crate::stubs::Stubs;

/// The maximum size of a script or of stubs.
const MAX_BODY: usize = 4 << 20;

/// How long `/down` takes the backend down by default, like the behavior `down`.
const DEFAULT_OUTAGE: Duration = Duration::from_secs(3);

/// How long `/requests?wait=` waits by default. Many clients wait longer for a response.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// How long `/requests?wait=` can wait, so that forgotten clients do not add up.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Handles a request, which has arrived over loopback if `is_local`, and whose body has this time.
pub(crate) async fn handle<B>(
    server: &Arc<Server>,
    is_local: bool,
    body_time: Duration,
    request: Request<B>,
) -> Result<Reply, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if is_local && has_public_host(&head.headers) {
        let error = "over loopback, the control API is at localhost or an IP address, not at a public name";
        return Ok(Invalid::new(StatusCode::FORBIDDEN, error).reply());
    }
    Ok(respond(server, &head, text(body, body_time)).await.unwrap_or_else(|invalid| invalid.reply()))
}

/// Responds to a request. `body` reads its body, if it has one.
async fn respond(
    server: &Arc<Server>,
    head: &Parts,
    body: impl Future<Output = Result<String, Invalid>>,
) -> Result<Reply, Invalid> {
    if is_cross_origin(&head.headers) {
        return Err(Invalid::new(StatusCode::FORBIDDEN, "pages of other sites cannot use the control API"));
    }
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    let query = head.uri.query().unwrap_or_default();
    let state = server.state();
    match (method.as_str(), head.uri.path()) {
        ("GET", "/") if page::is_preferred(&head.headers) => return Ok(page::reply(&state, &head.headers)),
        ("GET", "/") => return Ok(typed("text/plain", endpoints::list())),
        ("GET", "/script") => {
            let script = match stub(query)? {
                Some(name) => state.stubs.script_of(&name)?,
                None => state.script.script(),
            };
            return Ok(typed("text/plain", script.to_string()));
        }
        ("PUT", "/script") => {
            let name = stub(query)?;
            let text = body.await?;
            check_text(head, &text)?;
            let script: Script = text.trim().parse().map_err(|error: ScriptError| match text.contains("[[stub]]") {
                true => Invalid::new(StatusCode::BAD_REQUEST, "the body has stubs, which PUT /stubs takes"),
                false => error.into(),
            })?;
            if let Some(name) = name {
                server.set_stub_script(&name, script)?;
            } else {
                check_script(server, &script)?;
                // Not those of `state`: the body may have taken long to arrive.
                let state = server.state();
                let current = state.script.script();
                let script = script.with_settings_of(current);
                server.set_script(if current.is_recording() { script.as_recording() } else { script });
            }
        }
        ("GET", "/stubs") => return Ok(typed("application/toml", state.stubs.stubs.to_string())),
        ("PUT", "/stubs") => {
            let files = state.stubs.stubs.files.within();
            let text = body.await?;
            check_text(head, &text)?;
            let stubs = Stubs::parse(&text, files).map_err(|error| match is_one_line(&text) {
                true => {
                    Invalid::from(error).with_tip("the text has no line breaks, which curl keeps with --data-binary")
                }
                false => error.into(),
            })?;
            stubs.script.as_ref().map_or(Ok(()), |script| check_script(server, script))?;
            server.set_stubs(stubs);
        }
        ("POST", "/reset") => server.reset(),
        ("GET", "/requests") => {
            let RequestsQuery { last, wait } = requests_query(query)?;
            if let Some((count, limit)) = wait {
                server.wait_for(count, limit).await?;
            }
            return Ok(json(StatusCode::OK, &server.state().recorder.latest(last)));
        }
        ("DELETE", "/requests") => server.clear_requests(),
        ("POST", "/down") => {
            let length = outage(query)?;
            if !body.await?.is_empty() {
                let error = "expected the length of the outage in the query, such as /down?for=3s, and no body";
                return Err(Invalid::new(StatusCode::BAD_REQUEST, error));
            }
            server.down(length);
        }
        ("POST", "/seed") => {
            let seed = body.await?.trim().parse();
            if server.state().script.script().is_recording() {
                return Err(Invalid::new(StatusCode::BAD_REQUEST, "a recording is played in order, without a seed"));
            }
            let expected = "expected a whole number from 0 to 18446744073709551615 in the body";
            server.set_seed(Some(seed.map_err(|_| Invalid::new(StatusCode::BAD_REQUEST, expected).in_field("seed"))?));
        }
        ("DELETE", "/seed") => server.set_seed(None),
        ("GET", "/events") => return event_stream::reply(server),
        ("GET", "/healthz") => return Ok(typed("text/plain", "ok")),
        (_, path) => return other(method, path),
    }
    Ok(done())
}

/// Returns whether the request is from a page of another site. Browsers send such requests to any address, but with the
/// origin of the page (RFC 6454, section 7).
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).map(|host| [b"http://", host.as_bytes()].concat());
    host.is_none_or(|host| host != origin.as_bytes())
}

/// Returns whether the host is a name that anybody could have registered. The DNS server of a page's own name can let it
/// point to the local machine, and then the page's requests are not from another site (DNS rebinding).
fn has_public_host(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
    let is_reserved = [".localhost", ".internal", ".local", ".test"].iter().any(|end| name.ends_with(end));
    name.contains('.') && !is_reserved && !name.starts_with('[') && name.parse::<Ipv4Addr>().is_err()
}

/// Rejects a body that is not the script or the stubs themselves, with a better message than their parsers have.
fn check_text(head: &Parts, text: &str) -> Result<(), Invalid> {
    let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let error = if content_type.starts_with(b"multipart/") {
        "the body is a form; expected the text itself, as curl sends it with --data-binary @FILE"
    } else if text.trim_start().starts_with('{') {
        "the body is JSON; expected the text itself, which is a script like status=503,ok, or the TOML of stubs"
    } else {
        return Ok(());
    };
    Err(Invalid::new(StatusCode::BAD_REQUEST, error))
}

/// Returns whether something follows the header of a table in the same line.
fn is_one_line(stubs: &str) -> bool {
    let is_table = |table: &str| stubs.split_once(table).is_some_and(|(_, rest)| !rest.trim().is_empty());
    !stubs.trim().contains('\n') && is_table("[[stub]]")
}

/// Rejects a script that the server cannot play.
fn check_script(server: &Server, script: &Script) -> Result<(), Invalid> {
    server.check_script(script).map_err(|error| Invalid::new(StatusCode::BAD_REQUEST, error).in_field("script"))
}

/// Reads a body as text, within this time.
async fn text<B>(body: B, time: Duration) -> Result<String, Invalid>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = tokio::time::timeout(time, Limited::new(body, MAX_BODY).collect()).await.map_err(|_| {
        let error = format!("the body has not arrived within {}", duration_text(time));
        Invalid::new(StatusCode::REQUEST_TIMEOUT, error)
    })?;
    let body = body.map_err(|error| {
        let too_large = error.is::<http_body_util::LengthLimitError>();
        match too_large {
            true => Invalid::new(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 4 MiB"),
            false => Invalid::new(StatusCode::BAD_REQUEST, "the body is incomplete"),
        }
    })?;
    String::from_utf8(body.to_bytes().into())
        .map_err(|_| Invalid::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

/// Returns the name of a stub, from the query.
fn stub(query: &str) -> Result<Option<Cow<'_, str>>, Invalid> {
    let [name] = parameters(query, ["stub"], "/script?stub=NAME")?;
    Ok(name)
}

/// Returns the length of an outage, from the query.
fn outage(query: &str) -> Result<Duration, Invalid> {
    let [length] = parameters(query, ["for"], "/down?for=3s")?;
    length.map_or(Ok(DEFAULT_OUTAGE), |length| time(&length))
}

/// The parameters of `GET /requests`.
struct RequestsQuery {
    /// How many of the latest requests to report.
    last: usize,
    /// How many requests to wait for, and how long at most.
    wait: Option<(usize, Duration)>,
}

fn requests_query(query: &str) -> Result<RequestsQuery, Invalid> {
    let [last, wait, limit] = parameters(query, ["last", "wait", "for"], "/requests?wait=3&for=5s")?;
    let number = |field: &str, text: Cow<'_, str>| {
        let error = |_| Invalid::new(StatusCode::BAD_REQUEST, "expected a number of requests").in_field(field);
        text.parse().map_err(error)
    };
    let limit = limit.map_or(Ok(DEFAULT_WAIT), |limit| time(&limit))?;
    if limit > MAX_WAIT {
        let error = format!("expected at most {}", duration_text(MAX_WAIT));
        return Err(Invalid::new(StatusCode::BAD_REQUEST, error).in_field("for"));
    }
    let wait = wait.map(|count| number("wait", count)).transpose()?.map(|count| (count, limit));
    Ok(RequestsQuery { last: last.map_or(Ok(usize::MAX), |count| number("last", count))?, wait })
}

fn time(text: &str) -> Result<Duration, Invalid> {
    duration::parse(text).map_err(|error| Invalid::new(StatusCode::BAD_REQUEST, error.to_string()).in_field("for"))
}

/// Returns the values of the parameters that a query can have.
fn parameters<'a, const N: usize>(
    query: &'a str,
    expected: [&str; N],
    example: &str,
) -> Result<[Option<Cow<'a, str>>; N], Invalid> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let index = expected.iter().position(|expected| *expected == name);
        let Some(slot) = index.and_then(|index| values.get_mut(index)) else {
            let error = format!("no such parameter; expected {}, such as {example}", expected.join(" or "));
            return Err(Invalid::new(StatusCode::BAD_REQUEST, error).in_field(&name));
        };
        *slot = Some(value);
    }
    Ok(values)
}

/// Responds to a path or method that does not exist.
fn other(method: &Method, path: &str) -> Result<Reply, Invalid> {
    let methods = endpoints::methods(path);
    let (status, error) = match (methods.as_str(), method) {
        ("", _) => (StatusCode::NOT_FOUND, "no such path; GET / lists all".to_owned()),
        (_, &Method::OPTIONS) => (StatusCode::NO_CONTENT, String::new()),
        (methods, _) => (StatusCode::METHOD_NOT_ALLOWED, format!("expected {methods}")),
    };
    let mut reply = if status == StatusCode::NO_CONTENT { done() } else { Invalid::new(status, error).reply() };
    if let Some(methods) = methods.parse().ok().filter(|_| !methods.is_empty()) {
        reply.headers_mut().insert(header::ALLOW, methods);
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_public_name_is_none_of_the_local_machine() {
        for (host, expected) in [
            ("localhost:9000", false),
            ("app.localhost", false),
            ("127.0.0.1:9000", false),
            ("[::1]:9000", false),
            ("[::ffff:127.0.0.1]", false),
            ("backend:9000", false),
            ("host.docker.internal:9000", false),
            ("", false),
            ("evil.example:9000", true),
            ("EVIL.example.:9000", true),
            ("localhost.evil.example", true),
            ("127.0.0.1.evil.example", true),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(has_public_host(&headers), expected, "{host}");
        }
    }
}
