//! `retry-service`: the service of the retry sample, and a gateway, as a program.

use std::{env, error::Error, ffi::OsString, io::Write as _, process::ExitCode, sync::Arc};

use retry_service::{
    Admin, Reload, Tasks,
    common::signals::Signals,
    reload::{self, Hangups},
    run,
    settings::{Command, LoadedSettings},
    telemetry::logger::Log,
};
use tokio::runtime;

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let loaded = match LoadedSettings::from_args(args.clone()) {
        Ok(loaded) => loaded,
        Err(error) => match error.help() {
            Some(text) => return print(text),
            None => {
                complain(&format!("error: {error}"));
                return ExitCode::from(2);
            }
        },
    };
    if loaded.settings.print_config || loaded.settings.command.is_some() {
        for warning in &loaded.warnings {
            complain(&format!("warning: {warning}"));
        }
    }
    match loaded.settings.command {
        _ if loaded.settings.print_config => return print(&loaded.dump),
        Some(Command::Plan) => return plan(&loaded),
        None => {}
    }
    let dropped = loaded.metrics.as_ref().map(|metrics| metrics.log_lines_dropped()).unwrap_or_default();
    let log = match reload::start_log(&loaded.settings, dropped) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            complain(&format!("error: cannot start the thread that writes the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    raise_descriptor_limit(loaded.settings.limits.max_connections);
    match start(args, loaded, Arc::clone(&log)) {
        Ok(code) => code,
        Err(error) => {
            log.line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// On one processor, one thread serves all: handing work between threads would be all they add.
fn start(args: Vec<OsString>, loaded: LoadedSettings, log: Arc<Log>) -> Result<ExitCode, Box<dyn Error>> {
    let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if alone { runtime::Builder::new_current_thread() } else { runtime::Builder::new_multi_thread() };
    builder.enable_all().build()?.block_on(serve(args, loaded, log))
}

async fn serve(args: Vec<OsString>, loaded: LoadedSettings, log: Arc<Log>) -> Result<ExitCode, Box<dyn Error>> {
    let (mut signals, mut hangups) = (Signals::catch()?, Hangups::catch()?);
    let listener = loaded.settings.listen.bind().await?;
    let admin = match &loaded.settings.operations.admin.0 {
        Some(address) => Some(address.bind().await.map_err(|error| format!("--admin: {error}"))?),
        None => None,
    };
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    // The sample's log is as it ever was.
    if loaded.settings.forward {
        log::info!("{}", loaded.settings.summary());
    }
    log::info!("Serving http://{}", listener.local_addr()?);

    let (tasks, limits, metrics) = (Tasks::default(), loaded.settings.limits(), loaded.metrics.clone());
    let mut reload = Reload::new(args, loaded, tasks.clone(), log);
    let front = Arc::clone(reload.front());
    if let Some((listener, metrics)) = admin.zip(metrics) {
        log::info!("Admin on http://{}", listener.local_addr()?);
        let admin = Admin { metrics, front: Arc::clone(&front), tasks: tasks.clone() };
        tokio::spawn(admin.serve(listener));
    }
    let stop = async {
        loop {
            let reloaded = async {
                hangups.next().await;
                reload.now().await;
            };
            tokio::select! {
                () = signals.next() => return,
                () = reloaded => {}
            }
        }
    };
    let connections = run(listener, Arc::clone(&front), limits, tasks, stop).await;
    log::info!("Stopping: requests in flight may finish");

    let patience = tokio::time::timeout(reload.settings().timeouts.drain_timeout, signals.next());
    let (mut requests, mut tunnels) = (0, 0);
    let patience = async {
        drop(patience.await);
        (requests, tunnels) = (front.in_flight(), front.tunnels());
    };
    let connections = connections.drain(patience).await;
    if connections > 0 {
        log::warn!(
            "Cut off, as they did not end in time: requests: {requests}, connections: {connections}, of which tunnels: {tunnels}"
        );
    }
    Ok(if requests > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A connection is a descriptor, and so is its counterpart to the upstream: the system's usual limit is for desktops.
fn raise_descriptor_limit(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => log::debug!("The system allows {limit} descriptors; {wanted} may be needed"),
        Ok(_) => {}
        Err(error) => log::debug!("Cannot raise the limit on descriptors: {error}"),
    }
}

fn plan(loaded: &LoadedSettings) -> ExitCode {
    let basis = match (loaded.settings.timeouts.attempt_timeout.0, loaded.settings.timeouts.timeout.0) {
        (Some(limit), _) => format!("Each attempt ends within {limit:?} (--attempt-timeout)."),
        (None, Some(timeout)) => {
            let connect = loaded.settings.timeouts.connect_timeout;
            format!("Each attempt connects within {connect:?} and then gets no byte for {timeout:?}.")
        }
        (None, None) => "An attempt may take any time: --timeout and --attempt-timeout are off.".to_owned(),
    };
    let asked = match (loaded.settings.retries.status_codes.is_empty(), loaded.settings.retries.retry_after_max) {
        (true, _) => String::new(),
        (false, most) => {
            format!(" With Retry-After the backend may ask for waits of up to {most:?} (--retry-after-max).")
        }
    };
    match loaded.settings.plan() {
        Ok(plan) => print(format_args!("{plan}{basis}{asked}\n")),
        // The settings were checked when they were read.
        Err(_) => ExitCode::FAILURE,
    }
}

fn print(text: impl std::fmt::Display) -> ExitCode {
    match write!(std::io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(line: &str) {
    // Should standard error be closed, nobody is left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
