//! The program's variables.

use std::env;

use clap::{ArgMatches, Command, parser::ValueSource};

use super::similar;

const PREFIX: &str = "RETRY_SERVICE_";

/// The command, to which a variable that is empty is not set: scripts and manifests write `NAME=` for that.
pub(super) fn without_empty(command: Command) -> Command {
    let is_empty = |name: &std::ffi::OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    command.mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(None::<&'static str>) } else { arg })
}

/// The variable that a setting is from, by the name of the setting's flag.
pub(super) fn variable(matches: &ArgMatches, command: &Command) -> impl Fn(&str) -> Option<String> {
    move |flag| {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag))?;
        let is_from_variable = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
        arg.get_env().filter(|_| is_from_variable).map(|name| name.to_string_lossy().into_owned())
    }
}

/// A line for each of these variables that looks like one of the program's and is none, with a similar name if there is
/// one.
pub(super) fn unknown(names: impl Iterator<Item = String>, command: &Command) -> Vec<String> {
    let is_known = |name: &str| command.get_arguments().any(|arg| arg.get_env().is_some_and(|env| env == name));
    let unknown = names.filter(|name| !is_known(name) && !is_kubernetes(name)).filter_map(|name| {
        let flag = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace('_', "-");
        let tip = similar(command, &flag).map_or_else(String::new, |flag| {
            format!("; tip: a similar one exists: {PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
        });
        Some(format!("{name} is no setting, and has no effect{tip}"))
    });
    let mut unknown: Vec<_> = unknown.collect();
    unknown.sort();
    unknown
}

/// The names of variables that are set to something.
pub(super) fn names() -> impl Iterator<Item = String> {
    env::vars_os().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.into_string().ok())
}

/// Whether Kubernetes sets this variable in every container beside a Service by the name of `retry-service`.
fn is_kubernetes(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        ["SERVICE_HOST", "PORT"].contains(&rest) || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT_")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_variable_that_is_no_setting_is_told_with_a_similar_one() {
        let check = |name: &str, expected: &[&str]| {
            assert_eq!(unknown([name.to_owned()].into_iter(), &Settings::command()), expected);
        };
        check(
            "RETRY_SERVICE_CUONT",
            &["RETRY_SERVICE_CUONT is no setting, and has no effect; tip: a similar one exists: RETRY_SERVICE_COUNT"],
        );
        check(
            "RETRY_SERVICE_MAX_INFLIGHT",
            &[
                "RETRY_SERVICE_MAX_INFLIGHT is no setting, and has no effect; tip: a similar one exists: RETRY_SERVICE_MAX_IN_FLIGHT",
            ],
        );
        check("RETRY_SERVICE_XYZ", &["RETRY_SERVICE_XYZ is no setting, and has no effect"]);
        for known in ["RETRY_SERVICE_COUNT", "RETRY_SERVICE_CONFIG", "PATH", "RETRY_SERVICE"] {
            check(known, &[]);
        }
        for link in ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"] {
            check(&format!("RETRY_SERVICE_{link}"), &[]);
        }
    }
}
