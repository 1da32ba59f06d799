//! The configuration file: TOML, with the names of the flags as keys.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use clap::Command;
use toml::{Spanned, Value};

use super::{
    error::SettingsError,
    flags::{self, LISTS},
};

/// A setting in the file.
pub(super) struct Entry {
    pub(super) name: String,
    /// The value as the flag takes it.
    pub(super) value: String,
    /// The line of the file, such as `gateway.toml:3`.
    pub(super) location: String,
}

/// Reads and checks the settings of a file, in the order of its lines.
pub(super) fn read(path: &Path, command: &Command) -> Result<Vec<Entry>, SettingsError> {
    let text = fs::read_to_string(path).map_err(|error| {
        SettingsError::setting("config", &format_args!("cannot read '{}': {error}", path.display()))
    })?;
    let entries = parse(&text, &path.display().to_string(), command)?;
    entries.iter().try_for_each(|entry| check(entry, command))?;
    Ok(entries)
}

fn parse(text: &str, file: &str, command: &Command) -> Result<Vec<Entry>, SettingsError> {
    let location = |offset: usize| {
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        format!("{file}:{line}")
    };
    let settings: BTreeMap<Spanned<String>, Value> = toml::from_str(text).map_err(|error| {
        let location = error.span().map_or_else(|| file.to_owned(), |span| location(span.start));
        // The message for a duplicate key does not name the key.
        let message = match (error.message(), error.span().and_then(|span| text.get(span))) {
            ("duplicate key", Some(key)) => format!("duplicate key '{}'", key.trim_matches(['"', '\''])),
            (message, _) => message.lines().next().unwrap_or_default().to_owned(),
        };
        SettingsError::invalid(&format!("{location}: {message}"))
    })?;
    let mut settings: Vec<_> = settings.into_iter().collect();
    settings.sort_by_key(|(name, _)| name.span().start);
    let entry = |(name, value): (Spanned<String>, Value)| {
        let location = location(name.span().start);
        let name = name.into_inner();
        match plain(&value, flags::is_in(command, LISTS, &name)) {
            Ok(value) => Ok(Entry { name, value, location }),
            Err(reason) => Err(SettingsError::invalid(&format!("{location}: {name}: {reason}"))),
        }
    };
    settings.into_iter().map(entry).collect()
}

/// Returns the value as a flag takes it, with commas between the items of a list.
fn plain(value: &Value, may_be_list: bool) -> Result<String, &'static str> {
    let plain = match value {
        Value::Table(_) => return Err("expected a value, found a table; settings must be top-level keys"),
        Value::Array(_) if !may_be_list => return Err("expected one value, found a list"),
        Value::Array(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>().map(|values| values.join(",")),
        value => scalar(value),
    };
    plain.ok_or("expected a value, or a list of values")
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Checks one entry as its flag would be checked, so that the error can name its line.
fn check(Entry { name, value, location }: &Entry, command: &Command) -> Result<(), SettingsError> {
    let invalid = |message: &str| SettingsError::invalid(&format!("{location}: {message}"));
    if !flags::is_known(command, name) {
        let tip = flags::similar(command, name).map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
        return Err(invalid(&format!("unknown setting '{name}'{tip}")));
    }
    let args: [OsString; 2] = ["retry-service".into(), format!("--{name}={value}").into()];
    let parsed = command.clone().try_get_matches_from(&args);
    parsed.map(drop).map_err(|error| {
        let flag = command.get_arguments().find(|arg| arg.get_long() == Some(name)).map(|arg| format!(" for '{arg}'"));
        let message = SettingsError::usage(&error, command, &args).to_string();
        invalid(&format!("{name}: {}", message.replace(&flag.unwrap_or_default(), "")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_converted_to_what_the_flags_take() {
        let text = "# ours\ncount = 5\nbackoff-factor = 1.5\nforward = true\n\nstatus-codes = [502, 503]\n\
                    upstream = ['http://a', 'http://b']";
        let entries = parse(text, "g.toml", &flags::command()).ok().unwrap();
        let entries: Vec<_> =
            entries.iter().map(|Entry { name, value, location }| format!("{location} {name}={value}")).collect();
        let expected = ["g.toml:2 count=5", "g.toml:3 backoff-factor=1.5", "g.toml:4 forward=true"];
        let lists = ["g.toml:6 status-codes=502,503", "g.toml:7 upstream=http://a,http://b"];
        assert_eq!(entries, [&expected[..], &lists].concat());
    }

    #[test]
    fn an_error_names_its_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text, "g.toml", &flags::command()).err().unwrap().to_string(), expected);
        };
        let table = "expected a value, found a table; settings must be top-level keys";
        check("count = 5\n[retry]\ncount = 3", &format!("g.toml:2: retry: {table}"));
        check("\nretry.count = 3", &format!("g.toml:2: retry: {table}"));
        check("listen = [\"1\", \"2\"]", "g.toml:1: listen: expected one value, found a list");
        check("status-codes = [[1]]", "g.toml:1: status-codes: expected a value, or a list of values");
        check("\ncount = 2020-01-01", "g.toml:2: count: expected a value, or a list of values");
        check("count = 1\ncount = 2", "g.toml:2: duplicate key 'count'");
        check("count = 1\nlisten", "g.toml:2: key with no value, expected `=`");
    }
}
