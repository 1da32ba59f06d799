//! The syntax of scripts: items, their parts and weights, how values are quoted, and comments. What names and values mean
//! is the business of `parse`.

use std::borrow::Cow;
use std::str::CharIndices;

use serde::de::IgnoredAny;

use crate::script::error::{Mistake, Problem};
use crate::script::span::Span;

/// The characters that end an unquoted value.
const SEPARATORS: [char; 3] = [',', ';', '*'];

/// The characters that end values with quotes or brackets.
const QUOTE_ENDS: [char; 3] = ['"', '}', ']'];

/// Starts a comment, which extends to the end of the line. In an unquoted value, only after a space or a line break.
const COMMENT: char = '#';

/// `part;part*weight`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// The item without its weight.
    pub(crate) span: Span<'a>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) weight: Option<Span<'a>>,
}

/// `name` or `name=value`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Whether the value has no quotes, and a comment follows it. In a text, that is probably a mistake.
    pub(crate) ends_at_comment: bool,
    pub(crate) span: Span<'a>,
    pub(crate) name: Span<'a>,
    /// The value without quotes and escapes.
    pub(crate) value: Option<Cow<'a, str>>,
}

/// Reads the items of a script, one after the other. There is at least one. A comma may follow the last one.
#[derive(Debug)]
pub(crate) struct Items<'a> {
    script: &'a str,
    position: usize,
    finished: bool,
}

impl<'a> Items<'a> {
    pub(crate) fn of(script: &'a str) -> Self {
        Self { script, position: 0, finished: false }
    }

    /// Returns the position of the next item in the script, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn item(&mut self) -> Result<Item<'a>, Mistake<'a>> {
        self.skip_blank();
        let start = self.position;
        let mut parts = vec![self.part()?];
        while self.skip(';') {
            parts.push(self.part()?);
        }
        // Without the comments that follow it.
        let end = parts.last().map_or(start, |part| part.span.position + part.span.text.len());
        let span = self.between(start, end);
        let weight = self.skip('*').then(|| self.take_until(&[',', COMMENT]));
        self.skip_blank();
        match self.take_until(&[',']) {
            Span { text: "", .. } => Ok(Item { span, parts, weight }),
            unexpected => Err(Mistake(unexpected, Problem::AfterComment)),
        }
    }

    fn part(&mut self) -> Result<Part<'a>, Mistake<'a>> {
        self.skip_blank();
        let start = self.position;
        let name = self.take_until(&['=', ',', ';', '*', COMMENT]);
        let value = if self.skip('=') { Some(self.value()?) } else { None };
        let span = self.since(start);
        let is_unquoted = value.is_some() && !span.text.ends_with(QUOTE_ENDS);
        let ends_at_comment = is_unquoted && self.rest().starts_with(COMMENT);
        self.skip_blank();
        Ok(Part { ends_at_comment, span, name, value })
    }

    fn value(&mut self) -> Result<Cow<'a, str>, Mistake<'a>> {
        let before = self.position;
        self.skip_spaces();
        let rest = Span { text: self.rest(), position: self.position };
        let (length, value) = match rest.text.chars().next() {
            Some(COMMENT) if self.position > before => Ok((0, "".into())),
            Some('"') => unquote(rest.text),
            Some('{' | '[') => bracketed(rest.text),
            _ => unquoted(rest.text),
        }
        .map_err(|problem| Mistake(rest.trim(), problem))?;
        self.position += length;
        match self.take_until(&[',', ';', '*', COMMENT]).text {
            "" => Ok(value),
            _ => Err(Mistake(self.since(rest.position), Problem::AfterValue)),
        }
    }

    fn rest(&self) -> &'a str {
        self.script.get(self.position..).unwrap_or_default()
    }

    fn skip(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        self.position += if found { c.len_utf8() } else { 0 };
        found
    }

    fn skip_spaces(&mut self) {
        self.position += self.rest().len() - self.rest().trim_start().len();
    }

    /// Skips spaces, line breaks and comments.
    fn skip_blank(&mut self) {
        self.skip_spaces();
        while self.rest().starts_with(COMMENT) {
            let comment = self.rest();
            self.position += comment.find('\n').unwrap_or(comment.len());
            self.skip_spaces();
        }
    }

    /// Takes everything up to one of these characters, or to the end.
    fn take_until(&mut self, ends: &[char]) -> Span<'a> {
        let start = self.position;
        self.position += self.rest().find(ends).unwrap_or(self.rest().len());
        self.since(start)
    }

    fn since(&self, start: usize) -> Span<'a> {
        self.between(start, self.position)
    }

    fn between(&self, start: usize, end: usize) -> Span<'a> {
        Span { text: self.script.get(start..end).unwrap_or_default(), position: start }.trim()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Mistake<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.item();
        self.finished = item.is_err() || !self.skip(',');
        if !self.finished {
            self.skip_blank();
            self.finished = self.rest().is_empty();
        }
        Some(item)
    }
}

