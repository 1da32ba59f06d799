//! Certificates and keys in PEM, from files or from memory.

use std::{borrow::Cow, fmt, fs, path::PathBuf, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::error::Error;

/// The PEM of a setting. It is not displayed, as it may contain a key.
#[derive(Clone)]
pub(crate) struct Pem {
    setting: &'static str,
    source: Source,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

impl Pem {
    pub(crate) fn file(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { setting, source: Source::File(path.into()) }
    }

    pub(crate) fn memory(setting: &'static str, pem: impl AsRef<[u8]>) -> Self {
        Self { setting, source: Source::Memory(pem.as_ref().into()) }
    }

    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        // The parser's error may quote what it read, and the key may be in the same text.
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<_, _>>()
            .map_err(|_| self.error(&"expected PEM with a certificate, found PEM that is malformed"))?;
        if certificates.is_empty() {
            return Err(self.error(&"expected PEM with a certificate, found none"));
        }
        Ok(certificates)
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        // The parser's error may quote the key.
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| self.error(&"expected PEM with a private key that is not encrypted"))
    }

    pub(crate) fn error(&self, why: &dyn fmt::Display) -> Error {
        Error::bad_input(format!("{self}: {why}"))
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, Error> {
        match &self.source {
            Source::File(path) => fs::read(path).map(Cow::Owned).map_err(|error| self.error(&error)),
            Source::Memory(pem) => Ok(Cow::Borrowed(pem)),
        }
    }
}

/// Displays the setting, and the path of its file.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.setting)?;
        match &self.source {
            Source::File(path) => write!(f, " '{}'", path.display()),
            Source::Memory(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
