//! The program `retry-service`: command line, log, signals and listeners.

use std::{env, error::Error, ffi::OsString, fmt::Display, io, io::Write as _, process::ExitCode, sync::Arc};

use prometheus_client::metrics::counter::Counter;

use crate::{
    admin::Admin,
    common::signals::Signals,
    plan,
    reload::{Hangups, Reload},
    service::{Aborted, Service},
    settings::{Command, LoadedSettings, Settings},
    telemetry::{fault_recorder::FaultRecorder, log_filter::LogFilter, logger::Log},
    threads::{self, Threads},
};

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let loaded = match LoadedSettings::from_args(args.clone()) {
        Ok(loaded) => loaded,
        Err(error) => match error.help() {
            Some(text) => return print(text),
            None => {
                print_error(format_args!("error: {error}"));
                return ExitCode::from(2);
            }
        },
    };
    let settings = &loaded.settings;
    if settings.print_config || settings.command.is_some() {
        for warning in &loaded.warnings {
            print_error(format_args!("warning: {warning}"));
        }
    }
    match settings.command {
        _ if settings.print_config => return print(&loaded.dump),
        Some(Command::Plan) => return print_plan(settings),
        None => {}
    }
    let dropped = loaded.metrics.as_ref().map(|metrics| metrics.log_lines_dropped()).unwrap_or_default();
    let log = match start_log(settings, dropped) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            print_error(format_args!("error: cannot start the log's thread: {error}"));
            return ExitCode::FAILURE;
        }
    };
    raise_descriptor_limit(settings.limits.max_connections);
    match start(args, loaded, Arc::clone(&log)) {
        Ok(code) => code,
        Err(error) => {
            log.line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Starts the log. `dropped` counts lines that cannot be written.
fn start_log(settings: &Settings, dropped: Counter) -> io::Result<Log> {
    let LogFilter { directives, warnings } = LogFilter::from_env(settings.log_filter());
    // The warnings are logged with the default filter: a misspelt level could hide them.
    let log = Log::start(settings.operations.log_format, settings.log_filter(), dropped)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    log.change(settings.operations.log_format, &directives);
    Ok(log)
}

/// Starts the threads. The main thread serves connections, too, and does everything else.
fn start(args: Vec<OsString>, loaded: LoadedSettings, log: Arc<Log>) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = threads::new_runtime()?;
    // Ends before the runtime, whose timers its tasks may use.
    let threads = Threads::start(loaded.settings.threads.get() - 1).map_err(|error| format!("--threads: {error}"))?;
    let (code, recorder) = runtime.block_on(serve(args, loaded, log, &threads))?;
    // What is still in flight ends with its runtime.
    drop(threads);
    drop(runtime);
    if let Some(recorder) = recorder {
        recorder.finish();
    }
    Ok(code)
}

/// Serves until a signal. Returns the recorder that is in use at the end.
async fn serve(
    args: Vec<OsString>,
    loaded: LoadedSettings,
    log: Arc<Log>,
    threads: &Threads,
) -> Result<(ExitCode, Option<FaultRecorder>), Box<dyn Error>> {
    let (mut signals, mut hangups) = (Signals::catch()?, Hangups::catch()?);
    let listener = loaded.settings.listen.bind().await?;
    let admin = match &loaded.settings.operations.admin.0 {
        Some(address) => Some(address.bind().await.map_err(|error| format!("--admin: {error}"))?),
        None => None,
    };
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    // The sample's own log has no such line.
    if loaded.settings.forward {
        log::info!("{}", loaded.settings.summary());
    }
    log::info!("Serving http://{}", listener.local_addr()?);

    let metrics = loaded.metrics.clone();
    let service = Service::on(loaded, threads.runtimes());
    if let Some((listener, metrics)) = admin.zip(metrics) {
        log::info!("Admin on http://{}", listener.local_addr()?);
        tokio::spawn(Admin { metrics, service: service.clone() }.serve(listener));
    }
    let reload = Reload { args, generations: Arc::clone(&service.generations), log };
    let shutdown = async {
        loop {
            let reloaded = async {
                hangups.next().await;
                reload.reload().await;
            };
            tokio::select! {
                () = signals.next() => return,
                () = reloaded => {}
            }
        }
    };
    let thread_ended = "a thread that serves connections has ended";
    tokio::select! {
        () = service.serve(listener, shutdown) => {}
        () = threads.failed() => return Err(thread_ended.into()),
    }
    log::info!("Stopping: requests in flight may finish");

    let Aborted { requests, connections, tunnels } = tokio::select! {
        biased;
        () = threads.failed() => return Err(thread_ended.into()),
        aborted = service.drain(signals.next()) => aborted,
    };
    if connections > 0 {
        log::warn!("Drain ended; aborted requests: {requests}, connections: {connections} (tunnels: {tunnels})");
    }
    let recorder = service.generations.current().loaded.recorder.clone();
    Ok((if requests > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }, recorder))
}

/// Raises the limit on file descriptors to two for each connection: one is for its connection to the upstream.
fn raise_descriptor_limit(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2);
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => {
            log::debug!("The limit on file descriptors is {limit}; up to {needed} may be needed");
        }
        Ok(_) => {}
        Err(error) => log::debug!("Cannot raise the limit on file descriptors: {error}"),
    }
}

fn print_plan(settings: &Settings) -> ExitCode {
    // The settings have been validated.
    plan::text(settings).map_or(ExitCode::FAILURE, print)
}

fn print(text: impl Display) -> ExitCode {
    match write!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn print_error(line: impl Display) {
    // If standard error is closed, nobody can be notified.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
