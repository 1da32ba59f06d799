//! Loads settings, at start and again at a reload.

use std::{ffi::OsString, fmt, sync::Arc};

use clap::FromArgMatches as _;
use retry_client::{Client, RetryBudget};

use super::{
    dump::Dump,
    environment,
    error::SettingsError,
    flags::{self, NEEDS_RESTART, Settings},
    input::Input,
    warnings,
};
use crate::telemetry::{fault_recorder::FaultRecorder, metrics::Metrics};

/// Settings that have been read and validated, and the client that was built from them.
#[derive(Debug)]
pub struct LoadedSettings {
    /// The settings.
    pub(crate) settings: Settings,
    /// The settings as text, with their sources.
    pub(crate) dump: Dump,
    /// The client.
    pub(crate) client: Client,
    /// Records what the upstream does; `None` without `--record-faults`.
    pub(crate) recorder: Option<FaultRecorder>,
    /// The metrics of the client and the service; `None` without `--admin`.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// A line for each setting that was given but has no effect.
    pub(crate) warnings: Vec<String>,
    budget: Option<RetryBudget>,
}

/// Settings that were loaded while others are in force.
#[derive(Debug)]
pub(crate) struct ReloadedSettings {
    /// The new settings; those that need a restart keep their values.
    pub(crate) loaded: LoadedSettings,
    /// The names of the settings that have changed.
    pub(crate) changed: Vec<String>,
    /// The names of the settings that were changed, but need a restart.
    pub(crate) need_restart: Vec<String>,
}

