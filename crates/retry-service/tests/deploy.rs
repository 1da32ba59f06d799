//! The files in `docs/deploy` set existing settings to valid values.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed expectation is the message")]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploy")).join(name)
}

/// The settings in force, with their sources.
fn in_force(arguments: &[&str], environment: &BTreeMap<String, String>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_retry-service"))
        .args(arguments)
        .arg("--print-config")
        .env_clear()
        .envs(environment)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The variables of the program that a file sets, in any of the forms `NAME: value`, `NAME=value` and
/// `{ name: NAME, value: "value" }`.
fn variables(name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file(name)).unwrap();
    let variable = |line: &str| {
        let (_, rest) = line.split_once("RETRY_SERVICE_")?;
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_')?;
        let (name, value) = rest.split_at(end);
        let value = value.trim_start_matches([':', '=', ',', ' ']).trim_start_matches("value: ");
        let value = value.trim_end_matches(['\\', '}', ' ']).trim_matches('"');
        Some((format!("RETRY_SERVICE_{name}"), value.to_owned()))
    };
    text.lines().filter_map(variable).collect()
}

#[test]
fn every_variable_is_a_setting() {
    for (name, minimum) in [("Containerfile", 4), ("compose.yaml", 2), ("sidecar.yaml", 2), ("replicas.yaml", 4)] {
        let variables = variables(name);
        assert!(variables.len() >= minimum, "{name}: {variables:?}");
        let settings = in_force(&[], &variables);
        for (variable, value) in &variables {
            let line = settings.lines().find(|line| line.ends_with(&format!("# environment, {variable}")));
            let line = line.unwrap_or_else(|| panic!("{name}: {variable} is not a setting: {settings}"));
            assert!(line.contains(&format!("= \"{value}\"")), "{name}: {line}");
        }
    }
}

#[test]
fn the_configuration_file_is_valid_and_the_unit_reads_it() {
    let settings = in_force(&["--config", file("retry-service.toml").to_str().unwrap()], &BTreeMap::new());
    let from_file = settings.lines().filter(|line| line.contains("retry-service.toml:")).count();
    assert_eq!(from_file, 8, "{settings}");
    let unit = fs::read_to_string(file("retry-service.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/bin/retry-service --config /etc/retry-service.toml\n"));
}

#[test]
fn supervisors_wait_longer_than_the_drain_timeout() {
    let drain = in_force(&["--forward"], &BTreeMap::new());
    assert!(drain.contains("drain-timeout = \"30s\""), "{drain}");
    for (name, line) in [
        ("retry-service.service", "TimeoutStopSec=40"),
        ("compose.yaml", "stop_grace_period: 40s"),
        ("sidecar.yaml", "terminationGracePeriodSeconds: 45"),
        ("replicas.yaml", "terminationGracePeriodSeconds: 45"),
    ] {
        assert!(fs::read_to_string(file(name)).unwrap().contains(line), "{name}");
    }
}

#[test]
fn systemd_reloads_with_sighup_unless_the_configuration_is_a_credential() {
    let unit = fs::read_to_string(file("retry-service.service")).unwrap();
    assert!(unit.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"));
    let drop_in = fs::read_to_string(file("password.conf")).unwrap();
    let (credential, path) = ("retry-service.toml", "${CREDENTIALS_DIRECTORY}/retry-service.toml");
    assert!(drop_in.contains(&format!("\nLoadCredential={credential}:/etc/retry-service.toml\n")));
    assert!(drop_in.contains(&format!("\nExecStart=\nExecStart=/usr/local/bin/retry-service --config {path}\n")));
    assert!(drop_in.ends_with("\nExecReload=\n"));
}

#[test]
fn images_exist_or_are_built_without_local_build_output() {
    let compose = fs::read_to_string(file("compose.yaml")).unwrap();
    let images: Vec<_> = compose.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    let [app, "retry-service"] = images[..] else { panic!("{images:?}") };
    assert!(app.starts_with("docker.io/library/") && app.contains(':'), "{app}");
    let ignored = fs::read_to_string(file("../../.dockerignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().collect();
    for folder in ["target", "fuzz/target", ".git"] {
        assert!(ignored.contains(&folder), "{folder}");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "crates"] {
        assert!(!ignored.contains(&needed), "{needed}");
    }
}
