//! Patterns for the values of header fields and query parameters.

/// A text in which each `*` stands for any text, even an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextPattern {
    /// The texts between the asterisks. A pattern without asterisks has one.
    parts: Vec<String>,
}

impl TextPattern {
    pub(crate) fn new(text: &str) -> Self {
        Self { parts: text.split('*').map(str::to_owned).collect() }
    }

    /// Returns whether the pattern matches the full text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let [first, between @ .., last] = self.parts.as_slice() else {
            return self.parts.iter().all(|part| part == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        // The leftmost occurrence of a part leaves the most text for the parts after it.
        between.iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let pattern = TextPattern::new(pattern);
        for text in matching {
            assert!(pattern.matches(text), "{pattern:?} {text:?}");
        }
        for text in other {
            assert!(!pattern.matches(text), "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn an_asterisk_stands_for_any_text() {
        check("", &[""], &["a"]);
        check("a", &["a"], &["", "A", "aa"]);
        check("*", &["", "a", "é"], &[]);
        check("Bearer *", &["Bearer ", "Bearer a"], &["Bearer", "bearer a", "a Bearer a"]);
        check("*; charset=utf-8", &["text/plain; charset=utf-8"], &["text/plain"]);
        check("*session=abc*", &["session=abc", "a=1; session=abc; b=2"], &["session=ab", "session=xabc"]);
        check("a*a", &["aa", "aba"], &["a", "ab", "ba"]);
        check("a*b*b*c", &["abbc", "axbybzc", "abbbc"], &["abc", "acbb"]);
        check("**", &["", "a"], &[]);
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_it_is_filled_with(parts in prop::collection::vec("[ab]{0,3}", 1..5), fill in "[abc]{0,3}") {
            prop_assert!(TextPattern::new(&parts.join("*")).matches(&parts.join(&fill)));
        }

        #[test]
        fn no_pattern_panics(pattern in ".{0,12}", text in ".{0,12}") {
            let _ = TextPattern::new(&pattern).matches(&text);
            let part = TextPattern::new(&format!("*{}*", text.replace('*', "")));
            prop_assert!(part.matches(&text.replace('*', "")));
        }
    }
}
