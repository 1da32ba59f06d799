//! SIGHUP: the settings are read again, and put in force for new requests if nothing is wrong with them.

use std::{ffi::OsString, fmt, io, sync::Arc};

use prometheus_client::metrics::counter::Counter;
use tokio::task::spawn_blocking;

use crate::{
    gateway::Gateway,
    generation::{Generation, Routes},
    router::Front,
    sample::App,
    server::shutdown::Tasks,
    settings::{LoadedSettings, ReloadedSettings, Settings},
    telemetry::{log_filter::LogFilter, logger::Log},
};

/// The settings in force, and what is made of them.
pub struct Reload {
    /// The command line, which is read again as well.
    args: Vec<OsString>,
    loaded: Arc<LoadedSettings>,
    front: Arc<Front>,
    tasks: Tasks,
    /// Tells this process from others, in `Via`.
    instance: u32,
    log: Arc<Log>,
}

impl Reload {
    /// Makes a service of the settings that were read from `args`.
    #[must_use]
    pub fn new(args: Vec<OsString>, loaded: LoadedSettings, tasks: Tasks, log: Arc<Log>) -> Self {
        let instance = fastrand::u32(..);
        let front = Arc::new(Front::of(generation(&loaded, instance, &tasks)));
        Self { args, loaded: Arc::new(loaded), front, tasks, instance, log }
    }

    /// The service.
    #[must_use]
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// Reads the settings again and puts them in force, or says in the log why not. Requests in flight keep those that
    /// they began with.
    pub async fn now(&mut self) {
        let (in_force, args) = (Arc::clone(&self.loaded), self.args.clone());
        // Files are read, those of the authorities included.
        let read = match spawn_blocking(move || in_force.reload(args)).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                self.front.keep();
                log::error!("Reload refused, the settings stay as they were: {error}");
                return;
            }
            Err(failed) => {
                self.front.keep();
                log::error!("Reload failed, the settings stay as they were: {failed}");
                return;
            }
        };
        let ReloadedSettings { loaded, changed, need_restart } = read;
        let settings = &loaded.settings;
        self.log.change(settings.operations.log_format, &LogFilter::from_env(settings.log_filter()).directives);
        let number = self.front.replace(generation(&loaded, self.instance, &self.tasks));
        for warning in loaded.warnings.iter().filter(|warning| !self.loaded.warnings.contains(warning)) {
            log::warn!("{warning}");
        }
        if !need_restart.is_empty() {
            log::warn!("Not reloaded, as it needs a restart: {}", need_restart.join(", "));
        }
        let changed =
            if changed.is_empty() { "nothing changed".to_owned() } else { format!("changed: {}", changed.join(", ")) };
        log::info!("Reloaded, generation {number}: {}; {changed}", loaded.settings.summary());
        self.loaded = Arc::new(loaded);
    }
}

/// Without the command line, which may have a password in it.
impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args: _, loaded, front, tasks, instance, log: _ } = self;
        f.debug_struct("Reload")
            .field("loaded", loaded)
            .field("front", front)
            .field("tasks", tasks)
            .field("instance", instance)
            .finish_non_exhaustive()
    }
}

/// What the settings make.
fn generation(loaded: &LoadedSettings, instance: u32, tasks: &Tasks) -> Generation {
    let LoadedSettings { settings, client, metrics, dump, .. } = loaded;
    let routes = if settings.forward {
        Routes::Gateway(Box::new(Gateway::new(client.clone(), settings.gateway(instance), tasks.clone())))
    } else {
        Routes::Sample(App::new(client.clone(), &settings.path))
    };
    Generation::new(routes, settings.limits.max_in_flight)
        .access_log(settings.operations.access_log)
        .metrics(metrics.clone())
        .tasks(tasks.clone())
        .dump(dump.clone())
}

/// Begins to log as the settings and `RUST_LOG` say. `dropped` counts lines that nobody reads.
///
/// # Errors
///
/// If there is no thread to write them.
pub fn start_log(settings: &Settings, dropped: Counter) -> io::Result<Log> {
    let LogFilter { directives, problems } = LogFilter::from_env(settings.log_filter());
    // First without it, as it may be a misspelt level that would hide what is said of it.
    let log = Log::start(settings.operations.log_format, settings.log_filter(), dropped)?;
    for problem in problems {
        log::warn!("{problem}");
    }
    log.change(settings.operations.log_format, &directives);
    Ok(log)
}

/// SIGHUP, caught from the moment this is made.
#[cfg(unix)]
#[derive(Debug)]
pub struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    /// Starts to catch it; the process no longer dies of it.
    ///
    /// # Errors
    ///
    /// When the system refuses the handler.
    pub fn catch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next one. Some that come close together count as one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// A signal that this platform does not have.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Hangups(());

#[cfg(not(unix))]
impl Hangups {
    /// Does nothing.
    ///
    /// # Errors
    ///
    /// Never on this platform; elsewhere the system may refuse.
    pub fn catch() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Waits for ever.
    pub async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_debug_output_has_a_password() {
        for mode in ["--forward", "--forward=false"] {
            let args: Vec<_> = ["retry-service", mode, "--upstream", "http://me:hush@h:1"].map(OsString::from).into();
            let loaded = LoadedSettings::from_args(args.clone()).unwrap();
            let again = loaded.reload(args.clone()).unwrap();
            let log = Arc::new(Log::start(loaded.settings.operations.log_format, "off", Counter::default()).unwrap());
            let shown = format!("{again:?} {:?}", Reload::new(args, loaded, Tasks::default(), log));
            assert!(!shown.contains("hush") && !shown.contains("bWU6"), "{shown}");
        }
    }
}
