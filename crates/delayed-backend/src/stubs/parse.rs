//! Reads stubs from TOML.

use std::ops::Range;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use toml::de::DeTable;

use crate::fault::value;
use crate::script::Script;
use crate::script::error::ScriptError;
use crate::spelling::similar;
use crate::stubs::error::{Mistake, StubError, TLS_IN_STUB};
use crate::stubs::fields::{Field, Fields};
use crate::stubs::files::{FileReader, Files, media_type};
use crate::stubs::json::Json;
use crate::stubs::path_pattern::PathPattern;
use crate::stubs::response::{Content, StubResponse};
use crate::stubs::stub::Stub;
use crate::stubs::template::Template;
use crate::stubs::text_pattern::TextPattern;

/// What a stub file contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StubFile {
    /// The script of the requests that match no stub, with the position of its text.
    pub(crate) script: Option<(Script, Range<usize>)>,
    pub(crate) stubs: Vec<Stub>,
}

/// Parses a stub file, and reads the files that it refers to.
pub(crate) fn parse(text: &str, files: &Files) -> Result<StubFile, StubError> {
    let table = DeTable::parse(text).map_err(|error| StubError::new(text, syntax_error(text, &error)))?;
    let reader = Reader { text, files: FileReader::new(files) };
    reader.file(table.get_ref()).map_err(|mistake| StubError::new(text, mistake))
}

fn syntax_error(text: &str, error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or_default();
    // The message for a duplicate key does not name the key.
    let message = match (error.message(), text.get(span.clone())) {
        ("duplicate key", Some(key)) => format!("duplicate key {key}"),
        (message, _) => format!("invalid TOML: {}", message.lines().next().unwrap_or_default()),
    };
    Mistake::new(&span, "", message)
}

/// Reads the tables of a stub file.
struct Reader<'a> {
    text: &'a str,
    files: FileReader<'a>,
}

