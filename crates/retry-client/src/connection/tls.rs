//! https: whom to trust, who we are, and which failures no other attempt can mend.

use std::{
    error::Error as StdError,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::HttpsConnector;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::{error::Error, error_chain::find};

/// A connector with TLS over it, for URLs that ask for it.
pub(crate) type Secure<C> = HttpsConnector<C>;

/// The settings, as paths; what is in the files is kept nowhere that prints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) identity: Option<Identity>,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// Settings whose files have been read and checked.
#[derive(Clone)]
pub(crate) struct Loaded(Arc<ClientConfig>);

impl Tls {
    /// Reads the files, and for https the system's authorities.
    pub(crate) fn load(&self, https: bool, http2: bool) -> Result<Loaded, Error> {
        let system = if https { load_native_certs() } else { CertificateResult::default() };
        let roots = roots(https, system, self.ca_file.as_deref())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::bad_input(format!("https: {error}")))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                builder.with_client_auth_cert(chain, key).map_err(|error| identity.refuse(&error))?
            }
        };
        config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
        Ok(Loaded(Arc::new(config)))
    }
}

impl Loaded {
    pub(crate) fn over<C>(self, connector: C) -> Secure<C> {
        (connector, self.0).into()
    }
}

/// The system's authorities, and those of the file. What the system has and we cannot read is left out, as
/// every system has a few such; what the user names has to be right.
fn roots(https: bool, system: CertificateResult, ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        for certificate in certificates("ca_file", path)? {
            roots.add(certificate).map_err(|error| refuse("ca_file", path, &error))?;
        }
    }
    if https && roots.is_empty() {
        let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Error::bad_input(format!("https: no authority to trust: the system has none{why}; set ca_file")));
    }
    Ok(roots)
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = certificates("client_certificate", &self.chain)?;
        let pem = fs::read(&self.key).map_err(|error| refuse("client_certificate: key", &self.key, &error))?;
        // What the parser says may quote the file.
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            refuse("client_certificate: key", &self.key, &"expected PEM with a private key that is not encrypted")
        })?;
        Ok((chain, key))
    }

    fn refuse(&self, error: &rustls::Error) -> Error {
        let Self { chain, key } = self;
        let why = match error {
            rustls::Error::InconsistentKeys(_) => format!("the key '{}' is that of another certificate", key.display()),
            error => format!("key '{}': {error}", key.display()),
        };
        refuse("client_certificate", chain, &why)
    }
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs::read(path).map_err(|error| refuse(setting, path, &error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(setting, path, &error))?;
    if certificates.is_empty() {
        return Err(refuse(setting, path, &"expected PEM with a certificate, found none"));
    }
    Ok(certificates)
}

fn refuse(setting: &str, path: &Path, why: &dyn fmt::Display) -> Error {
    Error::bad_input(format!("{setting} '{}': {why}", path.display()))
}

/// Why no other attempt can succeed, where the two sides do not accept each other. What may be an accident
/// of the line is not among it.
pub(crate) fn why_hopeless(error: &(dyn StdError + 'static)) -> Option<String> {
    use rustls::Error as Tls;
    let error = find::<Tls>(error)?;
    match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("invalid peer certificate: unknown authority (a CA file adds one)".to_owned())
        }
        Tls::InvalidCertificate(_)
        | Tls::NoCertificatesPresented
        | Tls::UnsupportedNameType
        | Tls::PeerIncompatible(_)
        | Tls::NoApplicationProtocol => Some(error.to_string()),
        Tls::AlertReceived(alert) if is_refusal(*alert) => Some(format!("the server refused: {alert:?}")),
        _ => None,
    }
}

/// What a failed handshake was really about, if rustls puts it in terms of its own.
pub(crate) fn explain(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    match find::<rustls::Error>(error)? {
        // What came begins with no record of TLS.
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the server does not speak TLS: a URL for plain HTTP starts with http://")
        }
        _ => None,
    }
}

/// Whether the server means us, and not this one handshake.
fn is_refusal(alert: AlertDescription) -> bool {
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
    fn without_any_authority_there_is_no_https() {
        let none = CertificateResult::default;
        let error = roots(true, none(), None).unwrap_err();
        assert_eq!(error.to_string(), "https: no authority to trust: the system has none; set ca_file");
        assert!(roots(false, none(), None).unwrap().is_empty(), "http needs none");
    }

    #[test]
    fn what_the_sides_do_not_accept_is_hopeless_however_deep_it_lies() {
        let check = |error: rustls::Error, expected: Option<&str>| {
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(why_hopeless(&error).as_deref(), expected);
        };
        let certificate = rustls::Error::InvalidCertificate;
        let unknown = "invalid peer certificate: unknown authority (a CA file adds one)";
        check(certificate(CertificateError::UnknownIssuer), Some(unknown));
        check(certificate(CertificateError::Expired), Some("invalid peer certificate: Expired"));
        let alert = rustls::Error::AlertReceived;
        check(alert(AlertDescription::CertificateRequired), Some("the server refused: CertificateRequired"));
        check(alert(AlertDescription::InternalError), None);
        check(rustls::Error::DecryptError, None);
    }
}
