//! Invalid stub files: what is wrong, and where.

use std::fmt;
use std::ops::Range;

use crate::spelling::similar;
use crate::text_position::line_and_column;

/// Faults of the TLS handshake cannot be in the script of a stub.
pub(crate) const TLS_IN_STUB: &str = "faults of the TLS handshake belong in the script outside of the stubs";

/// The script of a stub cannot be [replaced](crate::Backend::set_stub_script): there is no such stub, or the script has
/// faults of the TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StubScriptError(String);

impl StubScriptError {
    pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.collect();
        let tip = match similar(name, known.iter().copied()) {
            _ if known.is_empty() => "there are no stubs".to_owned(),
            Some(similar) => format!("did you mean {similar:?}?"),
            None => format!("expected one of {known:?}"),
        };
        Self(format!("no stub has the name {name:?}; {tip}"))
    }

    pub(crate) fn tls() -> Self {
        Self(TLS_IN_STUB.to_owned())
    }
}

/// An invalid stub file. Displayed as one line, with the position of the mistake.
///
/// ```
/// use delayed_backend::Stubs;
///
/// let error = "[[stub]]\nmethods = 'GET'".parse::<Stubs>().unwrap_err();
/// assert_eq!((error.line(), error.column(), error.field()), (2, 1, "stub.methods"));
/// assert_eq!(error.to_string(), "line 2, column 1, stub.methods: no such field; did you mean method?");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubError {
    line: usize,
    column: usize,
    field: String,
    message: String,
}

/// A part of a stub file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The position in the text, in bytes.
    pub(crate) position: usize,
    /// The names of the tables and the field, separated by dots. Empty if the text is not TOML.
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Mistake {
    pub(crate) fn new(span: &Range<usize>, field: &str, message: impl fmt::Display) -> Self {
        Self { position: span.start, field: field.to_owned(), message: message.to_string() }
    }
}

impl StubError {
    pub(crate) fn new(text: &str, mistake: Mistake) -> Self {
        let Mistake { position, field, message } = mistake;
        let (line, column) = line_and_column(text, position);
        Self { line, column, field, message }
    }

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

    /// Returns the field, such as `stub.response.status`. Empty if the text is not TOML.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns what is wrong, without the position.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for StubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for StubError {}