impl Reader<'_> {
    fn file(&self, table: &DeTable<'_>) -> Result<StubFile, Mistake> {
        let mut fields = Fields::new(table, "");
        let script = fields.read("script", |field| Ok((self.script(field)?, field.value_span.clone())))?;
        let stubs = fields.read("stub", |field| {
            let tables = field.list();
            tables.iter().map(|table| self.stub(table)).collect::<Result<Vec<_>, _>>()
        })?;
        fields.finish()?;
        Ok(StubFile { script, stubs: stubs.unwrap_or_default() })
    }

    fn stub(&self, table: &Field<'_>) -> Result<Stub, Mistake> {
        let mut fields = table.table()?;
        let name = fields.read("name", |field| field.text().map(str::to_owned))?;
        let methods = fields.read("method", methods)?.unwrap_or_default();
        let (path_text, path) = fields.read("path", path)?.unzip();
        let query = fields.read("query", query)?.unwrap_or_default();
        let headers = fields.read("headers", headers)?.unwrap_or_default();
        let script = fields.read("script", |field| match self.script(field)? {
            script if script.has_tls_faults() => Err(field.invalid(TLS_IN_STUB)),
            script => Ok(script),
        })?;
        let parameters = path.as_ref().map(PathPattern::names).unwrap_or_default();
        let response = fields.read("response", |field| self.response(field, &parameters))?;
        fields.finish()?;
        Ok(Stub {
            name: name.unwrap_or_else(|| description(&methods, path_text)),
            methods,
            path,
            query,
            headers,
            script: script.unwrap_or_else(Script::ok),
            response: response.unwrap_or_default(),
        })
    }

    fn script(&self, field: &Field<'_>) -> Result<Script, Mistake> {
        let script = field.text()?;
        script.parse().map_err(|error: ScriptError| {
            let mistake = field.invalid(&error);
            // The position in the script is one in the file only if nothing is escaped.
            let raw = self.text.get(mistake.position + 1..).filter(|raw| raw.starts_with(script));
            match raw.and_then(|_| position(script, &error)) {
                Some(offset) => Mistake { position: mistake.position + 1 + offset, ..mistake },
                None => mistake,
            }
        })
    }

    fn response(&self, field: &Field<'_>, parameters: &[&str]) -> Result<StubResponse, Mistake> {
        let mut fields = field.table()?;
        let status = fields.read("status", status)?.unwrap_or_default();
        let headers = fields.read("headers", |field| response_headers(field, parameters))?.unwrap_or_default();
        let content_type = fields.read("content-type", |field| {
            HeaderValue::from_str(field.text()?).map_err(|_| field.invalid("expected a media type, such as text/plain"))
        })?;
        let content = self.content(&mut fields, parameters)?;
        fields.finish()?;
        let Some((field, content)) = content else {
            return Ok(StubResponse { status, headers, content_type, content: Content::Empty });
        };
        if has_no_body(status) {
            return Err(field.invalid_key(format_args!("a response with status {} has no body", status.as_u16())));
        }
        let content_type = content_type.or_else(|| default_type(&field, &content).map(HeaderValue::from_static));
        Ok(StubResponse { status, headers, content_type, content })
    }

    /// Reads the body of a response, which is one of several fields.
    fn content<'t>(
        &self,
        fields: &mut Fields<'t>,
        parameters: &[&str],
    ) -> Result<Option<(Field<'t>, Content)>, Mistake> {
        let template = |field: &Field<'_>, text: &str| template(field, text, parameters);
        let contents = [
            fields.read("text", |field| Ok((field.clone(), Content::Text(template(field, field.text()?)?))))?,
            fields.read("json", |field| Ok((field.clone(), Content::Json(Json::parse(field, &template)?))))?,
            fields.read("file", |field| {
                let content = self.files.read(field.text()?).map_err(|message| field.invalid(message))?;
                Ok((field.clone(), Content::Fixed(content)))
            })?,
            fields.read("bytes", |field| Ok((field.clone(), Content::KnownBytes(size(field)?))))?,
            fields.read("echo", |field| match field.value.as_bool() {
                Some(true) => Ok((field.clone(), Content::Echo)),
                _ => Err(field.invalid("expected true")),
            })?,
        ];
        let mut contents = contents.into_iter().flatten();
        let first = contents.next();
        match (&first, contents.next()) {
            (Some((first, _)), Some((second, _))) => {
                let message = format!("a response has one body, and {} is one already", first.key);
                Err(second.invalid_key(message))
            }
            _ => Ok(first),
        }
    }
}

fn methods(field: &Field<'_>) -> Result<Vec<Method>, Mistake> {
    let method = |field: &Field<'_>| {
        let text = field.text()?;
        let method =
            Method::from_bytes(text.as_bytes()).map_err(|_| field.invalid("expected a method, such as GET"))?;
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            let upper = text.to_ascii_uppercase();
            return Err(field.invalid(format_args!("methods are in capitals; did you mean {upper}?")));
        }
        Ok(method)
    };
    field.list().iter().map(method).collect()
}

fn path<'t>(field: &Field<'t>) -> Result<(&'t str, PathPattern), Mistake> {
    let text = field.text()?;
    let pattern = PathPattern::parse(text).map_err(|error| field.invalid(error))?;
    Ok((text, pattern))
}

fn query(field: &Field<'_>) -> Result<Vec<(String, TextPattern)>, Mistake> {
    let fields = field.table()?.take_all();
    fields.iter().map(|field| Ok((field.key.to_owned(), text_pattern(field)?))).collect()
}

fn headers(field: &Field<'_>) -> Result<Vec<(HeaderName, TextPattern)>, Mistake> {
    let fields = field.table()?.take_all();
    fields.iter().map(|field| Ok((header_name(field)?, text_pattern(field)?))).collect()
}

fn text_pattern(field: &Field<'_>) -> Result<TextPattern, Mistake> {
    field.text_or_number().map(TextPattern::new)
}

fn header_name(field: &Field<'_>) -> Result<HeaderName, Mistake> {
    field.key.parse().map_err(|_| field.invalid_key("expected the name of a header field"))
}

