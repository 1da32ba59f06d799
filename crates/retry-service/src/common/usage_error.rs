//! Reports an invalid command line in one line.

use std::ffi::OsString;

use clap::{
    Command,
    error::{ContextKind, ErrorKind},
};

/// What other programs call a flag, and what it may be called here.
const OTHER_NAMES: [(&[&str], &[&str]); 10] = [
    (&["addr", "address", "bind", "host", "p", "port"], &["listen"]),
    (&["c", "conf", "config", "config-file", "f", "file"], &["config", "stubs"]),
    (&["mappings", "mocks", "routes"], &["stubs"]),
    (&["backend", "forward", "proxy", "target", "url"], &["upstream"]),
    (&["admin", "admin-port", "api", "metrics-port"], &["control", "admin"]),
    (&["cert", "certificate", "https", "ssl"], &["tls"]),
    (&["latency", "sleep", "wait"], &["delay"]),
    (&["attempts", "max-retries", "retries"], &["count"]),
    (&["behavior", "fault", "faults", "scenario", "script-file", "status"], &["script"]),
    (&["random"], &["seed"]),
];

/// Returns the error as one line: the flag or variable, its value, and what is expected. `args` are the arguments that
/// led to it, with the name of the program.
///
/// clap prints several lines and adds the usage, which hides the error.
#[must_use]
pub(crate) fn one_line(error: &clap::Error, command: &Command, args: &[OsString]) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let flag = other_flag(error, command);
    let message = text
        .lines()
        .map(str::trim)
        // clap suggests `-- --flag` for a positional value, which is never meant.
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass "))
        .filter(|line| flag.is_none() || !line.starts_with("tip: "))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .fold(String::new(), |message, line| match line {
            _ if message.is_empty() => line.to_owned(),
            tip if tip.starts_with("tip: ") => message + "; " + tip,
            line => message + " " + line,
        });
    match (variable(error, command, args), flag) {
        (Some(variable), _) => format!("{variable}: {message}"),
        (None, Some(flag)) => format!("{message}; tip: this program has '--{flag}'"),
        (None, None) => message,
    }
}

/// Returns the flag that is called what the unknown one is called in other programs.
fn other_flag<'a>(error: &clap::Error, command: &'a Command) -> Option<&'a str> {
    let unknown =
        error.get(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?.to_string();
    let unknown = unknown.trim_start_matches('-');
    let (_, flags) = OTHER_NAMES.iter().find(|(names, _)| names.contains(&unknown))?;
    command.get_arguments().filter_map(|argument| argument.get_long()).find(|name| flags.contains(name))
}

/// Returns the environment variable that an invalid value is from. `None` if it is from the command line.
fn variable(error: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let invalid = error.get(ContextKind::InvalidArg)?.to_string();
    // The display form of an argument depends on the built command.
    let mut built = command.clone();
    built.build();
    let variable = built.get_arguments().find(|arg| arg.to_string() == invalid)?.get_env()?;
    let without_environment = command.clone().mut_args(|arg| arg.env(None::<&'static str>)).try_get_matches_from(args);
    without_environment.is_ok().then(|| variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    /// A variable that is set everywhere, and is not a number.
    const NAME: &str = "PATH";

    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let command = Command::new("server")
            .arg(Arg::new("mode").long("mode").value_parser(["fast", "slow"]))
            .arg(Arg::new("port").long("port").value_parser(clap::value_parser!(u16)))
            .arg(Arg::new("name").long("name").env(NAME).conflicts_with("port"))
            .arg(Arg::new("listen").long("listen"))
            .arg(Arg::new("number").long("number").env(NAME).value_parser(clap::value_parser!(u16)));
        let args: Vec<OsString> = ["server"].iter().chain(arguments).map(OsString::from).collect();
        let error = command.clone().try_get_matches_from(&args).unwrap_err();
        assert_eq!(one_line(&error, &command, &args), expected);
    }

    #[test]
    fn each_error_is_one_line() {
        check(&["--port", "x"], "invalid value 'x' for '--port <port>': invalid digit found in string");
        check(
            &["--mode", "fats"],
            "invalid value 'fats' for '--mode <mode>' [possible values: fast, slow]; tip: a similar value exists: 'fast'",
        );
        check(&["--prot", "1"], "unexpected argument '--prot' found; tip: a similar argument exists: '--port'");
        check(&["--bind=1"], "unexpected argument '--bind' found; tip: this program has '--listen'");
        check(&["-p", "1"], "unexpected argument '-p' found; tip: this program has '--listen'");
        check(&["--config", "x"], "unexpected argument '--config' found");
        check(&["--port", "1\n2"], "invalid value '1 2' for '--port <port>': invalid digit found in string");
    }

    #[test]
    fn a_variable_is_named_if_its_value_is_invalid() {
        let problem = "for '--number <number>': invalid digit found in string";
        check(&[], &format!("{NAME}: invalid value '{}' {problem}", std::env::var(NAME).unwrap()));
        check(&["--number", "x"], &format!("invalid value 'x' {problem}"));
        check(&["--number", "1", "--port", "1"], "the argument '--port <port>' cannot be used with '--name <name>'");
    }
}
