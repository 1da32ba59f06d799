//! Tells scripts which ports the backend listens on.

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The addresses of a backend, as printed by `--print-addresses`.
#[derive(Debug, Serialize)]
pub(crate) struct Addresses {
    url: String,
    port: u16,
    control_url: Option<String>,
    control_port: Option<u16>,
}

impl Addresses {
    pub(crate) fn new(scheme: &str, address: SocketAddr, control: Option<SocketAddr>) -> Self {
        Self {
            url: format!("{scheme}://{address}"),
            port: address.port(),
            control_url: control.map(|address| format!("http://{address}")),
            control_port: control.map(|address| address.port()),
        }
    }

    /// Prints the addresses as a line of JSON.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        out.flush()
    }
}

/// A file that contains a port, and is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PortFile(PathBuf);

impl PortFile {
    /// Writes the file. Whoever waits for it never reads a part of the number.
    pub(crate) fn write(path: &Path, port: u16) -> Result<Self, Box<dyn Error>> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        fs::write(&temporary, format!("{port}\n"))
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("Cannot remove {}: {error}", self.0.display());
        }
    }
}