fn response_headers(field: &Field<'_>, parameters: &[&str]) -> Result<Vec<(HeaderName, Template)>, Mistake> {
    let mut headers = Vec::new();
    for field in field.table()?.take_all() {
        let name = header_name(&field)?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            return Err(
                field.invalid_key("this field depends on the body; a script can change both: truncate, chunked")
            );
        }
        for value in field.list() {
            let text = value.text_or_number()?;
            HeaderValue::from_str(text).map_err(|_| value.invalid("expected the value of a header field"))?;
            headers.push((name.clone(), template(&value, text, parameters)?));
        }
    }
    Ok(headers)
}

fn template(field: &Field<'_>, text: &str, parameters: &[&str]) -> Result<Template, Mistake> {
    Template::parse(text, parameters).map_err(|name| {
        let tip = match similar(&name, parameters.iter().copied()) {
            Some(similar) => format!("did you mean {{{similar}}}?"),
            None => format!("expected one, or {{query.NAME}} or {{header.NAME}}; {{{{{name}}}}} is a text in braces"),
        };
        field.invalid(format_args!("the path has no {{{name}}}; {tip}"))
    })
}

fn status(field: &Field<'_>) -> Result<StatusCode, Mistake> {
    let what = "a status from 200 to 599";
    let status = StatusCode::from_u16(field.integer(what)?).ok();
    status.filter(|status| (200..600).contains(&status.as_u16())).ok_or_else(|| field.expected(what))
}

fn size(field: &Field<'_>) -> Result<u64, Mistake> {
    let bytes = field.text_or_number().ok().and_then(value::bytes);
    bytes.ok_or_else(|| field.invalid("expected a number of bytes, such as 100, \"64KiB\" or \"1MiB\""))
}

/// Whether a response with this status never has content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

