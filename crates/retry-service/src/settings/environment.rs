//! Environment variables that are named like settings but are not, such as misspelt ones.

use std::env;

use clap::Command;

use super::flags;

/// Returns a warning for each of these variables that is named like a setting but is not.
pub(super) fn unknown(variables: impl Iterator<Item = String>, command: &Command) -> Vec<String> {
    let warning = |variable: String| {
        let name = flags::name_of(&variable)?;
        if name == "config" || flags::is_known(command, &name) || is_kubernetes(&variable) {
            return None;
        }
        let tip = flags::similar(command, &name)
            .map_or_else(String::new, |name| format!("; did you mean {}?", flags::variable(&name)));
        Some(format!("{variable} is not a setting, and has no effect{tip}"))
    };
    let mut warnings: Vec<_> = variables.filter_map(warning).collect();
    warnings.sort();
    warnings
}

/// Returns the names of all variables that are not empty.
pub(super) fn names() -> impl Iterator<Item = String> {
    env::vars_os().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.into_string().ok())
}

/// Whether Kubernetes sets this variable in every container of a namespace that has a Service named `retry-service`.
fn is_kubernetes(variable: &str) -> bool {
    variable.strip_prefix("RETRY_SERVICE_").is_some_and(|rest| {
        ["SERVICE_HOST", "PORT"].contains(&rest) || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_reported_with_a_similar_one() {
        let check = |name: &str, expected: &[&str]| {
            assert_eq!(unknown([name.to_owned()].into_iter(), &flags::command()), expected);
        };
        check(
            "RETRY_SERVICE_CUONT",
            &["RETRY_SERVICE_CUONT is not a setting, and has no effect; did you mean RETRY_SERVICE_COUNT?"],
        );
        check(
            "RETRY_SERVICE_MAX_INFLIGHT",
            &[
                "RETRY_SERVICE_MAX_INFLIGHT is not a setting, and has no effect; did you mean RETRY_SERVICE_MAX_IN_FLIGHT?",
            ],
        );
        check("RETRY_SERVICE_XYZ", &["RETRY_SERVICE_XYZ is not a setting, and has no effect"]);
        for known in ["RETRY_SERVICE_COUNT", "RETRY_SERVICE_CONFIG", "PATH", "RETRY_SERVICE"] {
            check(known, &[]);
        }
        for link in ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"] {
            check(&format!("RETRY_SERVICE_{link}"), &[]);
        }
    }
}
