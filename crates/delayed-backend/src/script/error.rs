//! Invalid scripts: what is wrong, and where.

use crate::script::span::Span;
use crate::text_position::line_and_column;

/// An invalid script. Displayed as one line, with the position of the mistake.
///
/// ```
/// use delayed_backend::Script;
///
/// let error = "ok,\n  statsu=503".parse::<Script>().unwrap_err();
/// assert_eq!((error.line(), error.column()), (2, 3));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {item}, {}column {column}, {found:?}: {message}", if *.line > 1 { format!("line {line}, ") } else { String::new() })]
pub struct ScriptError {
    item: usize,
    line: usize,
    column: usize,
    found: String,
    message: String,
}

impl ScriptError {
    /// Returns the line of the mistake; the first is line 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the column of the mistake in its line, in characters; the first is column 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// Returns the error for a mistake in the item with this number; the first is number 1.
    pub(crate) fn new(script: &str, item: usize, span: Span<'_>, message: String) -> Self {
        let (line, column) = line_and_column(script, span.position);
        Self { item, line, column, found: span.text.to_owned(), message }
    }
}

/// A part of the script, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mistake<'a>(pub(crate) Span<'a>, pub(crate) Problem);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("a behavior is missing")]
    Missing,
    #[error("no such behavior")]
    Unknown,
    #[error("a text that contains a behavior needs double quotes")]
    BehaviorInText,
    #[error("expected {0}")]
    Value(&'static str),
    #[error("a double quote is missing or misplaced; in quotes, it is written \\\"")]
    Quotes,
    #[error("in quotes, a backslash can only come before a double quote or a backslash")]
    Escape,
    #[error("a closing bracket is missing or misplaced; a text that is not JSON needs quotes, such as body=\"[a\"")]
    Brackets,
    #[error("this is not JSON, which has double quotes; a text that is not JSON needs quotes, such as body=\"{{a\"")]
    NotJson,
    #[error("expected a comma, a semicolon or an asterisk after the value")]
    AfterValue,
    #[error("expected a comma before the comment")]
    AfterComment,
    #[error("a # after a space starts a comment; a text that contains it needs double quotes")]
    CommentInText,
    #[error("given twice")]
    Twice,
    #[error("ok cannot be combined with other behaviors; remove it")]
    Alone,
    #[error("a request can have only one fault")]
    TwoFaults,
    #[error("this fault sends no response, so it can be combined with delay only")]
    NoResponse,
    #[error("retry-after and retry-after-date need a status, joined by a semicolon, such as status=503;retry-after=1")]
    NeedsStatus,
    #[error("expected one number from 1 to 4294967295 after *, such as ok*3")]
    Weight,
}
