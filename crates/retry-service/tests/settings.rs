//! Settings from flags, the environment and a file, as the program reads them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the message")]

#[path = "support/temp_file.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod temp_file;

use std::{
    env, fs,
    process::{Command, Output},
};

use temp_file::TempFile;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_retry-service"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn flags_take_precedence_over_variables_the_file_and_defaults() {
    let file = TempFile::new(
        "# ours\ncount = 5\ninterval = \"5s\"\nbackoff-factor = 5\nforward = true\nstatus-codes = [500, 503]\n",
    );
    let path = file.path();
    let environment = [("RETRY_SERVICE_COUNT", "6"), ("RETRY_SERVICE_INTERVAL", "6s")];
    let text = stdout(&run(&["--config", path, "--count", "7", "--print-config"], &environment));
    let check = |setting: &str, source: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{setting} ")));
        assert_eq!(
            line.and_then(|line| line.split_once(" # ")).map(|(_, source)| source),
            Some(source),
            "{setting} in {text}"
        );
    };
    check("count = \"7\"", "flag");
    check("interval = \"6s\"", "environment, RETRY_SERVICE_INTERVAL");
    check("backoff-factor = \"5\"", &format!("{path}:4"));
    check("status-codes = \"500,503\"", &format!("{path}:6"));
    check("forward = \"true\"", &format!("{path}:5"));
    check("max-wait-interval = \"2s\"", "default");
    assert!(text.contains("\n# upstream-ca is not set\n"), "{text}");
}

#[test]
fn several_upstreams_are_flags_a_list_or_separated_by_commas() {
    let check = |arguments: &[&str], environment: &[(&str, &str)], source: &str| {
        let text = stdout(&run(&[arguments, &["--forward", "--print-config"]].concat(), environment));
        let line = text.lines().find(|line| line.starts_with("upstream = ")).unwrap();
        let (value, printed_source) = line.split_once(" # ").unwrap();
        assert_eq!((value.trim_end(), printed_source), ("upstream = \"http://a:1,http://***@b:2\"", source));
    };
    check(&["--upstream", "http://a:1", "--upstream", "http://me:hush@b:2"], &[], "flag");
    let variable = "RETRY_SERVICE_UPSTREAM";
    check(&[], &[(variable, "http://a:1, http://me:hush@b:2")], "environment, RETRY_SERVICE_UPSTREAM");
    for value in ["['http://a:1', 'http://me:hush@b:2']", "'http://a:1,http://me:hush@b:2'"] {
        let file = TempFile::new(&format!("upstream = {value}"));
        check(&["--config", file.path()], &[], &format!("{}:1", file.path()));
        // Flags replace the list; they do not add to it.
        let flags = ["--config", file.path(), "--upstream", "http://a:1", "--upstream", "http://me:hush@b:2"];
        check(&flags, &[(variable, "http://c")], "flag");
    }
}

#[test]
fn printed_settings_can_be_read_again() {
    let upstreams = ["--upstream", "http://a", "--upstream", "http://b"];
    let first = stdout(&run(&[&upstreams[..], &["--forward", "--deadline", "9s", "--print-config"]].concat(), &[]));
    let file = TempFile::new(&first);
    let again = stdout(&run(&["--config", file.path(), "--print-config"], &[]));
    let values = |text: &str| {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&again));
}

#[test]
fn an_error_in_the_file_is_reported_with_its_line() {
    let check = |text: &str, expected: &str| {
        let file = TempFile::new(text);
        let path = file.path();
        let output = run(&["--config", path], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("error: {path}:{expected}\n"));
    };
    check("\ncuont = 5", "2: unknown setting 'cuont'; did you mean 'count'?");
    check("config = \"x\"", "1: unknown setting 'config'");
    check("confg = \"x\"", "1: unknown setting 'confg'");
    check("count = -1", "1: count: invalid value '-1': expected a whole number from 0 to 4294967295");
    check("[retry]\ncount = 1", "1: retry: expected a value, found a table; settings must be top-level keys");
    check("backoff-factor = 0", "1: backoff-factor: invalid value '0': expected a finite number above zero");
    check("\nupstream = 'http://h:0'", "2: upstream: port 0 cannot be connected to");
    check("jitter = \"some\"", "1: jitter: invalid value 'some' [possible values: none, full, equal, decorrelated]");
}

