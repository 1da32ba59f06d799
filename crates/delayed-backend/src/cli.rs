//! The program: its command line, its log, and how it stops.

mod args;
mod log_line;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use self::args::Cli;
use crate::common::signals::Signals;
use crate::common::usage_error;
use crate::handler::App;
use crate::server::run;

/// How long requests in flight may take once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the program.
#[tokio::main]
pub async fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &args),
    };
    log_line::install();
    match serve(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::catch()?;
    let listener = cli.listen.bind().await?;
    let app = Arc::new(app(cli)?);
    log::info!("Serving {}://{}", app.scheme(), listener.local_addr()?);

    let connections = run(listener, app, signals.next()).await?;
    log::info!("Stopping: requests in flight may finish");

    let patience = tokio::time::timeout(DRAIN, signals.next());
    connections.drain(async { drop(patience.await) }).await;
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn app(cli: &Cli) -> Result<App, Box<dyn Error>> {
    Ok(App::new(cli.script()))
}

#[cfg(feature = "tls")]
fn app(cli: &Cli) -> Result<App, Box<dyn Error>> {
    let app = App::new(cli.script());
    if !cli.tls {
        return Ok(app);
    }
    let identity = crate::server::tls::Identity::new(cli.listen.host())?;
    if let Some(file) = &cli.tls_cert_out {
        std::fs::write(file, identity.authority_pem())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(app.with_tls(identity))
}

/// Ends a run that the command line rules out; `--help` and `--version` end here too.
fn refuse(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if error.use_stderr() {
        complain(&format!("error: {}", usage_error::one_line(error, &Cli::command(), args)));
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
