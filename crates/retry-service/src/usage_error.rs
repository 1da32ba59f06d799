//! What is said of a wrong command line: one line.

/// The error as one line: what is wrong, with which flag and value, and what is allowed.
///
/// clap spreads it over several and adds the usage, which hides the one thing that matters.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    told.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let command = Command::new("server")
            .no_binary_name(true)
            .arg(Arg::new("mode").long("mode").value_parser(["fast", "slow"]))
            .arg(Arg::new("port").long("port").value_parser(clap::value_parser!(u16)));
        let error = command.try_get_matches_from(arguments).unwrap_err();
        assert_eq!(one_line(&error), expected);
    }

    #[test]
    fn each_mistake_takes_one_line() {
        check(&["--port", "x"], "error: invalid value 'x' for '--port <port>': invalid digit found in string");
        check(
            &["--mode", "fats"],
            "error: invalid value 'fats' for '--mode <mode>' [possible values: fast, slow] tip: a similar value exists: 'fast'",
        );
        check(&["--prot", "1"], "error: unexpected argument '--prot' found tip: a similar argument exists: '--port'");
        check(&["--port", "1\n2"], "error: invalid value '1 2' for '--port <port>': invalid digit found in string");
    }
}
