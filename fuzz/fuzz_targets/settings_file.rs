//! Arbitrary text as a settings file: loading never panics, an error message is one line that names the location, and no
//! password is shown.
#![no_main]

use std::{env, ffi::OsString, fs, path::PathBuf, process, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use retry_service::LoadedSettings;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| env::temp_dir().join(format!("retry-service-fuzz-{}.toml", process::id())));

/// Part of the password in an upstream's URL, in the seeds.
const SECRET: &str = "s3cr3t";

fuzz_target!(|text: &str| {
    // This file would be read, and reading a device may never end.
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let file = FILE.to_str().expect("a path in UTF-8");
    fs::write(file, text).expect("a file for temporary use");
    let outcome = LoadedSettings::from_args(["retry-service", "--config", file].map(OsString::from));
    let shown = match &outcome {
        Ok(loaded) => format!("{}{loaded:?}", loaded.dump()),
        Err(error) => error.to_string(),
    };
    if text.contains(SECRET) && text.lines().filter(|line| line.contains(SECRET)).all(is_password) {
        assert!(!shown.contains(SECRET), "a password is shown: {shown}\nof: {text:?}");
    }
    if let Err(error) = &outcome {
        assert_eq!(error.help(), None, "{text:?}");
        assert!(!shown.contains(['\n', '\r']), "not one line: {shown:?}\nof: {text:?}");
        let rest = shown.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
        let line = rest.and_then(|rest| rest.split_once(": ")).and_then(|(line, _)| line.parse::<usize>().ok());
        // Contradictory settings are reported by flag if the file does not set the invalid one.
        let flag = shown.strip_prefix("--").and_then(|rest| rest.split_once(": ")).map(|(flag, _)| flag);
        if flag.is_some_and(|flag| !text.lines().any(|line| key(line) == Some(flag))) {
            return;
        }
        let lines = text.split('\n').count();
        assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "no line is named: {shown}\nof: {text:?}");
    }
});

/// Returns the key that a line sets.
fn key(line: &str) -> Option<&str> {
    Some(line.split_once('=')?.0.trim().trim_matches(['"', '\'']))
}

/// Returns whether a line sets an upstream with the secret in its password, and nowhere else.
fn is_password(line: &str) -> bool {
    let value = line.strip_prefix("upstream").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
    let Some(url) = value.map(|value| value.trim_start().trim_start_matches(['"', '\''])) else { return false };
    let Some((before, after)) = url.split_once(SECRET) else { return false };
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".:/-".contains(c));
    let host = after.split_once('@').filter(|(password, _)| is_plain(password)).map(|(_, host)| host);
    before.contains(':') && is_plain(before) && host.is_some_and(|host| !host.contains(SECRET))
}
