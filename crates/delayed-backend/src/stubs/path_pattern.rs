//! Patterns for paths, such as `/items/{id}`.

use percent_encoding::percent_decode_str;

/// A pattern for the path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
    /// The name of the remainder: `rest` in a last `{rest...}`.
    rest: Option<String>,
}

/// A segment: a text, or a parameter with the text around it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Parameter { before: String, name: String, after: String },
}

/// Why a pattern is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    #[error("a path starts with /, such as /items/{{id}}")]
    Slash,
    #[error("a path contains no query; use query = {{ page = \"2\" }}")]
    Query,
    #[error("a segment has at most one parameter, with a name of letters, digits, _ and -, such as {{id}}")]
    Parameter,
    #[error(
        "a name with ... stands for the remainder of the path, so nothing can follow it or precede it in its segment"
    )]
    Rest,
    #[error("two parameters have the same name")]
    Twice,
}

/// The path of a request: its segments, decoded. A slash that is percent-encoded is part of its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestPath(Vec<String>);

impl RequestPath {
    /// Splits a path. A path that does not start with a slash, such as `*`, matches no pattern.
    pub(crate) fn new(path: &str) -> Self {
        let segments = path.strip_prefix('/').map(|path| path.split('/').map(decoded).collect());
        Self(segments.unwrap_or_default())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPath> {
        let path = text.strip_prefix('/').ok_or(InvalidPath::Slash)?;
        if path.contains(['?', '#']) {
            return Err(InvalidPath::Query);
        }
        let mut texts: Vec<&str> = path.split('/').collect();
        let rest = texts.last().and_then(|last| last.strip_suffix("...}")).map(|last| {
            let name = last.strip_prefix('{').ok_or(InvalidPath::Rest)?;
            if is_name(name) { Ok(name.to_owned()) } else { Err(InvalidPath::Parameter) }
        });
        let rest = rest.transpose()?;
        if rest.is_some() {
            texts.pop();
        }
        let segments = texts.into_iter().map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let pattern = Self { segments, rest };
        let names = pattern.names();
        let repeated =
            names.iter().enumerate().any(|(index, name)| names.iter().skip(index + 1).any(|one| one == name));
        if repeated { Err(InvalidPath::Twice) } else { Ok(pattern) }
    }

    /// Returns the names of the parameters.
    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.segments.iter().filter_map(|segment| match segment {
            Segment::Text(_) => None,
            Segment::Parameter { name, .. } => Some(name.as_str()),
        });
        names.chain(self.rest.as_deref()).collect()
    }

    /// Returns the names and values of the parameters if the pattern matches the full path.
    pub(crate) fn match_path(&self, path: &RequestPath) -> Option<Vec<(String, String)>> {
        let (segments, rest) = path.0.split_at_checked(self.segments.len())?;
        let mut parameters = Vec::new();
        for (pattern, text) in self.segments.iter().zip(segments) {
            match pattern {
                Segment::Text(expected) if expected == text => {}
                Segment::Text(_) => return None,
                Segment::Parameter { before, name, after } => {
                    let value = text.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                    parameters.push((name.clone(), (!value.is_empty()).then(|| value.to_owned())?));
                }
            }
        }
        match (&self.rest, rest) {
            (Some(name), [_, ..]) => parameters.push((name.clone(), rest.join("/"))),
            (None, []) => {}
            (Some(_), []) | (None, _) => return None,
        }
        Some(parameters)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, InvalidPath> {
        let Some((before, rest)) = text.split_once('{') else {
            return if text.contains('}') { Err(InvalidPath::Parameter) } else { Ok(Self::Text(decoded(text))) };
        };
        let (name, after) = rest.split_once('}').ok_or(InvalidPath::Parameter)?;
        if name.ends_with("...") {
            return Err(InvalidPath::Rest);
        }
        if !is_name(name) || [before, after].iter().any(|text| text.contains(['{', '}'])) {
            return Err(InvalidPath::Parameter);
        }
        Ok(Self::Parameter { before: decoded(before), name: name.to_owned(), after: decoded(after) })
    }
}

/// Returns whether a parameter can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `None`: no match. Otherwise `name=value` for each parameter, separated by spaces.
    #[track_caller]
    fn check(pattern: &str, rows: &[(&str, Option<&str>)]) {
        let pattern = PathPattern::parse(pattern).unwrap();
        for (path, expected) in rows {
            let parameters = pattern.match_path(&RequestPath::new(path));
            let shown = parameters.map(|parameters| {
                let shown: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                shown.join(" ")
            });
            assert_eq!(shown.as_deref(), *expected, "{pattern:?} {path}");
        }
    }

