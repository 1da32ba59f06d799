//! Parts of a text, with their positions.

/// A part of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) text: &'a str,
    /// The position in the full text, in bytes.
    pub(crate) position: usize,
}

impl<'a> Span<'a> {
    pub(crate) fn from(self, start: usize) -> Self {
        Self { text: self.text.get(start..).unwrap_or_default(), position: self.position + start }
    }

    pub(crate) fn to(self, end: usize) -> Self {
        Self { text: self.text.get(..end).unwrap_or_default(), ..self }
    }

    pub(crate) fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), position: self.position + self.text.len() - text.len() }
    }

    /// Splits at the separators that are outside of quotes. Returns at least one span.
    pub(crate) fn split(self, separator: char) -> Vec<Self> {
        let mut spans = Vec::new();
        let (mut start, mut quoted) = (0, false);
        for (index, c) in self.text.char_indices() {
            quoted ^= c == '"';
            if c == separator && !quoted {
                spans.push(self.to(index).from(start));
                start = index + c.len_utf8();
            }
        }
        spans.push(self.from(start));
        spans
    }

    /// Removes the quotes around the text, if there are any. Returns `None` if quotes do not match.
    pub(crate) fn unquote(self) -> Option<Self> {
        let inner = match self.text.strip_prefix('"') {
            None => self.text,
            Some(rest) => rest.strip_suffix('"')?,
        };
        (!inner.contains('"')).then_some(Self { text: inner, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span<'_> {
        Span { text, position: 0 }
    }

    #[test]
    fn separators_in_quotes_are_ignored() {
        let check = |text: &str, expected: &[(&str, usize)]| {
            let spans = span(text).split(',');
            let spans: Vec<_> = spans.iter().map(|span| (span.text, span.position)).collect();
            assert_eq!(spans, expected);
        };
        check("", &[("", 0)]);
        check("a,b", &[("a", 0), ("b", 2)]);
        check("a,", &[("a", 0), ("", 2)]);
        check("\"a,b\",c", &[("\"a,b\"", 0), ("c", 6)]);
        check("é,\"b,c", &[("é", 0), ("\"b,c", 3)]);
    }

    #[test]
    fn spans_keep_their_position() {
        let inner = span("ab  cd ").from(2).trim();
        assert_eq!((inner.text, inner.position), ("cd", 4));
        assert_eq!((inner.to(1).text, inner.from(1).position), ("c", 5));
        assert_eq!(inner.from(9).text, "");
    }

    #[test]
    fn quotes_have_to_match() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(span(text).unquote().map(|span| span.text), expected);
        };
        check("a", Some("a"));
        check("\"a b\"", Some("a b"));
        check("\"\"", Some(""));
        check("\"", None);
        check("\"a", None);
        check("a\"", None);
        check("\"a\"b\"", None);
    }
}
