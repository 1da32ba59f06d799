//! `RUST_LOG`: which events are logged.

use log::LevelFilter;

const LEVELS: &str = "expected a level: off, error, warn, info, debug or trace";

/// A filter for log events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter {
    /// The valid directives, for `env_logger`.
    pub(crate) directives: String,
    /// A line for each directive that is invalid, or probably a mistake.
    pub(crate) warnings: Vec<String>,
}

impl LogFilter {
    /// Reads `RUST_LOG`. `default` is used if it is not set or has no valid directive.
    #[must_use]
    pub(crate) fn from_env(default: &str) -> Self {
        Self::parse(&std::env::var_os("RUST_LOG").unwrap_or_default().to_string_lossy(), default)
    }

    /// Parses `target=level,level/text`.
    fn parse(text: &str, default: &str) -> Self {
        let mut warnings = Vec::new();
        let (list, pattern) = text.split_once('/').map_or((text, None), |(list, pattern)| (list, Some(pattern)));
        let mut directives: Vec<_> = list.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        directives.retain(|directive| match similar_level(directive) {
            Ok(None) => true,
            Ok(Some(level)) => {
                warnings.push(format!(
                    "RUST_LOG: '{directive}' is not a level; treated as a target; did you mean '{level}'?"
                ));
                true
            }
            Err(expected) => {
                warnings.push(format!("RUST_LOG: '{directive}' is ignored: {expected}"));
                false
            }
        });
        let mut directives = if directives.is_empty() { default.to_owned() } else { directives.join(",") };
        match pattern {
            Some(pattern) if pattern.contains('/') => {
                warnings.push(format!("RUST_LOG: '/{pattern}' is ignored: expected one / and a text"));
            }
            Some(pattern) => directives += &format!("/{pattern}"),
            None => {}
        }
        Self { directives, warnings }
    }
}

/// Checks a directive. Returns a level if the directive is a target that is probably a misspelt level.
fn similar_level(directive: &str) -> Result<Option<String>, &'static str> {
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    // A target is the path of a module, or a word.
    let is_target = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_:-.".contains(c));
    match directive.split('=').map(str::trim).collect::<Vec<_>>()[..] {
        [level] if is_level(level) => Ok(None),
        [target] if is_target(target) => {
            let target = target.to_ascii_lowercase();
            let mut levels = LevelFilter::iter().map(|level| level.as_str().to_ascii_lowercase());
            Ok(levels.find(|level| target.starts_with(&**level) || strsim::osa_distance(&target, level) <= 1))
        }
        [_] => Err("expected levels or targets, separated by commas"),
        [target, _] if !is_target(target) => Err("expected TARGET=LEVEL, separated by commas"),
        [_, level] if level.is_empty() || is_level(level) => Ok(None),
        [_, _] => Err(LEVELS),
        _ => Err("expected TARGET=LEVEL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_directives_are_kept() {
        for text in
            ["info", "info,retries=off", "retry_client=debug", "retries", "access,h2=", "debug/upstream", "WARN"]
        {
            assert_eq!(LogFilter::parse(text, "x"), LogFilter { directives: text.to_owned(), warnings: Vec::new() });
        }
        for unset in ["", " ", ","] {
            assert_eq!(LogFilter::parse(unset, "info").directives, "info");
        }
    }

    #[test]
    fn invalid_directives_are_reported_and_ignored() {
        let check = |text: &str, directives: &str, warning: &str| {
            let expected =
                LogFilter { directives: directives.to_owned(), warnings: vec![format!("RUST_LOG: {warning}")] };
            assert_eq!(LogFilter::parse(text, "info"), expected);
        };
        let levels = LEVELS;
        check("retries=loud", "info", &format!("'retries=loud' is ignored: {levels}"));
        check("debug,retries=loud", "debug", &format!("'retries=loud' is ignored: {levels}"));
        let commas = "expected TARGET=LEVEL, separated by commas";
        check("info;retries=off", "info", &format!("'info;retries=off' is ignored: {commas}"));
        check("warn debug", "info", "'warn debug' is ignored: expected levels or targets, separated by commas");
        check("a=b=c", "info", "'a=b=c' is ignored: expected TARGET=LEVEL");
        check("warn/a/b", "warn", "'/a/b' is ignored: expected one / and a text");
        for (word, level) in [("inof", "info"), ("warning", "warn"), ("debugg", "debug"), ("DEBG", "debug")] {
            let warning = format!("'{word}' is not a level; treated as a target; did you mean '{level}'?");
            check(word, word, &warning);
        }
    }
}
