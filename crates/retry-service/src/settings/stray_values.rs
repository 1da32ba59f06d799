//! Values after flags that need none, a mistake on the command line that clap would report as another one.

use std::ffi::OsString;

use clap::Command;

use super::error::SettingsError;

/// Values that are often given to a flag that needs none.
const SWITCHES: [&str; 9] = ["true", "false", "on", "off", "yes", "no", "none", "1", "0"];

/// Checks that no flag that needs no value is followed by one. clap would take the value for a command.
pub(super) fn check(args: &[OsString], command: &Command) -> Result<(), SettingsError> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    for pair in args.windows(2) {
        let [flag, value] = pair else { continue };
        let name = flag.strip_prefix("--").unwrap_or_default();
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(name)) else { continue };
        let (takes_values, has_separate_value) = (arg.get_action().takes_values(), !arg.is_require_equals_set());
        if SWITCHES.contains(value) && !(takes_values && has_separate_value) {
            let assigned = if takes_values { format!(" or --{name}={value}") } else { String::new() };
            return Err(SettingsError::invalid(&format!("--{name} {value}: expected --{name}{assigned}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags;

    #[test]
    fn a_flag_that_needs_no_value_is_followed_by_none() {
        let assert_error = |args: &[&str], expected: Option<&str>| {
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            let error = check(&args, &flags::command()).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        assert_error(&["--forward", "true"], Some("--forward true: expected --forward or --forward=true"));
        assert_error(&["--access-log", "off"], Some("--access-log off: expected --access-log or --access-log=off"));
        assert_error(&["--print-config", "true"], Some("--print-config true: expected --print-config"));
        assert_error(&["--forward", "plan"], None);
        assert_error(&["--forward=true", "--via", "off", "--count", "1"], None);
    }
}