    #[test]
    fn a_text_matches_itself() {
        check("/", &[("/", Some("")), ("", None), ("*", None), ("/a", None), ("//", None)]);
        check("/a/b", &[("/a/b", Some("")), ("/a", None), ("/a/b/", None), ("/a/b/c", None), ("/A/b", None)]);
        check("/a/", &[("/a/", Some("")), ("/a", None), ("/a/b", None)]);
        check("/th%C3%A9", &[("/th%c3%a9", Some("")), ("/the", None)]);
        check("/thé", &[("/th%C3%A9", Some(""))]);
    }

    #[test]
    fn a_parameter_is_one_segment_or_a_part_of_it() {
        check(
            "/items/{id}",
            &[
                ("/items/7", Some("id=7")),
                ("/items/a%2Fb%20c", Some("id=a/b c")),
                ("/items/%ff", Some("id=\u{fffd}")),
                ("/items/", None),
                ("/items", None),
                ("/items/7/8", None),
            ],
        );
        check("/{a}/x/{b}", &[("/1/x/2", Some("a=1 b=2")), ("/1/y/2", None)]);
        check("/v{n}/{id}.json", &[("/v1/7.json", Some("n=1 id=7")), ("/v/7.json", None), ("/v1/.json", None)]);
    }

    #[test]
    fn the_remainder_can_be_several_segments() {
        check(
            "/files/{path...}",
            &[
                ("/files/a", Some("path=a")),
                ("/files/a/b", Some("path=a/b")),
                ("/files/", Some("path=")),
                ("/files", None),
                ("/other/a", None),
            ],
        );
        check("/{all...}", &[("/", Some("all=")), ("/a/b", Some("all=a/b")), ("*", None), ("", None)]);
    }

    #[test]
    fn other_patterns_are_rejected() {
        for (pattern, expected) in [
            ("", InvalidPath::Slash),
            ("items", InvalidPath::Slash),
            ("/a?b=1", InvalidPath::Query),
            ("/{", InvalidPath::Parameter),
            ("/}", InvalidPath::Parameter),
            ("/{}", InvalidPath::Parameter),
            ("/{a b}", InvalidPath::Parameter),
            ("/{a}{b}", InvalidPath::Parameter),
            ("/{...}", InvalidPath::Parameter),
            ("/{a...}/b", InvalidPath::Rest),
            ("/x{a...}", InvalidPath::Rest),
            ("/{a}/{a}", InvalidPath::Twice),
            ("/{a}/{a...}", InvalidPath::Twice),
        ] {
            assert_eq!(PathPattern::parse(pattern), Err(expected), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_panics(pattern in ".{0,20}", path in ".{0,20}") {
            if let Ok(pattern) = PathPattern::parse(&pattern) {
                pattern.match_path(&RequestPath::new(&path));
            }
        }

        #[test]
        fn a_pattern_like_a_valid_one_does_not_panic(pattern in "/([a/{}.%]|\\.\\.\\.\\}){0,12}", path in "/[a/.%]{0,12}") {
            if let Ok(pattern) = PathPattern::parse(&pattern) {
                let parameters = pattern.match_path(&RequestPath::new(&path));
                prop_assert!(parameters.is_none_or(|parameters| parameters.len() == pattern.names().len()));
            }
        }

        #[test]
        fn a_pattern_matches_the_path_it_is_filled_to(before in "[a-z%]{0,3}", value in "[a-z%.]{1,5}") {
            let encoded = |text: &str| text.replace('%', "%25");
            let pattern = PathPattern::parse(&format!("/{}{{id}}/x", encoded(&before))).unwrap();
            let path = RequestPath::new(&format!("/{}{}/x", encoded(&before), encoded(&value)));
            prop_assert_eq!(pattern.match_path(&path), Some(vec![("id".to_owned(), value)]));
        }
    }
}
