//! `retry-service`: the service of the retry sample, as a program.

use std::{error::Error, io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
use retry_client::Client;
use retry_service::{App, Front, Limits, Routes, Tasks, cli::Cli, log_line, run, signals::Signals, usage_error};

/// How long requests in flight may take once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let client = match cli.client() {
        Ok(client) => client,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    log_line::install();
    match serve(&cli, client).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(cli: &Cli, client: Client) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::catch()?;
    let listener = cli.listen.bind().await?;
    log::info!("Serving http://{}", listener.local_addr()?);

    let front = Front::new(Routes::Sample(App::new(client, &cli.path)), 10_000, false);
    let connections = run(listener, Arc::new(front), Limits::default(), Tasks::default(), signals.next()).await;
    log::info!("Stopping: requests in flight may finish");

    let patience = tokio::time::timeout(DRAIN, signals.next());
    connections.drain(async { drop(patience.await) }).await;
    Ok(())
}

/// Ends a run that the command line rules out; `--help` and `--version` end here too.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        complain(&usage_error::one_line(error));
        return ExitCode::from(2);
    }
    match error.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(line: &str) {
    // Should standard error be closed, nobody is left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
