//! Stubs: what the backend responds to requests with other paths than those of its own routes.

pub(crate) mod error;
mod fields;
pub(crate) mod files;
mod json;
mod parse;
mod path_pattern;
pub(crate) mod response;
pub(crate) mod stub;
mod template;
mod text_pattern;

use std::fmt;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::script::Script;
use crate::stubs::error::StubError;
use crate::stubs::files::Files;
use crate::stubs::stub::Stub;

/// The stubs of a backend: requests to match, and what to respond.
///
/// They are read from TOML; `docs/stubs.md` in the repository describes all fields. The first stub that matches a request
/// responds to it, and plays its own script. Requests that match no stub meet the routes of the [crate](crate), or 404.
///
/// ```
/// use delayed_backend::Stubs;
///
/// let stubs: Stubs = r#"
///     [[stub]]
///     method = "GET"
///     path = "/items/{id}"
///     script = "status=503;retry-after=1,ok"
///     [stub.response]
///     json = { id = "{id}", name = "tea" }
/// "#.parse()?;
/// let error = "[[stub]]\nresponse = { status = 99 }".parse::<Stubs>().unwrap_err();
/// assert_eq!((error.line(), error.field()), (2, "stub.response.status"));
/// # Ok::<(), delayed_backend::StubError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stubs {
    text: String,
    pub(crate) files: Files,
    /// The script of the requests that match no stub.
    pub(crate) script: Option<Script>,
    /// Where the text has this script.
    script_span: Range<usize>,
    pub(crate) stubs: Vec<Arc<Stub>>,
}

impl Stubs {
    /// Reads a stub file, and the files that it refers to. Their names are relative to the folder of the stub file.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or if the stub file is invalid. The message names the file, and contains the
    /// [`StubError`].
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let invalid =
            |error: StubError| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        Self::parse(&text, Files::RelativeTo(folder)).map_err(invalid)
    }

    /// Returns whether there are stubs.
    pub(crate) fn is_some(&self) -> bool {
        !self.stubs.is_empty()
    }

    pub(crate) fn parse(text: &str, files: Files) -> Result<Self, StubError> {
        let file = parse::parse(text, &files)?;
        let stubs = file.stubs.into_iter().map(Arc::new).collect();
        let (script, span) = file.script.unzip();
        Ok(Self { text: text.to_owned(), files, script, script_span: span.unwrap_or_default(), stubs })
    }

    /// Replaces the script of the requests that match no stub, if the stubs come with one.
    pub(crate) fn with_script(mut self, script: &Script) -> Self {
        if self.script.is_some() {
            let quoted = toml::Value::String(script.to_string()).to_string();
            let start = self.script_span.start;
            self.text.replace_range(mem::replace(&mut self.script_span, start..start + quoted.len()), &quoted);
            self.script = Some(script.clone());
        }
        self
    }
}

/// Parses TOML that refers to no files.
impl FromStr for Stubs {
    type Err = StubError;

    fn from_str(text: &str) -> Result<Self, StubError> {
        Self::parse(text, Files::None)
    }
}

/// Returns the TOML that was parsed. If the script has been replaced, it contains the new one.
impl fmt::Display for Stubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
