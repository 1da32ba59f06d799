//! What is in force, and where each value came from.

use std::fmt;

use clap::{ArgMatches, parser::ValueSource};

use super::file::Entry;

/// Every setting in force: a TOML file whose comments tell where each value came from. A user name and password
/// in the upstream's URL are not shown.
#[derive(Clone, Debug)]
pub struct Listing(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    name: String,
    /// None where it is not set.
    value: Option<String>,
    origin: String,
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
                Some(ValueSource::CommandLine) => from_file.unwrap_or_else(|| "flag".to_owned()),
                Some(ValueSource::EnvVariable) => {
                    let variable = arg.get_env().unwrap_or_default();
                    format!("environment, {}", variable.to_string_lossy())
                }
                _ => "default".to_owned(),
            };
            Line { name, value, origin }
        };
        Self(settings.map(line).collect())
    }
}

fn redact(name: &str, value: &str) -> String {
    match value.split_once("://").zip(value.rsplit_once('@')) {
        Some(((scheme, _), (_, host))) if name == "upstream" => format!("{scheme}://***@{host}"),
        _ => value.to_owned(),
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0.iter().map(|Line { name, value, origin }| match value {
            Some(value) => (format!("{name} = {}", toml::Value::from(value.as_str())), origin.as_str()),
            None => (format!("# {name} is not set"), ""),
        });
        for (setting, origin) in settings {
            match origin {
                "" => writeln!(f, "{setting}")?,
                origin => writeln!(f, "{setting:<48} # {origin}")?,
            }
        }
        Ok(())
    }
}
