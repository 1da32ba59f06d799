//! Texts with placeholders for values of the request, such as `{id}`.

use http::HeaderName;

use crate::stubs::path_pattern::is_name;

/// A text with placeholders: `{id}` for a parameter of the path, `{query.page}` and `{header.accept}`.
///
/// `{{id}}` stands for the text `{id}`. Other braces are ordinary characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// A parameter of the path.
    Parameter(String),
    /// A query parameter; empty if there is none.
    Query(String),
    /// A header field; empty if there is none.
    Header(HeaderName),
}

impl Template {
    /// Parses a text. `parameters` are the names of the path's parameters.
    ///
    /// # Errors
    ///
    /// The name in a placeholder that stands for nothing.
    pub(crate) fn parse(text: &str, parameters: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_name(rest) {
            let escaped = before.strip_suffix('{').zip(after.strip_prefix('}'));
            if let Some((before, after)) = escaped {
                parts.push(Part::Text(format!("{before}{{{name}}}")));
                rest = after;
            } else {
                parts.push(Part::Text(before.to_owned()));
                parts.push(Part::Value(Placeholder::parse(name, parameters).ok_or_else(|| name.to_owned())?));
                rest = after;
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// Returns the text, with the values that `value` returns for the placeholders.
    pub(crate) fn fill(&self, value: impl Fn(&Placeholder) -> String) -> String {
        let texts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(placeholder) => value(placeholder),
        });
        texts.collect()
    }
}

impl Placeholder {
    fn parse(name: &str, parameters: &[&str]) -> Option<Self> {
        match name.split_once('.') {
            None => parameters.contains(&name).then(|| Self::Parameter(name.to_owned())),
            Some(("query", name)) => Some(Self::Query(name.to_owned())),
            Some(("header", name)) => name.parse().ok().map(Self::Header),
            Some(_) => None,
        }
    }
}

/// Finds the next name in braces. Returns it with the text before and after the braces.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(open, _)| {
        let (before, rest) = text.split_at_checked(open)?;
        let (name, after) = rest.strip_prefix('{')?.split_once('}')?;
        name.split('.').all(is_name).then_some((before, name, after))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &["id", "rest"])?;
        Ok(template.fill(|placeholder| match placeholder {
            Placeholder::Parameter(name) => format!("<{name}>"),
            Placeholder::Query(name) => format!("<?{name}>"),
            Placeholder::Header(name) => format!("<{name}:>"),
        }))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn placeholders_are_filled() {
        check("", "");
        check("a", "a");
        check("{id}", "<id>");
        check("{id}{rest}", "<id><rest>");
        check("a {id} b {query.page} c {header.X-Id} d", "a <id> b <?page> c <x-id:> d");
    }

    #[test]
    fn other_braces_are_ordinary_characters() {
        check("{", "{");
        check("}{", "}{");
        check("{}", "{}");
        check(r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1}}"#);
        check(r#"{"a": {id}}"#, r#"{"a": <id>}"#);
        check("a{color: red}", "a{color: red}");
        check("{{id}}", "{id}");
        check("{{other}} {id}", "{other} <id>");
        check("{ {id} }", "{ <id> }");
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_an_error() {
        for (text, name) in [("{idd}", "idd"), ("{id} {page}", "page"), ("{cookie.a}", "cookie.a")] {
            assert_eq!(filled(text), Err(name.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a.]{0,12}") {
            let _ = filled(&text);
        }

        #[test]
        fn a_text_without_braces_stays(text in "[^{}]{0,20}") {
            prop_assert_eq!(filled(&text), Ok(text));
        }
    }
}
