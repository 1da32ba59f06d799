//! Settings in a TOML file: keys are the flags' names, values what the flags take.

use std::{collections::BTreeMap, fs, path::Path};

use toml::{Spanned, Value};

use super::Refusal;

/// Settings that are lists.
const LISTS: [&str; 2] = ["status-codes", "trusted-proxies"];

/// One setting of a file.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// As the flag would be given it.
    pub(crate) value: String,
    /// Where it is: `gateway.toml:3`.
    pub(crate) place: String,
}

/// Reads a file's settings, in the order of their lines.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, Refusal> {
    let text = fs::read_to_string(path)
        .map_err(|error| Refusal::setting("config", &format_args!("cannot read '{}': {error}", path.display())))?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, file: &str) -> Result<Vec<Entry>, Refusal> {
    let place = |offset: usize| {
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        format!("{file}:{line}")
    };
    let settings: BTreeMap<Spanned<String>, Value> = toml::from_str(text).map_err(|error| {
        let place = error.span().map_or_else(|| file.to_owned(), |span| place(span.start));
        // Of a key that is there twice toml tells no more than where it is.
        let what = match (error.message(), error.span().and_then(|span| text.get(span))) {
            ("duplicate key", Some(key)) => format!("duplicate key '{}'", key.trim_matches(['"', '\''])),
            (message, _) => message.lines().next().unwrap_or_default().to_owned(),
        };
        Refusal::wrong(&format!("{place}: {what}"))
    })?;
    let mut settings: Vec<_> = settings.into_iter().collect();
    settings.sort_by_key(|(name, _)| name.span().start);
    settings.into_iter().map(|(name, value)| entry(place(name.span().start), name.into_inner(), &value)).collect()
}

fn entry(place: String, name: String, value: &Value) -> Result<Entry, Refusal> {
    let refuse = |why: &str| Err(Refusal::wrong(&format!("{place}: {name}: {why}")));
    let plain = match value {
        Value::Table(_) => return refuse("is a table: settings stand by themselves, at the top of the file"),
        Value::Array(_) if !LISTS.contains(&&*name) => return refuse("is a list: allowed is one value"),
        Value::Array(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>().map(|values| values.join(",")),
        value => scalar(value),
    };
    match plain {
        Some(value) => Ok(Entry { name, value, place }),
        None => refuse("allowed is one value, or a list of them"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_flags_would_be_given() {
        let text = "# ours\ncount = 5\nbackoff-factor = 1.5\nforward = true\n\nstatus-codes = [502, 503]\n";
        let told: Vec<_> = parse(text, "g.toml")
            .ok()
            .unwrap()
            .into_iter()
            .map(|Entry { name, value, place }| format!("{place} {name}={value}"))
            .collect();
        let expected = ["g.toml:2 count=5", "g.toml:3 backoff-factor=1.5", "g.toml:4 forward=true"];
        assert_eq!(told, [&expected[..], &["g.toml:6 status-codes=502,503"]].concat());
    }

    #[test]
    fn what_is_no_setting_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text, "g.toml").err().unwrap().to_string(), expected);
        };
        let table = "is a table: settings stand by themselves, at the top of the file";
        check("count = 5\n[retry]\ncount = 3", &format!("g.toml:2: retry: {table}"));
        check("\nretry.count = 3", &format!("g.toml:2: retry: {table}"));
        check("upstream = [\"http://a\", \"http://b\"]", "g.toml:1: upstream: is a list: allowed is one value");
        check("status-codes = [[1]]", "g.toml:1: status-codes: allowed is one value, or a list of them");
        check("\ncount = 2020-01-01", "g.toml:2: count: allowed is one value, or a list of them");
        check("count = 1\ncount = 2", "g.toml:2: duplicate key 'count'");
        check("count = 1\nlisten", "g.toml:2: key with no value, expected `=`");
    }
}
