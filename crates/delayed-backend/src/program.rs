//! The program `delayed-backend`: command line, log and signals.

mod addresses;
mod flags;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory as _, Parser as _};
use env_logger::Env;
use jiff::ZonedDateTime;
use tokio::net::TcpListener;

use crate::common::log_line::LogLine;
use crate::common::signals::Signals;
use crate::common::usage_error;
use crate::control;
use crate::program::addresses::{Addresses, PortFile};
use crate::program::flags::Flags;
use crate::server::Server;
use crate::server::drain::DRAIN_TIMEOUT;

/// Runs the program with the arguments of the process.
#[tokio::main]
pub async fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let flags = match Flags::try_parse_from(&args).and_then(Flags::check) {
        Ok(flags) => flags,
        Err(error) => return exit_with(&error, &args),
    };
    start_log();
    if let Err(error) = run(&flags).await {
        print_error(&error.to_string());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Logs to standard error: the events that `RUST_LOG` selects, or by default those of level `info` and above.
fn start_log() {
    let mut logger = env_logger::Builder::from_env(Env::default().default_filter_or("info"));
    logger.format(|out, record| {
        let time = ZonedDateTime::now().datetime();
        writeln!(out, "{}", LogLine::new(time, record.level(), record.args()))
    });
    // Fails only if a logger is installed already, which is then kept.
    let _ = logger.try_init();
}

async fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::catch()?;
    let listener = flags.listen.bind().await?;
    let address = listener.local_addr()?;
    if flags.upstream.as_ref().is_some_and(|upstream| upstream.is_at(address)) {
        return Err("--upstream: the upstream is this backend itself; --listen sets another port".into());
    }
    let control = match &flags.control {
        Some(address) => Some(address.bind().await.map_err(|error| format!("--control: {error}"))?),
        None => None,
    };
    let server = Arc::new(server(flags)?);
    if flags.delay_has_no_effect() {
        log::warn!("--delay has no effect: the script has no delay without a value");
    }
    let _port_files = announce(flags, &server, &listener, control.as_ref())?;

    let serving = serve(Arc::clone(&server), listener, &mut signals);
    match control {
        None => serving.await?,
        // The requests in flight at the end can still be watched.
        Some(control) => tokio::select! {
            result = serving => result?,
            never = control::run(control, server) => match never {},
        },
    }
    Ok(())
}

/// Serves until the first signal, and lets requests in flight finish until the second.
async fn serve(server: Arc<Server>, listener: TcpListener, signals: &mut Signals) -> io::Result<()> {
    let connections = server.run(listener, signals.next()).await?;
    log::info!("Stopping: requests in flight may finish");

    let abort = tokio::time::timeout(DRAIN_TIMEOUT, signals.next());
    connections.drain(async { drop(abort.await) }).await;
    Ok(())
}

/// Logs the addresses, and writes them to where the flags ask for. The files are removed when they are dropped.
fn announce(
    flags: &Flags,
    server: &Server,
    listener: &TcpListener,
    control: Option<&TcpListener>,
) -> Result<Vec<PortFile>, Box<dyn Error>> {
    let address = listener.local_addr()?;
    let control = control.map(TcpListener::local_addr).transpose()?;
    log::info!("Serving {}://{address}", server.scheme());
    if let Some(upstream) = &flags.upstream {
        log::info!("Upstream: {upstream}");
    }
    if let Some(control) = control {
        log::info!("Control API at http://{control}");
    }
    let mut files = Vec::new();
    if let Some(path) = &flags.port_file {
        files.push(PortFile::write(path, address.port())?);
    }
    if let Some((path, control)) = flags.control_port_file.as_ref().zip(control) {
        files.push(PortFile::write(path, control.port())?);
    }
    if flags.print_addresses {
        Addresses::new(server.scheme(), address, control).print()?;
    }
    Ok(files)
}

fn server(flags: &Flags) -> Result<Server, Box<dyn Error>> {
    let mut server = Server::new(flags.script()).with_stubs(flags.stubs.clone().unwrap_or_default());
    if flags.is_sample() {
        server = server.with_log_of_sample();
    }
    if let Some(upstream) = flags.upstream.clone() {
        server = server.with_upstream(upstream);
    }
    #[cfg(feature = "tls")]
    if flags.tls {
        let identity = crate::server::tls::Identity::new(&flags.listen_host())?;
        if let Some(file) = &flags.tls_cert_out {
            std::fs::write(file, identity.ca_pem())
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        return Ok(server.with_tls(identity));
    }
    // The script may be that of the stub file.
    server.check_script(server.state().script.script())?;
    Ok(server)
}

/// Reports an invalid command line, or prints the output of `--help` or `--version`.
fn exit_with(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if error.use_stderr() {
        let message = usage_error::one_line(error, &Flags::command(), args);
        let unexpected = error.get(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument);
        print_error(&match unexpected {
            // A shell has split a script, or its flag is missing.
            Some(argument) if !argument.to_string().starts_with('-') => {
                format!("{message}; a script is given in quotes: --script 'status=503;retry-after=1'")
            }
            _ => message,
        });
        return ExitCode::from(2);
    }
    error.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn print_error(message: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr().lock(), "error: {message}");
}