/// Returns the length of an unquoted value with the spaces after it, and the value.
fn unquoted(text: &str) -> Result<(usize, Cow<'_, str>), Problem> {
    let follows_space = |index: usize| text.get(..index).is_some_and(|before| before.ends_with(char::is_whitespace));
    // Not in the rest of the script, which would be searched for each value.
    let before_separator = text.split(SEPARATORS).next().unwrap_or_default();
    let mut comments = before_separator.match_indices(COMMENT).map(|(index, _)| index);
    let length = comments.find(|index| follows_space(*index)).unwrap_or(before_separator.len());
    let value = text.get(..length).unwrap_or_default().trim();
    if value.contains('"') { Err(Problem::Quotes) } else { Ok((length, value.into())) }
}

/// Returns the length of a value in double quotes, and the value without quotes and escapes.
fn unquote(text: &str) -> Result<(usize, Cow<'_, str>), Problem> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((index + 1, value.into())),
            '\\' => {
                let escaped = chars.next().map(|(_, c)| c).filter(|c| ['"', '\\'].contains(c));
                value.push(escaped.ok_or(Problem::Escape)?);
            }
            c => value.push(c),
        }
    }
    Err(Problem::Quotes)
}

/// Returns the length of a value that starts with a bracket and ends with the matching one, and the value. Brackets in
/// JSON strings are ignored.
fn bracketed(text: &str) -> Result<(usize, Cow<'_, str>), Problem> {
    let mut open = Vec::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => skip_string(&mut chars),
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' if open.pop() != Some(c) => return Err(Problem::Brackets),
            '}' | ']' if open.is_empty() => {
                let length = index + c.len_utf8();
                let value = text.get(..length).unwrap_or_default();
                // A JSON with a mistake is rarely meant. One that is can be quoted.
                serde_json::from_str::<IgnoredAny>(value).map_err(|_| Problem::NotJson)?;
                return Ok((length, value.into()));
            }
            _ => {}
        }
    }
    Err(Problem::Brackets)
}

