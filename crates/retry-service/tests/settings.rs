//! Settings from flags, the environment and a file, as the program takes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the message")]

use std::{
    env, fs,
    path::PathBuf,
    process::{self, Command, Output},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// A file for one test; it goes with its handle.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("retry-service-{}-{}.toml", process::id(), NEXT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

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
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let file = File::new(
        "# ours\ncount = 5\ninterval = \"5s\"\nbackoff-factor = 5\nforward = true\nstatus-codes = [500, 503]\n",
    );
    let path = file.0.to_str().unwrap();
    let environment = [("RETRY_SERVICE_COUNT", "6"), ("RETRY_SERVICE_INTERVAL", "6s")];
    let text = stdout(&run(&["--config", path, "--count", "7", "--print-config"], &environment));
    let check = |setting: &str, origin: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{setting} ")));
        assert_eq!(
            line.and_then(|line| line.split_once(" # ")).map(|(_, told)| told),
            Some(origin),
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
fn what_is_printed_can_be_read_again() {
    let first = stdout(&run(&["--forward", "--deadline", "9s", "--print-config"], &[]));
    let file = File::new(&first);
    let again = stdout(&run(&["--config", file.0.to_str().unwrap(), "--print-config"], &[]));
    let values = |text: &str| {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&again));
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_line_before_anything_starts() {
    let check = |text: &str, expected: &str| {
        let file = File::new(text);
        let path = file.0.to_str().unwrap();
        let output = run(&["--config", path], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("error: {path}:{expected}\n"));
    };
    check("\ncuont = 5", "2: unknown setting 'cuont'; tip: a similar one exists: 'count'");
    check("config = \"x\"", "1: unknown setting 'config'");
    check("confg = \"x\"", "1: unknown setting 'confg'");
    check("count = -1", "1: count: invalid value '-1' for '--count <N>': expected a whole number from 0 to 4294967295");
    check("[retry]\ncount = 1", "1: retry: is a table: settings are keys at the top level of the file");
    check("backoff-factor = 0", "1: backoff-factor: invalid value 0: expected a finite number above zero");
    check("\nupstream = 'http://h:0'", "2: upstream: port 0 cannot be connected to");
    check(
        "jitter = \"some\"",
        "1: jitter: invalid value 'some' for '--jitter <KIND>' [possible values: none, full, equal, decorrelated]",
    );
}

#[test]
fn the_plan_is_a_table() {
    let plan = "\
attempt    earliest      latest  then waits
      1          0s          0s  3s
      2          3s          4s  6s
      3          9s         11s  12s
      4         21s         24s
at most 4 attempts, over after 25s at the latest
Each attempt ends within 1s (--attempt-timeout).
";
    assert_eq!(stdout(&run(&["plan", "--attempt-timeout", "1s"], &[])), plan);
    assert_eq!(stdout(&run(&["--attempt-timeout", "1s", "plan"], &[])), plan);
    let asked = "With Retry-After the backend may ask for waits of up to 2s (--retry-after-max).\n";
    assert!(stdout(&run(&["plan", "--forward"], &[])).ends_with(asked));
}

/// What is said on standard error before the settings are printed.
#[track_caller]
fn warnings(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let output = run(&[arguments, &["--print-config"]].concat(), environment);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    told.lines().map(|line| line.strip_prefix("warning: ").unwrap().to_owned()).collect()
}

#[test]
fn a_variable_that_is_no_setting_is_told_with_a_similar_one() {
    let environment = [("RETRY_SERVICE_CUONT", "5"), ("RETRY_SERVICE_SERVICE_HOST", "10.0.0.1")];
    let expected =
        "RETRY_SERVICE_CUONT is not a setting, and has no effect; tip: a similar one exists: RETRY_SERVICE_COUNT";
    assert_eq!(warnings(&[], &environment), [expected]);
}

#[test]
fn an_empty_variable_is_not_set() {
    let empty = ["COUNT", "FORWARD", "JITTER", "STATUS_CODES", "CONFIG", "DEADLINE", "CUONT"];
    let empty = empty.map(|name| format!("RETRY_SERVICE_{name}"));
    let environment: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    let text = stdout(&run(&["--forward", "--print-config"], &environment));
    for line in ["count = \"3\"", "jitter = \"full\"", "status-codes = \"502,503,504\"", "deadline = \"off\""] {
        let line = text.lines().find(|told| told.starts_with(line)).unwrap_or_else(|| panic!("no {line} in {text}"));
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
async fn what_has_no_effect_is_told_with_where_it_is_set() {
    let file = File::new("interval = \"21s\"\ndeadline = \"2s\"\n");
    let path = file.0.to_str().unwrap();
    let backend = delayed_backend::Backend::start_tls("ok".parse().unwrap()).await.unwrap();
    let authority = File::new(backend.authority_pem().unwrap());
    let arguments = ["--config", path, "--attempt-timeout", "2s", "--upstream-ca", authority.0.to_str().unwrap()];
    let told = warnings(&arguments, &[("RETRY_SERVICE_MAX_BODY_SIZE", "1MiB")]);
    let expected = [
        "--attempt-timeout has no effect: an attempt of 2s does not end before the deadline of 2s (--deadline)"
            .to_owned(),
        "RETRY_SERVICE_MAX_BODY_SIZE has no effect: without --forward, no request is forwarded".to_owned(),
        "--upstream-ca has no effect: the URL of the upstream starts with http:// (--upstream)".to_owned(),
        format!("{path}:1: interval has no effect: no delay exceeds 20s (--max-wait-interval)"),
    ];
    assert_eq!(told, expected);
    for arguments in [&[][..], &["--forward"], &["--forward", "--config", "../../docs/deploy/retry-service.toml"]] {
        assert_eq!(warnings(arguments, &[]), Vec::<String>::new());
    }
}
