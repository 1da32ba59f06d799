//! The settings as they were given: flags take precedence over variables, variables over the file.

use std::{ffi::OsString, fmt, path::PathBuf};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{
    error::SettingsError,
    file::{self, Entry},
    flags, stray_values,
};

/// A command line, with what the file sets appended to it as flags.
pub(super) struct Input {
    pub(super) command: Command,
    pub(super) matches: ArgMatches,
    args: Vec<OsString>,
    /// The entries of the file that are in force.
    file: Vec<Entry>,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    Flag,
    /// The variable of this name.
    Variable(String),
    /// A line of the file, such as `gateway.toml:3`.
    File(String),
    /// The setting needs a restart, and this source has another value.
    Kept(String),
}

impl Source {
    /// Names a setting by what set it: its flag, its variable, or its line of the file.
    pub(super) fn name(&self, setting: &str) -> String {
        match self {
            Self::Default | Self::Flag | Self::Kept(_) => format!("--{setting}"),
            Self::Variable(variable) => variable.clone(),
            Self::File(line) => format!("{line}: {setting}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag => f.write_str("flag"),
            Self::Variable(variable) => write!(f, "environment, {variable}"),
            Self::File(line) => f.write_str(line),
            Self::Kept(differing) => write!(f, "kept until restart; {differing} differs"),
        }
    }
}

impl Input {
    /// Parses arguments and variables, and the file that either of them names.
    pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, SettingsError> {
        let command = flags::command();
        let args: Vec<_> = args.into_iter().collect();
        stray_values::check(&args, &command)?;
        let matches = parse(&command, &args)?;
        let mut input = Self { command, matches, args, file: Vec::new() };
        if let Some(path) = input.matches.get_one::<PathBuf>("config") {
            let mut file = file::read(path, &input.command).map_err(|error| input.located(error))?;
            file.retain(|entry| input.source_of(&entry.name) == Source::Default);
            input.add(file.iter().map(|entry| (entry.name.as_str(), entry.value.as_str())))?;
            input.file = file;
        }
        Ok(input)
    }

    /// Overrides settings.
    pub(super) fn add<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), SettingsError> {
        self.args.extend(settings.into_iter().map(|(name, value)| format!("--{name}={value}").into()));
        self.matches = parse(&self.command, &self.args)?;
        Ok(())
    }

    pub(super) fn source(&self, arg: &Arg) -> Source {
        let from_file = self.file.iter().find(|entry| Some(entry.name.as_str()) == arg.get_long());
        match self.matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => {
                from_file.map_or(Source::Flag, |entry| Source::File(entry.location.clone()))
            }
            Some(ValueSource::EnvVariable) => Source::Variable(flags::variable(arg.get_long().unwrap_or_default())),
            _ => Source::Default,
        }
    }

    fn source_of(&self, name: &str) -> Source {
        let arg = self.command.get_arguments().find(|arg| arg.get_long() == Some(name));
        arg.map_or(Source::Default, |arg| self.source(arg))
    }

    /// Adds to an error where its setting was set.
    pub(super) fn located(&self, error: SettingsError) -> SettingsError {
        error.located(|name| self.source_of(name).name(name))
    }
}

fn parse(command: &Command, args: &[OsString]) -> Result<ArgMatches, SettingsError> {
    command.clone().try_get_matches_from(args).map_err(|error| SettingsError::usage(&error, command, args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_named_by_what_set_it() {
        let check = |source: Source, expected: &str| assert_eq!(source.name("upstream"), expected);
        check(Source::File("g.toml:2".to_owned()), "g.toml:2: upstream");
        check(Source::Variable("RETRY_SERVICE_UPSTREAM".to_owned()), "RETRY_SERVICE_UPSTREAM");
        check(Source::Flag, "--upstream");
        check(Source::Default, "--upstream");
    }
}
