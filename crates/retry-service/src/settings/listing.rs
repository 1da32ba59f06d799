//! What is in force, and where each value came from.

use std::fmt;

use clap::{ArgMatches, parser::ValueSource};

use super::file::Entry;

/// Every setting in force: a TOML file whose comments tell where each value came from. A user name and password
/// in the upstream's URL are not shown.
#[derive(Clone, Debug, Default)]
pub struct Listing(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    name: String,
    /// None where it is not set.
    value: Option<String>,
    origin: Origin,
    /// Whether it is what it would be without any flags.
    is_default: bool,
}

#[derive(Clone, Debug)]
enum Origin {
    Default,
    Flag,
    Variable(String),
    /// `gateway.toml:3`.
    File(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "environment, {name}"),
            Self::File(place) => f.write_str(place),
        }
    }
}

impl Listing {
    /// Of arguments that have been read, some of them from a file.
    pub(crate) fn of(matches: &ArgMatches, command: &clap::Command, file: &[Entry]) -> Self {
        let settings = command.get_arguments().filter(|arg| super::is_setting(arg));
        let line = |arg: &clap::Arg| {
            let id = arg.get_id().as_str();
            let name = arg.get_long().unwrap_or(id).to_owned();
            let raw = matches.get_raw(id).and_then(|mut values| values.next());
            let value = raw.map(|value| redact(&name, &value.to_string_lossy()));
            let from_file = file.iter().find(|entry| entry.name == name).map(|entry| entry.place.clone());
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => from_file.map_or(Origin::Flag, Origin::File),
                Some(ValueSource::EnvVariable) => {
                    Origin::Variable(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
                }
                _ => Origin::Default,
            };
            let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            Line { is_default: value == default, name, value, origin }
        };
        Self(settings.map(line).collect())
    }

    /// By what a setting was given, if it was given and is not as it is by default: its flag, its variable, or its line
    /// in the file.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        let line = self.0.iter().find(|line| line.name == name && !line.is_default)?;
        match &line.origin {
            Origin::Default => None,
            Origin::Flag => Some(format!("--{name}")),
            Origin::Variable(variable) => Some(variable.clone()),
            Origin::File(place) => Some(format!("{place}: {name}")),
        }
    }

    /// The names of the settings that have another value in `other`.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(line, other)| line.value != other.value).map(|(line, _)| line.name.as_str())
    }

    /// Takes the lines of these settings from another.
    pub(crate) fn take(&mut self, names: &[&str], from: &Self) {
        for (line, other) in self.0.iter_mut().zip(&from.0).filter(|(line, _)| names.contains(&line.name.as_str())) {
            line.clone_from(other);
        }
    }
}

fn redact(name: &str, value: &str) -> String {
    if name == "upstream" { Redacted(value).to_string() } else { value.to_owned() }
}

/// A URL without its user name and password.
pub(crate) struct Redacted<'a>(pub(crate) &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://").zip(self.0.rsplit_once('@')) {
            Some(((scheme, _), (_, host))) => write!(f, "{scheme}://***@{host}"),
            None => f.write_str(self.0),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0.iter().map(|Line { name, value, origin, .. }| match value {
            Some(value) => (format!("{name} = {}", toml::Value::from(value.as_str())), Some(origin)),
            None => (format!("# {name} is not set"), None),
        });
        for (setting, origin) in settings {
            match origin {
                None => writeln!(f, "{setting}")?,
                Some(origin) => writeln!(f, "{setting:<48} # {origin}")?,
            }
        }
        Ok(())
    }
}
