//! Parts of a script.

/// A part of a script, with its position in the script in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub(crate) text: &'a str,
    pub(crate) position: usize,
}

impl Span<'_> {
    /// Removes the spaces around the text.
    pub(crate) fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), position: self.position + self.text.len() - text.len() }
    }
}
