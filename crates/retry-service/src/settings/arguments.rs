//! The command line, before clap reads it.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::Refusal;

/// What people take for the value of a flag that needs none.
const SWITCHES: [&str; 9] = ["true", "false", "on", "off", "yes", "no", "none", "1", "0"];

/// Joins values that begin with a minus to their flags, as clap would take those for flags themselves: then it is the
/// setting that refuses them, with what is allowed.
///
/// # Errors
///
/// What clap would read as something else: a value behind a flag that needs none, and a second upstream in place of the
/// first.
pub(super) fn prepare(args: Vec<OsString>, command: &Command) -> Result<Vec<OsString>, Refusal> {
    let mut prepared = Vec::with_capacity(args.len());
    let mut upstreams = 0;
    let mut args = args.into_iter().peekable();
    while let Some(mut flag) = args.next() {
        let text = flag.to_str().unwrap_or_default();
        if text == "--" {
            prepared.push(flag);
            break;
        }
        let name = text.strip_prefix("--").unwrap_or_default().to_owned();
        upstreams += u32::from(name.split('=').next() == Some("upstream"));
        if upstreams > 1 {
            return Err(Refusal::wrong("--upstream is there twice: there is one upstream"));
        }
        if let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&name)) {
            let value = args.peek().and_then(|value| value.to_str()).unwrap_or_default();
            if !needs_value(arg) {
                if SWITCHES.contains(&value) {
                    let allowed =
                        if arg.get_action().takes_values() { format!(", or --{name}={value}") } else { String::new() };
                    return Err(Refusal::wrong(&format!("--{name} {value}: allowed is --{name}{allowed}")));
                }
            } else if is_negative(value) {
                flag.push("=");
                flag.push(value);
                args.next();
            } else {
                prepared.push(flag);
                flag = match args.next() {
                    Some(value) => value,
                    None => break,
                };
            }
        }
        prepared.push(flag);
    }
    Ok(prepared.into_iter().chain(args).collect())
}

/// Whether what follows a flag is its value.
fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Whether a value looks like a negative number or time.
fn is_negative(value: &str) -> bool {
    value.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::settings::Settings;

    fn prepared(args: &[&str]) -> Result<Vec<String>, String> {
        let args = args.iter().map(OsString::from).collect();
        let prepared = prepare(args, &Settings::command()).map_err(|refusal| refusal.to_string())?;
        Ok(prepared.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn a_negative_value_belongs_to_its_flag() {
        let check = |args: &[&str], expected: &[&str]| assert_eq!(prepared(args).unwrap(), expected);
        check(&["--interval", "-1s", "--count", "3"], &["--interval=-1s", "--count", "3"]);
        check(&["--interval", "--count", "3"], &["--interval", "--count", "3"]);
        check(&["--forward", "-1"], &["--forward", "-1"]);
        check(&["--path", "--upstream"], &["--path", "--upstream"]);
        check(&["--interval"], &["--interval"]);
        check(&["plan", "--", "--interval", "-1"], &["plan", "--", "--interval", "-1"]);
    }

    #[test]
    fn what_clap_would_misread_is_refused() {
        let check = |args: &[&str], expected: &str| assert_eq!(prepared(args).unwrap_err(), expected);
        check(&["--forward", "true"], "--forward true: allowed is --forward, or --forward=true");
        check(&["--access-log", "off"], "--access-log off: allowed is --access-log, or --access-log=off");
        check(&["--print-config", "true"], "--print-config true: allowed is --print-config");
        let twice = "--upstream is there twice: there is one upstream";
        check(&["--upstream", "http://a", "--upstream=http://b"], twice);
        check(&["--upstream=http://me:secret@a", "--upstream", "http://b"], twice);
    }
}