/// Skips the rest of a JSON string.
fn skip_string(chars: &mut CharIndices<'_>) {
    while let Some((_, c)) = chars.next() {
        match c {
            '"' => return,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
}

/// Formats a value as in a script, with quotes if its syntax needs them, or if it is `ambiguous` otherwise.
pub(crate) fn quote(value: &str, ambiguous: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let plain = if value.starts_with(['{', '[']) {
        bracketed(value).is_ok_and(|(length, _)| length == value.len())
    } else {
        !value.is_empty()
            && value.trim() == value
            && !value.contains(['"', ',', ';', '*', COMMENT])
            && !ambiguous(value)
    };
    if plain { value.into() } else { format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_value(text: &str, expected: Result<&str, Problem>) {
        let script = format!("a={text}");
        let item = Items::of(&script).next().unwrap();
        let value = item.map(|item| item.parts[0].value.clone().unwrap()).map_err(|Mistake(_, problem)| problem);
        assert_eq!(value.as_deref().map_err(|problem| *problem), expected, "{text}");
    }

    #[test]
    fn items_parts_and_weights_have_positions() {
        let items: Vec<_> = Items::of(" é ; b = 1 * 2 ,c").map(Result::unwrap).collect();
        let [first, second] = &items[..] else { panic!("{items:?}") };
        assert_eq!(first.span, Span { text: "é ; b = 1", position: 1 });
        assert_eq!(first.weight, Some(Span { text: "2", position: 14 }));
        let names: Vec<_> = first.parts.iter().map(|part| (part.name.text, part.name.position)).collect();
        assert_eq!(names, [("é", 1), ("b", 6)]);
        assert_eq!(first.parts[1].value.as_deref(), Some("1"));
        assert_eq!((second.span.text, second.span.position, second.weight), ("c", 17, None));
    }

    #[test]
    fn there_is_an_item_before_every_comma_and_one_after_the_last_unless_it_is_empty() {
        for (script, expected) in
            [("", 1), ("a", 1), ("a,", 1), ("a, \n", 1), (",,", 2), ("a=\",\",b={\"c\":[1,2]},d", 3)]
        {
            assert_eq!(Items::of(script).count(), expected, "{script}");
        }
    }

    #[test]
    fn comments_extend_to_the_end_of_the_line() {
        for script in [
            "# x, y\na=1;b*2,c",
            "a=1;b*2, # x\n# y=\"\n\nc,#",
            "a=1 # x\n;b # y\n*2 # z\n,c # end",
            "a=\"1\" # x\r\n;b*2,\r\nc,",
        ] {
            let items: Vec<_> = Items::of(script).map(Result::unwrap).collect();
            let [first, second] = &items[..] else { panic!("{script}: {items:?}") };
            let parts: Vec<_> = first.parts.iter().map(|part| (part.name.text, part.value.as_deref())).collect();
            assert_eq!(parts, [("a", Some("1")), ("b", None)], "{script}");
            assert_eq!(first.weight.map(|weight| weight.text), Some("2"), "{script}");
            assert_eq!(second.span.text, "c", "{script}");
        }
        check_value("a#b", Ok("a#b"));
        check_value("#b", Ok("#b"));
        check_value("\"a #b\"", Ok("a #b"));
        check_value("a #b", Ok("a"));
        check_value(" #b", Ok(""));
        check_value("a # x\n b", Err(Problem::AfterComment));
        assert_eq!(quote("a #b", |_| false), "\"a #b\"");
    }

    #[test]
    fn values_can_be_quoted() {
        check_value("b c ", Ok("b c"));
        check_value("", Ok(""));
        check_value("\"\"", Ok(""));
        check_value(" \"b;c,d*e=f\" ", Ok("b;c,d*e=f"));
        check_value(r#""b \"c\" \\ d""#, Ok(r#"b "c" \ d"#));
        check_value(r"b\c", Ok(r"b\c"));
        check_value(r#""b\nc""#, Err(Problem::Escape));
        check_value("\"b", Err(Problem::Quotes));
        check_value("b\"", Err(Problem::Quotes));
        check_value("\"b\"c\"", Err(Problem::AfterValue));
    }

    #[test]
    fn json_needs_no_quotes() {
        for json in [r#"{"a":1,"b":[2,3]}"#, "[]", "[[1, {}]]", r#"{"}":"\"]","b":"\\"}"#, r#"{ "é": "*;" }"#] {
            check_value(json, Ok(json));
        }
        for text in ["{", "[1", "{]", "{\"}", r#"{"\"}"#] {
            check_value(text, Err(Problem::Brackets));
        }
        check_value("[1] 2", Err(Problem::AfterValue));
    }
}