#[test]
fn the_plan_is_a_table() {
    let plan = "\
attempt    earliest      latest  then waits
      1          0s          0s  3s
      2          3s          4s  6s
      3          9s         11s  12s
      4         21s         24s
at most 4 attempts, done after at most 25s
Each attempt takes at most 1s (--attempt-timeout).
";
    assert_eq!(stdout(&run(&["plan", "--attempt-timeout", "1s"], &[])), plan);
    assert_eq!(stdout(&run(&["--attempt-timeout", "1s", "plan"], &[])), plan);
}

#[test]
fn the_guide_shows_the_plan_of_a_gateway() {
    const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway.md");
    const BEGIN: &str = "<!-- plan -->\n";
    const END: &str = "<!-- end of plan -->";
    let guide = fs::read_to_string(GUIDE).unwrap();
    let (before, rest) = guide.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let plan = format!("\n```text\n{}```\n\n", stdout(&run(&["plan", "--forward"], &[])));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(GUIDE, [before, BEGIN, &plan, END, after].concat()).unwrap();
    } else {
        assert_eq!(shown, plan, "run the test with UPDATE_DOCS=1 to update the guide");
    }
}

/// The warnings before the settings are printed.
#[track_caller]
fn warnings(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let output = run(&[arguments, &["--print-config"]].concat(), environment);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr.lines().map(|line| line.strip_prefix("warning: ").unwrap().to_owned()).collect()
}

#[test]
fn an_unknown_variable_is_reported_with_a_similar_one() {
    let environment = [("RETRY_SERVICE_CUONT", "5"), ("RETRY_SERVICE_SERVICE_HOST", "10.0.0.1")];
    let expected = "RETRY_SERVICE_CUONT is not a setting, and has no effect; did you mean RETRY_SERVICE_COUNT?";
    assert_eq!(warnings(&[], &environment), [expected]);
}

#[test]
fn an_empty_variable_is_not_set() {
    let empty = ["COUNT", "FORWARD", "JITTER", "STATUS_CODES", "CONFIG", "DEADLINE", "CUONT"];
    let empty = empty.map(|name| format!("RETRY_SERVICE_{name}"));
    let environment: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    let text = stdout(&run(&["--forward", "--print-config"], &environment));
    for line in ["count = \"3\"", "jitter = \"full\"", "status-codes = \"502,503,504\"", "deadline = \"off\""] {
        let line =
            text.lines().find(|printed| printed.starts_with(line)).unwrap_or_else(|| panic!("no {line} in {text}"));
        assert!(line.ends_with(" # default"), "{line}");
    }
    assert_eq!(warnings(&[], &environment), Vec::<String>::new());
    let output = run(&["--print-config"], &[("RETRY_SERVICE_COUNT", "x")]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: RETRY_SERVICE_COUNT: "));
}

#[test]
fn off_and_none_are_the_same_wherever_a_setting_can_be_off() {
    let settings = [
        "jitter",
        "status-codes",
        "budget-ratio",
        "timeout",
        "attempt-timeout",
        "deadline",
        "upstream-max-connections",
        "upstream-max-connection-age",
        "upstream-refresh",
        "outage-wait",
        "forwarded",
        "trusted-proxies",
        "via",
        "max-body-size",
        "admin",
    ];
    for setting in settings {
        for off in ["off", "none"] {
            stdout(&run(&[&format!("--{setting}={off}"), "--print-config"], &[]));
        }
    }
}

#[tokio::test]
async fn a_setting_without_effect_is_reported_with_its_source() {
    let file = TempFile::new("interval = \"21s\"\ndeadline = \"2s\"\n");
    let path = file.path();
    let backend = delayed_backend::Backend::start_tls("ok".parse().unwrap()).await.unwrap();
    let authority = TempFile::new(backend.ca_pem().unwrap());
    let arguments = ["--config", path, "--attempt-timeout", "2s", "--upstream-ca", authority.path()];
    let warnings_found = warnings(&arguments, &[("RETRY_SERVICE_MAX_BODY_SIZE", "1MiB")]);
    let expected = [
        "--attempt-timeout has no effect: an attempt of 2s does not end before the deadline of 2s (--deadline)"
            .to_owned(),
        "RETRY_SERVICE_MAX_BODY_SIZE has no effect: without --forward, no request is forwarded".to_owned(),
        "--upstream-ca has no effect: the URL of the upstream starts with http:// (--upstream)".to_owned(),
        format!("{path}:1: interval has no effect: no wait exceeds 20s (--max-wait-interval)"),
    ];
    assert_eq!(warnings_found, expected);
    for arguments in [&[][..], &["--forward"], &["--forward", "--config", "../../docs/deploy/retry-service.toml"]] {
        assert_eq!(warnings(arguments, &[]), Vec::<String>::new());
    }
}