fn default_type(field: &Field<'_>, content: &Content) -> Option<&'static str> {
    match content {
        Content::Text(_) => Some("text/plain"),
        Content::Json(_) => Some("application/json"),
        Content::Fixed(_) => field.value.as_str().map(media_type),
        Content::Empty | Content::KnownBytes(_) | Content::Echo => None,
    }
}

/// Returns the position of a mistake in a script, in bytes.
fn position(script: &str, error: &ScriptError) -> Option<usize> {
    let line = script.split('\n').nth(error.line() - 1)?;
    let before: usize = script.split('\n').take(error.line() - 1).map(|line| line.len() + 1).sum();
    let column: usize = line.chars().take(error.column() - 1).map(char::len_utf8).sum();
    Some(before + column)
}

/// Returns the name of a stub that has none.
fn description(methods: &[Method], path: Option<&str>) -> String {
    let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
    let methods = if methods.is_empty() { "*".to_owned() } else { methods.join(",") };
    format!("{methods} {}", path.unwrap_or("*"))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::stubs::stub::Conditions;

    /// A request, and the name of the stub that it matches.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>);

    #[track_caller]
    fn check_matches(text: &str, rows: &[Row<'_>]) {
        let file = parse(text, &Files::None).unwrap();
        for (method, target, headers, expected) in rows {
            let mut request = Request::builder().method(*method).uri(*target);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let conditions = Conditions::of(&head);
            let found = file.stubs.iter().find(|stub| stub.match_request(&conditions).is_some());
            assert_eq!(found.map(|stub| stub.name.as_str()), *expected, "{method} {target} {headers:?}");
        }
    }

    #[test]
    fn the_first_stub_whose_conditions_all_match_is_taken() {
        let text = r#"
            [[stub]]
            name = "second page"
            method = "GET"
            path = "/items"
            query = { page = 2 }
            [[stub]]
            method = ["POST", "PUT"]
            path = "/items"
            headers = { authorization = "Bearer *", Cookie = "*session=abc*" }
            [[stub]]
            method = "GET"
            path = "/items"
            [[stub]]
            query = { debug = "*" }
        "#;
        let login = [("authorization", "Bearer x"), ("cookie", "a=1; session=abc")];
        check_matches(
            text,
            &[
                ("GET", "/items?page=2", &[], Some("second page")),
                ("GET", "/items?size=9&page=1&page=2", &[], Some("second page")),
                ("GET", "/items?page=3", &[], Some("GET /items")),
                ("HEAD", "/items?page=%32", &[], Some("second page")),
                ("GET", "/items?debug", &[], Some("GET /items")),
                ("DELETE", "/other?debug=", &[], Some("* *")),
                ("GET", "/other", &[], None),
                ("PUT", "/items", &login, Some("POST,PUT /items")),
                ("POST", "/items", &login[..1], None),
                ("POST", "/items", &[("authorization", "Basic x"), login[1]], None),
            ],
        );
    }

    /// Checks the response of a stub to `GET /a/7?q=%22x`.
    #[track_caller]
    fn check_response(response: &str, expected: &str) {
        let text = format!("[[stub]]\npath = '/a/{{id}}'\n[stub.response]\n{response}");
        let file = parse(&text, &Files::None).unwrap();
        let (head, ()) = Request::get("/a/7?q=%22x").header("x-a", "1").body(()).unwrap().into_parts();
        let stub = &file.stubs[0];
        let parameters = stub.match_request(&Conditions::of(&head)).unwrap();
        let (head, body) = stub.response.respond(&head, b"body", &parameters).into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        let fields: Vec<_> =
            head.headers.iter().map(|(name, value)| format!(" {name}: {}", value.to_str().unwrap())).collect();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(format!("{}{} | {body}", head.status.as_u16(), fields.concat()), expected);
    }

    #[test]
    fn responses_are_what_the_file_describes() {
        check_response("", "200 | ");
        check_response("status = 204", "204 | ");
        check_response("text = 'item {id}'", "200 content-type: text/plain | item 7");
        check_response("text = '<p>{header.x-a}'\ncontent-type = 'text/html'", "200 content-type: text/html | <p>1");
        check_response(
            "status = 201\njson = { id = '{id}', n = 1, list = [1.5, true, '{query.q}'], none = '{query.z}' }",
            r#"201 content-type: application/json | {"id":"7","n":1,"list":[1.5,true,"\"x"],"none":""}"#,
        );
        check_response("json = [{ id = 1 }]", r#"200 content-type: application/json | [{"id":1}]"#);
        check_response(
            "headers = { location = '/a/{id}', set-cookie = ['a=1', 'b=2'], x-total = 12 }",
            "200 location: /a/7 set-cookie: a=1 set-cookie: b=2 x-total: 12 | ",
        );
        check_response("bytes = 3", "200 content-type: text/plain accept-ranges: bytes etag: \"bytes-3\" | 012");
        check_response(
            "echo = true",
            "200 content-type: message/http | GET /a/7?q=%22x HTTP/1.1\r\nx-a: 1\r\n\r\nbody",
        );
    }

    #[test]
    fn a_value_of_the_request_cannot_add_a_header_field() {
        let text = "[[stub]]\npath = '/{id}'\nresponse = { headers = { x-id = '{id}' } }";
        let file = parse(text, &Files::None).unwrap();
        let (head, ()) = Request::get("/a%0D%0Ax-evil:1").body(()).unwrap().into_parts();
        let parameters = file.stubs[0].match_request(&Conditions::of(&head)).unwrap();
        assert_eq!(parameters, [("id".to_owned(), "a\r\nx-evil:1".to_owned())]);
        assert!(file.stubs[0].response.respond(&head, b"", &parameters).headers().is_empty());
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text, &Files::None).unwrap_err().to_string(), expected);
    }

    #[test]
    fn an_error_names_the_line_the_column_and_the_field() {
        check_error("[[stub", "line 1, column 7: invalid TOML: unclosed array table, expected `]]`");
        check_error("[[stub]]\nscript = 'tls=expired'", &format!("line 2, column 10, stub.script: {TLS_IN_STUB}"));
        check_error("script = 'ok'\nscript = 'ok'", "line 2, column 1: duplicate key script");
        check_error("\nstubs = 1", "line 2, column 1, stubs: no such field; did you mean stub?");
        check_error("stub = 1", "line 1, column 8, stub: expected a table, found 1");
        let known = "name, method, path, query, headers, script, response";
        check_error("[[stub]]\nx = 1", &format!("line 2, column 1, stub.x: no such field; expected one of {known}"));
        check_error("[[stub]]\npath = 7", "line 2, column 8, stub.path: expected a text, found 7");
        check_error("[[stub]]\npath = 'a'", "line 2, column 8, stub.path: a path starts with /, such as /items/{id}");
        check_error(
            "[[stub]]\nmethod = 'get'",
            "line 2, column 10, stub.method: methods are in capitals; did you mean GET?",
        );
        check_error(
            "[[stub]]\nheaders = { 'a b' = '' }",
            "line 2, column 13, stub.headers.a b: expected the name of a header field",
        );
    }

    #[test]
    fn an_error_in_a_script_is_that_of_the_script_at_its_position_in_the_file() {
        let check = |text: &str, column: u32, script: &str| {
            let error = script.parse::<Script>().unwrap_err();
            check_error(text, &format!("line 1, column {column}, script: {error}"));
        };
        check("script = 'ok,statsu=503'", 14, "ok,statsu=503");
        check("script = \"é\"", 11, "é");
        // Where a character is escaped, it is the position of the value.
        check("script = \"\\u006fk,x\"", 10, "ok,x");
        check("script = '''ok,\nx'''", 10, "ok,\nx");
    }

    #[test]
    fn an_error_in_a_response_names_the_field() {
        let check = |response: &str, column: u32, expected: &str| {
            let text = format!("[[stub]]\npath = '/{{id}}'\n[stub.response]\n{response}");
            check_error(&text, &format!("line 4, column {column}, stub.response.{expected}"));
        };
        check("stats = 1", 1, "stats: no such field; did you mean status?");
        check("status = 600", 10, "status: expected a status from 200 to 599, found 600");
        check("status = 'x'", 10, "status: expected a status from 200 to 599, found \"x\"");
        check("text = '{idd}'", 8, "text: the path has no {idd}; did you mean {id}?");
        let tip = "expected one, or {query.NAME} or {header.NAME}; {{page}} is a text in braces";
        check("text = '{page}'", 8, &format!("text: the path has no {{page}}; {tip}"));
        check("json = { a = [1, { b = '{idd}' }] }", 24, "json.a.b: the path has no {idd}; did you mean {id}?");
        check("json = nan", 8, "json: JSON has no such number");
        check("bytes = '1K'", 9, "bytes: expected a number of bytes, such as 100, \"64KiB\" or \"1MiB\"");
        check("echo = false", 8, "echo: expected true");
        check("file = 'a'", 8, "file: files can only be used if the backend was started with a stub file");
        let length = "this field depends on the body; a script can change both: truncate, chunked";
        check("headers = { content-length = 1 }", 13, &format!("headers.content-length: {length}"));
        check("headers.a = \"\\n\"", 13, "headers.a: expected the value of a header field");
    }

    #[test]
    fn a_response_has_at_most_one_body() {
        check_error(
            "[[stub]]\nresponse = { text = '', bytes = 1 }",
            "line 2, column 25, stub.response.bytes: a response has one body, and text is one already",
        );
        check_error(
            "[[stub]]\nresponse = { status = 204, text = 'a' }",
            "line 2, column 28, stub.response.text: a response with status 204 has no body",
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = parse(&text, &Files::None);
        }

        #[test]
        fn text_like_a_stub_file_does_not_panic(lines in prop::collection::vec(line(), 0..8)) {
            if let Err(error) = parse(&lines.join("\n"), &Files::None) {
                prop_assert!(error.line() <= lines.len().max(1));
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let keys = "(path|script|text|json|status|headers|query|method|response.text|response.json)";
        let values = r"('[/a{}.*é]{0,6}'|[0-9]{1,4}|\{ a = '[a{}*]{0,4}' \}|\[1, 'a'\])";
        prop_oneof![
            Just("[[stub]]".to_owned()),
            Just("[stub.response]".to_owned()),
            (keys, values).prop_map(|(key, value)| format!("{key} = {value}")),
        ]
    }
}