impl LoadedSettings {
    /// Loads settings from arguments, the environment, and the file that either names.
    ///
    /// # Errors
    ///
    /// Returns one line that names the setting, its value and what is expected, with the variable or the line of the
    /// file that the value is from.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, SettingsError> {
        let input = Input::read(args)?;
        let dump = Dump::new(&input);
        Self::build(&input, dump, None)
    }

    /// Returns every setting and where it was set, as `--print-config` prints it.
    pub fn dump(&self) -> impl fmt::Display {
        &self.dump
    }

    /// Loads settings again. Metrics are kept, and so is the budget unless it has changed.
    ///
    /// # Errors
    ///
    /// As [`from_args`](Self::from_args).
    pub(crate) fn reload(&self, args: impl IntoIterator<Item = OsString>) -> Result<ReloadedSettings, SettingsError> {
        let mut input = Input::read(args)?;
        let mut dump = Dump::new(&input);
        let differing = dump.differing(&self.dump).map(str::to_owned);
        let (need_restart, mut changed): (Vec<_>, Vec<_>) =
            differing.partition(|name| flags::is_in(&input.command, NEEDS_RESTART, name));
        for name in &need_restart {
            dump.keep(name, &self.dump);
        }
        input.add(need_restart.iter().filter_map(|name| Some((name.as_str(), dump.value(name)?))))?;
        let loaded = Self::build(&input, dump, Some(self))?;
        // The dump does not show a changed password.
        if loaded.settings.upstreams() != self.settings.upstreams() && !changed.iter().any(|name| name == "upstream") {
            changed.push("upstream".to_owned());
        }
        Ok(ReloadedSettings { loaded, changed, need_restart })
    }

    fn build(input: &Input, dump: Dump, in_force: Option<&Self>) -> Result<Self, SettingsError> {
        let settings = Settings::from_arg_matches(&input.matches)
            .map_err(|error| SettingsError::usage(&error, &input.command, &[]))?;
        let metrics = match in_force {
            Some(in_force) => in_force.metrics.clone(),
            None => settings.operations.admin.0.is_some().then(Arc::default),
        };
        let budget = match in_force.filter(|in_force| settings.shares_budget_with(&in_force.settings)) {
            Some(in_force) => in_force.budget.clone(),
            None => settings.budget().map_err(|error| input.located(error))?,
        };
        // A recording goes on, so that requests in flight have their lines in it.
        let same = in_force.filter(|in_force| in_force.settings.recording() == settings.recording());
        let recorder = settings.recording().map(|_| match same {
            Some(LoadedSettings { recorder: Some(recorder), .. }) => recorder.clone(),
            _ => FaultRecorder::new(),
        });
        let client = settings.client(metrics.clone(), budget.clone(), recorder.clone());
        let client = client.map_err(|error| input.located(error))?;
        // Last, so that settings that are rejected leave no trace in it.
        if let Some((recorder, file)) = recorder.as_ref().zip(settings.recording()) {
            let dropped = metrics.as_ref().map(|metrics| metrics.log_lines_dropped()).unwrap_or_default();
            recorder.open(file, dropped).map_err(|error| {
                let reason = format!("'{}': {error}", file.display());
                input.located(SettingsError::setting("record-faults", &reason))
            })?;
        }
        let mut warnings = warnings::find(&settings, &dump, &input.command);
        warnings.extend(environment::unknown(environment::names(), &input.command));
        Ok(Self { settings, dump, client, recorder, metrics, warnings, budget })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::Limits;

    fn args(more: &[&str]) -> Vec<OsString> {
        ["retry-service"].iter().chain(more).map(OsString::from).collect()
    }

    fn load(more: &[&str]) -> Result<LoadedSettings, SettingsError> {
        LoadedSettings::from_args(args(more))
    }

    #[test]
    fn an_error_is_one_line_that_says_what_is_expected() {
        let check = |args: &[&str], expected: &str| assert_eq!(load(args).unwrap_err().to_string(), expected);
        check(&["--count", "-1"], "invalid value '-1' for '--count <N>': expected a whole number from 0 to 4294967295");
        check(
            &["--upstream", "http://me:secret@ho st"],
            "--upstream: 'http://***@ho st': expected a URL like http://host:port",
        );
        check(
            &["--upstream", "http://a", "--upstream", "http://b"],
            "--upstream: 'http://b': expected one URL without --forward",
        );
        check(
            &["--forward", "--upstream", "http://a/x,http://me:hush@b/y"],
            "--upstream: 'http://***@b/y': expected the same path as in 'http://a/x'",
        );
        check(
            &["--eject-after", "0"],
            "invalid value '0' for '--eject-after <N>': expected a whole number from 1 to 4294967295",
        );
        check(
            &["--max-ejected", "1.5"],
            "invalid value '1.5' for '--max-ejected <RATIO>': expected a number from 0 to 1",
        );
        check(
            &["--outage-wait", "0"],
            "invalid value '0' for '--outage-wait <DURATION>': expected more than zero, or off",
        );
        check(
            &["--max-body-size", "much"],
            "invalid value 'much' for '--max-body-size <SIZE>': expected a number of bytes such as 65536, 64KiB or 1MiB, or off",
        );
        check(
            &["--trusted-proxies", "10.0.0.0/8,lan"],
            "invalid value '10.0.0.0/8,lan' for '--trusted-proxies <NETWORKS>': expected networks and addresses, such as 10.0.0.0/8,fd00::/8",
        );
        check(
            &["--config", "/no/such.toml"],
            "--config: cannot read '/no/such.toml': No such file or directory (os error 2)",
        );
    }

    #[test]
    fn no_error_shows_a_password() {
        let check = |args: &[&str], expected: &str| {
            let error = load(args).unwrap_err();
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
            assert_eq!(error.to_string(), expected);
        };
        let url = "http://me:hush@h/x";
        check(&[url], "invalid value 'http://***@h/x' for '[COMMAND]' [possible values: plan]");
        check(
            &["--jitter", url],
            "invalid value 'http://***@h/x' for '--jitter <KIND>' [possible values: none, full, equal, decorrelated]",
        );
        check(&["--upstream-ca", url], "--upstream-ca: 'http://***@h/x': No such file or directory (os error 2)");
        check(&["--config", url], "--config: cannot read 'http://***@h/x': No such file or directory (os error 2)");
        check(
            &["--upstream", "http://***@h"],
            "--upstream: *** stands for a user name and password that are not shown",
        );
        check(
            &["--upstream", "ftp://me:hush@h"],
            "--upstream: 'ftp://***@h': expected a URL that starts with http:// or https://",
        );
    }

    #[test]
    fn the_password_is_never_shown() {
        let loaded = load(&["--upstream", "http://me:secret@h"]).unwrap();
        assert!(!format!("{loaded:?}").contains("secret"));
        assert!(loaded.dump.to_string().contains("upstream = \"http://***@h\""), "{}", loaded.dump);
        let loaded = load(&["--forward", "--upstream", "http://a", "--upstream", "http://me:secret@h"]).unwrap();
        assert!(!format!("{loaded:?} {}", loaded.settings.summary()).contains("secret"));
        assert!(loaded.dump.to_string().contains("upstream = \"http://a,http://***@h\""), "{}", loaded.dump);
        assert_eq!(loaded.settings.summary(), "Forwarding to http://a, http://***@h (no configuration file)",);
    }

    #[test]
    fn a_reload_keeps_settings_that_need_a_restart() {
        let in_force = load(&[
            "--listen=127.0.0.1:1",
            "--threads=3",
            "--admin=1",
            "--max-connections=1",
            "--max-header-size=8KiB",
            "--header-timeout=1s",
            "--client-timeout=1s",
            "--preserve-header-case",
        ]);
        let in_force = in_force.unwrap();
        let reloaded = in_force.reload(args(&["--count=1"])).unwrap();
        let mut need_restart = reloaded.need_restart;
        let command = flags::command();
        let mut names: Vec<_> = flags::names(&command, NEEDS_RESTART).collect();
        names.sort_unstable();
        need_restart.sort();
        assert_eq!(need_restart, names);
        assert_eq!(reloaded.changed, ["count"]);

        let LoadedSettings { settings, dump, .. } = reloaded.loaded;
        // A new limit of the server needs a restart as well.
        let limits @ Limits {
            max_connections: _,
            max_header_size: _,
            header_timeout: _,
            client_timeout: _,
            preserve_header_case: _,
        } = settings.limits();
        assert_eq!(limits, in_force.settings.limits());
        assert_eq!(settings.listen, in_force.settings.listen);
        assert_eq!(settings.threads, in_force.settings.threads);
        assert_eq!(settings.operations.admin, in_force.settings.operations.admin);
        assert!(dump.to_string().contains("max-connections = \"1\""), "{dump}");
        assert_eq!(dump.to_string().matches("# kept until restart; ").count(), names.len());
    }
}
