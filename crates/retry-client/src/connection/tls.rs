//! TLS: trusted certificates, the client certificate, and errors that are permanent.

use std::{
    error::Error as StdError,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::{
    connection::box_io::{BoxIo, Io},
    error::Error,
    error_chain::find,
};

/// The settings: paths only, so that no key is displayed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The settings with their files read.
#[derive(Clone)]
pub(crate) struct TlsConfig(Arc<ClientConfig>);

impl TlsSettings {
    /// Reads the files, and for https the system's trusted certificates.
    pub(crate) fn load(&self, https: bool, http2: bool) -> Result<TlsConfig, Error> {
        let system = if https { load_native_certs() } else { CertificateResult::default() };
        let roots = roots(https, system, self.ca_file.as_deref())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::bad_input(format!("https: {error}")))?
            .with_root_certificates(roots);
        let mut config = match &self.client_certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let (chain, key) = certificate.read()?;
                builder.with_client_auth_cert(chain, key).map_err(|error| certificate.error(&error))?
            }
        };
        config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
        Ok(TlsConfig(Arc::new(config)))
    }
}

impl TlsConfig {
    /// Adds TLS to a connector, for https URLs.
    pub(crate) fn wrap<C>(self, connector: C) -> HttpsConnector<C> {
        (connector, self.0).into()
    }
}

/// Boxes a stream of such a connector. One without TLS takes a tenth of the memory.
pub(crate) fn boxed<T: Io + 'static>(stream: MaybeHttpsStream<T>) -> BoxIo {
    match stream {
        MaybeHttpsStream::Http(stream) => Box::new(stream),
        stream => Box::new(stream),
    }
}

/// Returns the system's trusted certificates and those of the file. Unreadable certificates of the system are ignored, as
/// most systems have some; one in the file is an error.
fn roots(https: bool, system: CertificateResult, ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        for certificate in certificates("ca_file", path)? {
            roots.add(certificate).map_err(|error| setting_error("ca_file", path, &error))?;
        }
    }
    if https && roots.is_empty() {
        let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Error::bad_input(format!("https: no authority to trust: the system has none{why}; set ca_file")));
    }
    Ok(roots)
}

impl ClientCertificate {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = certificates("client_certificate", &self.chain)?;
        let key_error = |why: &dyn fmt::Display| setting_error("client_certificate: key", &self.key, why);
        let pem = fs::read(&self.key).map_err(|error| key_error(&error))?;
        // The parser's error may quote the file.
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| key_error(&"expected PEM with a private key that is not encrypted"))?;
        Ok((chain, key))
    }

    fn error(&self, error: &rustls::Error) -> Error {
        let Self { chain, key } = self;
        let why = match error {
            rustls::Error::InconsistentKeys(_) => format!("the key '{}' is that of another certificate", key.display()),
            error => format!("key '{}': {error}", key.display()),
        };
        setting_error("client_certificate", chain, &why)
    }
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs::read(path).map_err(|error| setting_error(setting, path, &error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| setting_error(setting, path, &error))?;
    if certificates.is_empty() {
        return Err(setting_error(setting, path, &"expected PEM with a certificate, found none"));
    }
    Ok(certificates)
}

fn setting_error(setting: &str, path: &Path, why: &dyn fmt::Display) -> Error {
    Error::bad_input(format!("{setting} '{}': {why}", path.display()))
}

/// Explains an error of a handshake. Returns whether it is permanent, because client and server do not accept each
/// other, and the explanation. `None` for errors that need no explanation and may be temporary.
pub(crate) fn explain(error: &(dyn StdError + 'static)) -> Option<(bool, String)> {
    use rustls::Error as Tls;

    let error = find::<Tls>(error)?;
    let (permanent, why) = match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            (true, "invalid peer certificate: unknown certificate authority; trust it with ca_file".to_owned())
        }
        Tls::InvalidCertificate(_)
        | Tls::NoCertificatesPresented
        | Tls::UnsupportedNameType
        | Tls::PeerIncompatible(_)
        | Tls::NoApplicationProtocol => (true, error.to_string()),
        Tls::AlertReceived(alert) if is_permanent_alert(*alert) => {
            (true, format!("the server rejected the handshake: {alert:?}"))
        }
        // The first bytes are not a TLS record.
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            (false, "the server does not speak TLS: a URL for plain HTTP starts with http://".to_owned())
        }
        _ => return None,
    };
    Some((permanent, why))
}

/// Whether the server rejects the client, rather than this handshake.
fn is_permanent_alert(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;

    matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::ProtocolVersion
            | Alert::InsufficientSecurity
            | Alert::UnrecognisedName
            | Alert::NoApplicationProtocol
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn https_needs_a_trusted_certificate() {
        let none = CertificateResult::default;
        let error = roots(true, none(), None).unwrap_err();
        assert_eq!(error.to_string(), "https: no authority to trust: the system has none; set ca_file");
        assert!(roots(false, none(), None).unwrap().is_empty(), "http needs none");
    }

    #[test]
    fn rejections_are_permanent_at_any_depth_of_the_chain() {
        let check = |error: rustls::Error, expected: Option<&str>| {
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(explain(&error), expected.map(|why| (true, why.to_owned())));
        };
        let certificate = rustls::Error::InvalidCertificate;
        let unknown = "invalid peer certificate: unknown certificate authority; trust it with ca_file";
        check(certificate(CertificateError::UnknownIssuer), Some(unknown));
        check(certificate(CertificateError::Expired), Some("invalid peer certificate: Expired"));
        let alert = rustls::Error::AlertReceived;
        check(
            alert(AlertDescription::CertificateRequired),
            Some("the server rejected the handshake: CertificateRequired"),
        );
        check(alert(AlertDescription::InternalError), None);
        check(rustls::Error::DecryptError, None);
    }
}
