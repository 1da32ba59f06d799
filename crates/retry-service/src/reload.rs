//! Reloads the settings on SIGHUP.

use std::{ffi::OsString, io, sync::Arc};

use tokio::task::spawn_blocking;

use crate::{
    generation::Generations,
    settings::ReloadedSettings,
    telemetry::{log_filter::LogFilter, logger::Log},
};

/// Loads the settings again, and uses them for new requests.
pub(crate) struct Reload {
    /// The command line, which is parsed again.
    pub(crate) args: Vec<OsString>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) log: Arc<Log>,
}

impl Reload {
    /// Loads the settings again. If that fails, the reason is logged, and the current ones stay. Requests in flight
    /// keep the settings that they began with.
    pub(crate) async fn reload(&self) {
        let generations = &*self.generations;
        let (current, args) = (generations.current(), self.args.clone());
        let in_force = Arc::clone(&current);
        // Reading files blocks.
        let reloaded = spawn_blocking(move || in_force.loaded.reload(args).map_err(|error| error.to_string())).await;
        let reloaded = reloaded.unwrap_or_else(|error| Err(error.to_string()));
        let ReloadedSettings { loaded, changed, need_restart } = match reloaded {
            Ok(reloaded) => reloaded,
            Err(error) => {
                generations.set_reload_failed();
                log::error!("Reload failed; keeping the current settings: {error}");
                return;
            }
        };
        let settings = &loaded.settings;
        self.log.change(settings.operations.log_format, &LogFilter::from_env(settings.log_filter()).directives);
        for warning in loaded.warnings.iter().filter(|warning| !current.loaded.warnings.contains(warning)) {
            log::warn!("{warning}");
        }
        if !need_restart.is_empty() {
            log::warn!("These settings take effect only after a restart: {}", need_restart.join(", "));
        }
        let changed =
            if changed.is_empty() { "nothing changed".to_owned() } else { format!("changed: {}", changed.join(", ")) };
        let summary = settings.summary();
        let number = generations.replace(loaded);
        log::info!("Reloaded: generation {number}, {changed}. {summary}");
    }
}

/// SIGHUP, where it exists. It is caught as soon as this is created.
#[derive(Debug)]
pub(crate) struct Hangups(#[cfg(unix)] tokio::signal::unix::Signal);

impl Hangups {
    /// Catches SIGHUP, which no longer ends the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the handler cannot be installed.
    pub(crate) fn catch() -> io::Result<Self> {
        #[cfg(unix)]
        return Ok(Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?));
        #[cfg(not(unix))]
        Ok(Self())
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if self.0.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use crate::{service::Service, settings::LoadedSettings};

    #[tokio::test]
    async fn debug_output_shows_no_password() {
        for mode in ["--forward", "--forward=false"] {
            let args = ["retry-service", mode, "--upstream", "http://me:hush@h:1"].map(Into::into);
            let loaded = LoadedSettings::from_args(args.clone()).unwrap();
            let reloaded = loaded.reload(args).unwrap();
            let shown = format!("{reloaded:?} {:?}", Service::new(loaded));
            assert!(!shown.contains("hush") && !shown.contains("bWU6"), "{shown}");
        }
    }
}
