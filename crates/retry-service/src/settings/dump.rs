//! The settings in force as text, for `--print-config` and `/config`.

use std::fmt;

use clap::Arg;

use super::{
    flags,
    input::{Input, Source},
    upstream::UpstreamList,
};

/// Every setting in force, as a TOML file with the source of each value in a comment. The user name and password in a
/// URL of the upstream are not shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dump(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    name: String,
    /// `None` if it is not set.
    value: Option<String>,
    source: Source,
    /// Whether the value is the default, even if it was given.
    is_default: bool,
}

impl Dump {
    pub(super) fn new(input: &Input) -> Self {
        let line = |arg: &Arg| {
            let id = arg.get_id().as_str();
            let name = arg.get_long().unwrap_or(id).to_owned();
            // Only the upstream may have several.
            let raw = input.matches.get_raw(id).map(|values| values.map(|value| value.to_string_lossy()));
            let value = raw.map(|values| values.collect::<Vec<_>>().join(","));
            let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let is_default = value == default;
            let value =
                value.map(|value| if name == "upstream" { UpstreamList::from(&*value).to_string() } else { value });
            Line { name, value, source: input.source(arg), is_default }
        };
        Self(input.command.get_arguments().filter(|arg| flags::is_setting(arg)).map(line).collect())
    }

    fn line(&self, name: &str) -> Option<&Line> {
        self.0.iter().find(|line| line.name == name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.line(name)?.value.as_deref()
    }

    /// Returns the name of a setting as it was given: its flag, its variable, or its line of the file. `None` if it has
    /// its default.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        let line = self.line(name).filter(|line| !line.is_default && line.source != Source::Default)?;
        Some(line.source.name(name))
    }

    /// Returns the names of the settings that have another value in `other`.
    pub(super) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(line, other)| line.value != other.value).map(|(line, _)| line.name.as_str())
    }

    /// Replaces the line of a setting by that of another dump.
    pub(super) fn keep(&mut self, name: &str, from: &Self) {
        if let Some((line, kept)) = self.0.iter_mut().find(|line| line.name == name).zip(from.line(name)) {
            let differing = std::mem::replace(line, kept.clone()).source;
            line.source = Source::Kept(differing.to_string());
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Line { name, value, source, .. }| match value {
            Some(value) => {
                let setting = format!("{name} = {}", toml::Value::from(value.as_str()));
                writeln!(f, "{setting:<48} # {source}")
            }
            None => writeln!(f, "# {name} is not set"),
        })
    }
}
