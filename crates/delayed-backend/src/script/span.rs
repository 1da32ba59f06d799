//! Pieces of a text, cut so that each still knows where it stood.

/// A part of a text, and where it starts there, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Piece<'a> {
    pub(crate) fn from(self, start: usize) -> Self {
        Self { text: self.text.get(start..).unwrap_or_default(), at: self.at + start }
    }

    pub(crate) fn to(self, end: usize) -> Self {
        Self { text: self.text.get(..end).unwrap_or_default(), ..self }
    }

    pub(crate) fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), at: self.at + self.text.len() - text.len() }
    }

    /// The pieces between the separators that stand outside quotes; always at least one.
    pub(crate) fn split(self, separator: char) -> Vec<Self> {
        let mut pieces = Vec::new();
        let (mut start, mut quoted) = (0, false);
        for (at, c) in self.text.char_indices() {
            quoted ^= c == '"';
            if c == separator && !quoted {
                pieces.push(self.to(at).from(start));
                start = at + c.len_utf8();
            }
        }
        pieces.push(self.from(start));
        pieces
    }

    /// What stands between the quotes, if there are any; nothing if they do not match.
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

    fn piece(text: &str) -> Piece<'_> {
        Piece { text, at: 0 }
    }

    #[test]
    fn separators_in_quotes_do_not_separate() {
        let check = |text: &str, expected: &[(&str, usize)]| {
            let pieces = piece(text).split(',');
            let pieces: Vec<_> = pieces.iter().map(|piece| (piece.text, piece.at)).collect();
            assert_eq!(pieces, expected);
        };
        check("", &[("", 0)]);
        check("a,b", &[("a", 0), ("b", 2)]);
        check("a,", &[("a", 0), ("", 2)]);
        check("\"a,b\",c", &[("\"a,b\"", 0), ("c", 6)]);
        check("é,\"b,c", &[("é", 0), ("\"b,c", 3)]);
    }

    #[test]
    fn pieces_know_where_they_stand() {
        let inner = piece("ab  cd ").from(2).trim();
        assert_eq!((inner.text, inner.at), ("cd", 4));
        assert_eq!((inner.to(1).text, inner.from(1).at), ("c", 5));
        assert_eq!(inner.from(9).text, "");
    }

    #[test]
    fn quotes_come_in_pairs() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(piece(text).unquote().map(|piece| piece.text), expected);
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
