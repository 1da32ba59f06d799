//! `RUST_LOG`: which events are logged.

use log::LevelFilter;

/// What is logged, and what of the wish for it cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter {
    /// What `env_logger` is to show, without what it would not understand.
    pub directives: String,
    /// A line for each thing that is wrong.
    pub problems: Vec<String>,
}

impl LogFilter {
    /// Reads `RUST_LOG`. `default` counts if it is not set, empty, or nothing of it can be understood.
    #[must_use]
    pub(crate) fn from_env(default: &str) -> Self {
        let wish = std::env::var_os("RUST_LOG").unwrap_or_default();
        Self::read(&wish.to_string_lossy(), default)
    }

    /// Reads `target=level,level/text`.
    fn read(wish: &str, default: &str) -> Self {
        let mut problems = Vec::new();
        let (wanted, text) = wish.split_once('/').map_or((wish, None), |(wanted, text)| (wanted, Some(text)));
        let mut directives = Vec::new();
        for directive in wanted.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match problem(directive) {
                Some(Problem::Unreadable(what)) => problems.push(format!("RUST_LOG: '{directive}' is ignored: {what}")),
                Some(Problem::Unlikely(level)) => {
                    problems.push(format!(
                        "RUST_LOG: '{directive}' is no level, and taken for a target; tip: a similar level exists: '{level}'"
                    ));
                    directives.push(directive);
                }
                None => directives.push(directive),
            }
        }
        let directives = if directives.is_empty() { default.to_owned() } else { directives.join(",") };
        match text {
            Some(text) if text.contains('/') => {
                problems.push(format!("RUST_LOG: '/{text}' is ignored: allowed is one / and a text behind it"));
                Self { directives, problems }
            }
            Some(text) => Self { directives: format!("{directives}/{text}"), problems },
            None => Self { directives, problems },
        }
    }
}

enum Problem {
    Unreadable(&'static str),
    /// A target by a name that is nearly that of this level.
    Unlikely(String),
}

fn problem(directive: &str) -> Option<Problem> {
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    match directive.split('=').map(str::trim).collect::<Vec<_>>()[..] {
        [alone] if is_level(alone) => None,
        [alone] if !alone.chars().all(can_be_in_a_target) => {
            Some(Problem::Unreadable("allowed is a level, or a target, with commas between"))
        }
        [alone] => similar_level(alone).map(Problem::Unlikely),
        [target, _] if !target.chars().all(can_be_in_a_target) => {
            Some(Problem::Unreadable("allowed is TARGET=LEVEL, with commas between"))
        }
        [_, ""] => None,
        [_, level] if is_level(level) => None,
        [_, _] => Some(Problem::Unreadable("allowed levels are off, error, warn, info, debug and trace")),
        _ => Some(Problem::Unreadable("allowed is TARGET=LEVEL")),
    }
}

/// A target is the path of a module, or a word.
fn can_be_in_a_target(c: char) -> bool {
    c.is_alphanumeric() || "_:-.".contains(c)
}

/// The level that a word was probably meant to be: one that it begins with, or whose name it misses by a letter.
fn similar_level(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let level = |level: LevelFilter| level.as_str().to_ascii_lowercase();
    LevelFilter::iter().map(level).find(|level| word.starts_with(&**level) || is_misspelt(&word, level))
}

/// Whether one word becomes the other by one letter more, less or exchanged, or by two that change places.
fn is_misspelt(word: &str, other: &str) -> bool {
    let same = word.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let (word, other) = (word.bytes().skip(same), other.bytes().skip(same));
    let same = word.clone().rev().zip(other.clone().rev()).take_while(|(a, b)| a == b).count();
    let (word, other): (Vec<_>, Vec<_>) = (word.rev().skip(same).collect(), other.rev().skip(same).collect());
    match (&word[..], &other[..]) {
        ([a, b], [c, d]) => (a, b) == (d, c),
        (word, other) => word.len() <= 1 && other.len() <= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_as_it_was() {
        for wish in
            ["info", "info,retries=off", "retry_client=debug", "retries", "access,h2=", "debug/upstream", "WARN"]
        {
            assert_eq!(LogFilter::read(wish, "x"), LogFilter { directives: wish.to_owned(), problems: Vec::new() });
        }
        for unset in ["", " ", ","] {
            assert_eq!(LogFilter::read(unset, "info").directives, "info");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_counts() {
        let check = |wish: &str, directives: &str, problem: &str| {
            let expected =
                LogFilter { directives: directives.to_owned(), problems: vec![format!("RUST_LOG: {problem}")] };
            assert_eq!(LogFilter::read(wish, "info"), expected);
        };
        let levels = "allowed levels are off, error, warn, info, debug and trace";
        check("retries=loud", "info", &format!("'retries=loud' is ignored: {levels}"));
        check("debug,retries=loud", "debug", &format!("'retries=loud' is ignored: {levels}"));
        let commas = "allowed is TARGET=LEVEL, with commas between";
        check("info;retries=off", "info", &format!("'info;retries=off' is ignored: {commas}"));
        check("warn debug", "info", "'warn debug' is ignored: allowed is a level, or a target, with commas between");
        check("a=b=c", "info", "'a=b=c' is ignored: allowed is TARGET=LEVEL");
        check("warn/a/b", "warn", "'/a/b' is ignored: allowed is one / and a text behind it");
        for (word, level) in [("inof", "info"), ("warning", "warn"), ("debugg", "debug"), ("DEBG", "debug")] {
            let told = format!("'{word}' is no level, and taken for a target; tip: a similar level exists: '{level}'");
            check(word, word, &told);
        }
    }
}
