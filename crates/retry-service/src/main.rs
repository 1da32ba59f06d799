//! `retry-service`: the service of the retry sample, and a gateway, as a program.

use std::{env, error::Error, io::Write as _, process::ExitCode, sync::Arc};

use retry_service::{
    App, Front, Gateway, Routes, Tasks, log_line, run,
    settings::{Command, Loaded},
    signals::Signals,
};
use tokio::runtime;

fn main() -> ExitCode {
    let loaded = match Loaded::from_args(env::args_os()) {
        Ok(loaded) => loaded,
        Err(refusal) => match refusal.asked() {
            Some(text) => return print(text),
            None => {
                complain(&format!("error: {refusal}"));
                return ExitCode::from(2);
            }
        },
    };
    match loaded.settings.command {
        _ if loaded.settings.print_config => return print(&loaded.listing),
        Some(Command::Plan) => return plan(&loaded),
        None => {}
    }
    log_line::install();
    match start(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// On one processor, one thread serves all: handing work between threads would be all they add.
fn start(loaded: Loaded) -> Result<(), Box<dyn Error>> {
    let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if alone { runtime::Builder::new_current_thread() } else { runtime::Builder::new_multi_thread() };
    builder.enable_all().build()?.block_on(serve(loaded))
}

async fn serve(Loaded { settings, client, .. }: Loaded) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::catch()?;
    let listener = settings.listen.bind().await?;
    log::info!("Serving http://{}", listener.local_addr()?);

    let tasks = Tasks::default();
    let routes = if settings.forward {
        Routes::Gateway(Gateway::new(client, settings.gateway(fastrand::u32(..)), tasks.clone()))
    } else {
        Routes::Sample(App::new(client, &settings.path))
    };
    let front = Front::new(routes, settings.max_in_flight, settings.access_log);
    let connections = run(listener, Arc::new(front), settings.limits(), tasks, signals.next()).await;
    log::info!("Stopping: requests in flight may finish");

    let patience = tokio::time::timeout(settings.drain_timeout, signals.next());
    connections.drain(async { drop(patience.await) }).await;
    Ok(())
}

fn plan(loaded: &Loaded) -> ExitCode {
    let basis = match (loaded.settings.attempt_timeout.0, loaded.settings.timeout.0) {
        (Some(limit), _) => format!("Each attempt ends within {limit:?} (--attempt-timeout)."),
        (None, Some(timeout)) => {
            let connect = loaded.settings.connect_timeout;
            format!("Each attempt connects within {connect:?} and then gets no byte for {timeout:?}.")
        }
        (None, None) => "An attempt may take any time: --timeout and --attempt-timeout are off.".to_owned(),
    };
    match loaded.settings.plan() {
        Ok(plan) => print(format_args!("{plan}{basis}\n")),
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
