//! The examples in other languages. One whose program is not installed is skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed expectation is the message")]

use std::fs;
use std::path::Path;
use std::process::Stdio;

use delayed_backend::Backend;
use tokio::process::Command;

mod support;
use support::watch;

/// Returns whether this command succeeds. Otherwise says that its test is skipped.
async fn is_installed(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let installed = status.is_ok_and(|status| status.success());
    if !installed {
        eprintln!("skipped: {program} {} fails", arguments.join(" "));
    }
    installed
}

/// Runs an example, and returns its standard output.
async fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs an example against a backend with a control API.
async fn control(program: &str, arguments: &[&str]) -> String {
    watch();
    let backend = Backend::builder().control().start().await.unwrap();
    let control = backend.control_url().unwrap();
    let output = run(program, arguments, &[("BACKEND", &backend.url()), ("CONTROL", &control)]).await;
    assert_eq!(backend.requests(), [], "the example ends with a reset");
    output
}

#[tokio::test]
async fn the_example_with_curl_works() {
    if is_installed("curl", &["--version"]).await {
        let output = control("sh", &["-eu", "control.sh"]).await;
        assert!(output.contains("Hello World!!!{\"received\":2,"), "{output}");
    }
}

#[tokio::test]
async fn the_example_with_python_works() {
    if is_installed("python3", &["-c", "import requests"]).await {
        control("python3", &["control.py"]).await;
    }
}

#[tokio::test]
async fn the_example_with_node_works() {
    if is_installed("node", &["--eval", "fetch"]).await {
        control("node", &["control.mjs"]).await;
    }
}

#[tokio::test]
async fn the_tests_of_the_shop_pass() {
    watch();
    if is_installed("python3", &["--version"]).await {
        let program = env!("CARGO_BIN_EXE_delayed-backend");
        run("python3", &["-m", "unittest", "test_shop"], &[("DELAYED_BACKEND", program)]).await;
    }
}

#[tokio::test]
async fn the_example_with_pytest_passes() {
    watch();
    if is_installed("python3", &["-c", "import pytest, requests"]).await {
        let program = env!("CARGO_BIN_EXE_delayed-backend");
        let arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_items.py"];
        run("python3", &arguments, &[("DELAYED_BACKEND", program)]).await;
    }
}

#[test]
fn the_readme_contains_the_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for (name, language) in
        [("control.sh", "sh"), ("control.py", "python"), ("control.mjs", "js"), ("test_items.py", "python")]
    {
        let example = fs::read_to_string(folder.join("examples").join(name)).unwrap();
        assert!(
            readme.contains(&format!("```{language}\n{example}```\n")),
            "README.md should contain {name}:\n{example}"
        );
    }
}
