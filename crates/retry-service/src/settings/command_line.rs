//! The command line before clap parses it: what clap would misread.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::error::SettingsError;

/// Values that are often given to a flag that needs none.
const SWITCHES: [&str; 9] = ["true", "false", "on", "off", "yes", "no", "none", "1", "0"];

/// Joins values that begin with a minus to their flags. clap would parse them as flags, and its error would not say
/// what the setting expects.
///
/// # Errors
///
/// Returns an error for what clap would accept with another meaning: a value after a flag that needs none, and a second
/// upstream, which would replace the first.
pub(super) fn normalize(args: Vec<OsString>, command: &Command) -> Result<Vec<OsString>, SettingsError> {
    let mut normalized = Vec::with_capacity(args.len());
    let mut upstreams = 0;
    let mut args = args.into_iter().peekable();
    while let Some(mut flag) = args.next() {
        let text = flag.to_str().unwrap_or_default();
        if text == "--" {
            normalized.push(flag);
            break;
        }
        let name = text.strip_prefix("--").unwrap_or_default().to_owned();
        upstreams += u32::from(name.split('=').next() == Some("upstream"));
        if upstreams > 1 {
            return Err(SettingsError::invalid("--upstream is given twice: there is only one upstream"));
        }
        if let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&name)) {
            let value = args.peek().and_then(|value| value.to_str()).unwrap_or_default();
            if !needs_value(arg) {
                if SWITCHES.contains(&value) {
                    let assigned =
                        if arg.get_action().takes_values() { format!(" or --{name}={value}") } else { String::new() };
                    let message = format!("--{name} {value}: expected --{name}{assigned}");
                    return Err(SettingsError::invalid(&message));
                }
            } else if is_negative(value) {
                flag.push("=");
                flag.push(value);
                args.next();
            } else {
                normalized.push(flag);
                flag = match args.next() {
                    Some(value) => value,
                    None => break,
                };
            }
        }
        normalized.push(flag);
    }
    Ok(normalized.into_iter().chain(args).collect())
}

/// Whether the next argument is the value of this flag.
fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Whether a value looks like a negative number or duration.
fn is_negative(value: &str) -> bool {
    value.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags;

    fn normalized(args: &[&str]) -> Result<Vec<String>, String> {
        let args = args.iter().map(OsString::from).collect();
        let normalized = normalize(args, &flags::command()).map_err(|error| error.to_string())?;
        Ok(normalized.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn a_negative_value_belongs_to_its_flag() {
        let check = |args: &[&str], expected: &[&str]| assert_eq!(normalized(args).unwrap(), expected);
        check(&["--interval", "-1s", "--count", "3"], &["--interval=-1s", "--count", "3"]);
        check(&["--interval", "--count", "3"], &["--interval", "--count", "3"]);
        check(&["--forward", "-1"], &["--forward", "-1"]);
        check(&["--path", "--upstream"], &["--path", "--upstream"]);
        check(&["--interval"], &["--interval"]);
        check(&["plan", "--", "--interval", "-1"], &["plan", "--", "--interval", "-1"]);
    }

    #[test]
    fn arguments_that_clap_would_misread_are_errors() {
        let check = |args: &[&str], expected: &str| assert_eq!(normalized(args).unwrap_err(), expected);
        check(&["--forward", "true"], "--forward true: expected --forward or --forward=true");
        check(&["--access-log", "off"], "--access-log off: expected --access-log or --access-log=off");
        check(&["--print-config", "true"], "--print-config true: expected --print-config");
        let twice = "--upstream is given twice: there is only one upstream";
        check(&["--upstream", "http://a", "--upstream=http://b"], twice);
        check(&["--upstream=http://me:secret@a", "--upstream", "http://b"], twice);
    }
}
