//! Why settings cannot be used: one line that names the setting, its value and what is expected.

use std::{ffi::OsString, fmt, io::IsTerminal as _};

use crate::common::usage_error;

/// The settings are invalid, or the command line asks for help instead.
#[derive(Debug)]
pub struct SettingsError {
    message: String,
    /// The setting that is invalid together with others, so that its parser could not tell.
    setting: Option<String>,
    is_help: bool,
}

impl SettingsError {
    pub(super) fn invalid(message: &str) -> Self {
        Self { message: printable(message), setting: None, is_help: false }
    }

    pub(super) fn setting(name: impl Into<String>, reason: &impl ToString) -> Self {
        Self { setting: Some(name.into()), ..Self::invalid(&reason.to_string()) }
    }

    pub(super) fn usage(error: &clap::Error, command: &clap::Command, args: &[OsString]) -> Self {
        if error.use_stderr() {
            return Self::invalid(&usage_error::one_line(error, command, args));
        }
        let text = error.render();
        let message = if std::io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        Self { message, setting: None, is_help: true }
    }

    /// Names where the setting was set, such as the line of the file, in place of its flag.
    pub(super) fn located(self, locate: impl Fn(&str) -> String) -> Self {
        match &self.setting {
            Some(name) => Self::invalid(&format!("{}: {}", locate(name), self.message)),
            None => self,
        }
    }

    /// Returns the text of `--help` or `--version`, if that was asked for.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.is_help.then_some(&*self.message)
    }
}

/// Returns the message on one line, since values and keys may contain line breaks, and without the user name and
/// password of a URL that was given for another setting.
fn printable(message: &str) -> String {
    let mut parts = message.split("://");
    let mut printable = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || "'\"/".contains(c)).unwrap_or(part.len());
        let secret = part.get(..end).and_then(|authority| authority.rfind('@')).filter(|_| !part.starts_with("***"));
        printable += "://";
        printable += if secret.is_some() { "***" } else { "" };
        printable += part.get(secret.unwrap_or(0)..).unwrap_or_default();
    }
    printable.replace(['\n', '\r'], " ")
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.setting {
            Some(name) => write!(f, "--{name}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for SettingsError {}
