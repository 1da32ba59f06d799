//! TLS: trusted certificates, the client certificate, and errors that are permanent.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{InvalidDnsNameError, ServerName},
};
use rustls_native_certs::{CertificateResult, load_native_certs};
use tokio_rustls::TlsConnector;

use crate::{
    connection::{
        box_io::{BoxIo, Io},
        pem::Pem,
    },
    error::Error,
    error_chain::{BoxError, find},
};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

#[derive(Clone, Default)]
pub(crate) struct TlsSettings {
    /// Replaces all others.
    pub(crate) config: Option<Arc<ClientConfig>>,
    /// Trusted certificates, in addition to the system's.
    pub(crate) authorities: Vec<Pem>,
    pub(crate) client_certificate: Option<ClientCertificate>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate {
    pub(crate) chain: Pem,
    pub(crate) key: Pem,
}

/// What a connection needs for TLS. `None` for http.
#[derive(Clone)]
pub(crate) struct TlsConfig(Option<Https>);

#[derive(Clone)]
struct Https {
    config: Arc<ClientConfig>,
    /// Whether [`TlsSettings::authorities`] can add to what it trusts.
    is_extensible: bool,
}

/// The error of a handshake of a client whose settings say which certificates it trusts.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SettingsApply(#[source] io::Error);

impl TlsSettings {
    /// Reads the certificates, and for https the system's.
    pub(crate) fn load(&self, https: bool, http2: bool) -> Result<TlsConfig, Error> {
        if !https && self.is_empty() {
            return Ok(TlsConfig(None));
        }
        let mut config = match &self.config {
            None => Arc::new(self.build(https)?),
            Some(config) => self.without_others(config)?,
        };
        set_protocols(&mut config, http2)?;
        let is_extensible = self.config.is_none();
        Ok(TlsConfig(https.then_some(Https { config, is_extensible })))
    }

    fn is_empty(&self) -> bool {
        self.config.is_none() && self.authorities.is_empty() && self.client_certificate.is_none()
    }

    fn build(&self, https: bool) -> Result<ClientConfig, Error> {
        let system = if https { load_native_certs() } else { CertificateResult::default() };
        let builder = ClientConfig::builder_with_provider(crypto_provider(CryptoProvider::get_default(), BUILT_IN)?)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::bad_input(format!("https: {error}")))?
            .with_root_certificates(roots(https, system, &self.authorities)?);
        let Some(ClientCertificate { chain, key }) = &self.client_certificate else {
            return Ok(builder.with_no_client_auth());
        };
        builder.with_client_auth_cert(chain.certificates()?, key.private_key()?).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => key.error(&"expected the key of the certificate, found another"),
            error => key.error(&error),
        })
    }

    /// Returns the configuration if there is no other setting, which it would ignore.
    fn without_others(&self, config: &Arc<ClientConfig>) -> Result<Arc<ClientConfig>, Error> {
        let certificate = self.client_certificate.as_ref().map(|certificate| &certificate.chain);
        match self.authorities.first().or(certificate) {
            None => Ok(Arc::clone(config)),
            Some(other) => Err(other.error(&"not used with tls_config, which has certificates of its own")),
        }
    }
}

/// Does not display the certificates of `config`.
impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("has_config", &self.config.is_some())
            .field("authorities", &self.authorities)
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

impl TlsConfig {
    /// Turns a connection to the server into one that hyper can use.
    pub(crate) async fn handshake<T: Io + Connection + 'static>(
        self,
        stream: T,
        server: &Uri,
    ) -> Result<(BoxIo, Connected), BoxError> {
        let Some(Https { config, is_extensible }) = self.0 else {
            let connected = stream.connected();
            return Ok((Box::new(stream), connected));
        };
        let name = server_name(server)?;
        // Boxed, as connecting without TLS does not need it.
        let connecting = Box::pin(TlsConnector::from(config).connect(name, TokioIo::new(stream)));
        let stream = connecting.await.map_err(|error| match is_extensible {
            true => SettingsApply(error).into(),
            false => BoxError::from(error),
        })?;
        let (io, session) = stream.get_ref();
        let mut connected = io.inner().connected();
        if session.alpn_protocol() == Some(HTTP2) {
            connected = connected.negotiated_h2();
        }
        Ok((Box::new(TokioIo::new(stream)), connected))
    }
}

/// Returns the name that the server's certificate must have.
fn server_name(server: &Uri) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let host = server.host().unwrap_or_default();
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    ServerName::try_from(ipv6.unwrap_or(host)).map(|name| name.to_owned())
}

/// The provider of cryptography that is built in.
#[cfg(feature = "tls")]
const BUILT_IN: Option<fn() -> CryptoProvider> = Some(rustls::crypto::ring::default_provider);
#[cfg(not(feature = "tls"))]
const BUILT_IN: Option<fn() -> CryptoProvider> = None;

/// Returns the process's provider of cryptography, if it has installed one, or else the one that is built in.
fn crypto_provider(
    installed: Option<&Arc<CryptoProvider>>,
    built_in: Option<fn() -> CryptoProvider>,
) -> Result<Arc<CryptoProvider>, Error> {
    let built_in = || built_in.map(|provider| Arc::new(provider()));
    installed.cloned().or_else(built_in).ok_or_else(|| {
        Error::bad_input(
            "https: no crypto provider: expected one from CryptoProvider::install_default, tls_config, or the feature tls",
        )
    })
}

/// Sets the protocols that are offered to the server (ALPN), unless the configuration has its own.
fn set_protocols(config: &mut Arc<ClientConfig>, http2: bool) -> Result<(), Error> {
    let supported: &[&[u8]] = if http2 { &[HTTP2] } else { &[HTTP2, HTTP1] };
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(config).alpn_protocols = supported.iter().map(|protocol| protocol.to_vec()).collect();
    }
    let unsupported = config.alpn_protocols.iter().find(|protocol| !supported.contains(&protocol.as_slice()));
    let Some(unsupported) = unsupported else { return Ok(()) };
    let expected = if http2 { "only h2, because of http2_prior_knowledge" } else { "h2, http/1.1 or both" };
    let found = unsupported.escape_ascii();
    Err(Error::bad_input(format!("tls_config: alpn_protocols has '{found}': expected {expected}")))
}

/// Returns the system's trusted certificates and those of the settings. Unreadable certificates of the system are ignored,
/// as most systems have some; one of a setting is an error.
fn roots(https: bool, system: CertificateResult, authorities: &[Pem]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    for pem in authorities {
        for certificate in pem.certificates()? {
            roots.add(certificate).map_err(|error| pem.error(&error))?;
        }
    }
    if https && roots.is_empty() {
        let why = system.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Error::bad_input(format!("https: no authority to trust: the system has none{why}; set ca_file")));
    }
    Ok(roots)
}

/// Explains an error of a handshake. Returns whether it is permanent, because client and server do not accept each
/// other, and the explanation. `None` for errors that need no explanation and may be temporary.
pub(crate) fn explain(error: &(dyn StdError + 'static)) -> Option<(bool, String)> {
    use rustls::Error as Tls;

    let can_be_trusted = find::<SettingsApply>(error).is_some();
    let error = find::<Tls>(error)?;
    let (permanent, why) = match error {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let hint = if can_be_trusted { "; trust it with ca_file or ca_pem" } else { "" };
            (true, format!("invalid peer certificate: unknown certificate authority{hint}"))
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
    use super::*;

    #[test]
    fn https_needs_a_trusted_certificate() {
        let none = CertificateResult::default;
        let error = roots(true, none(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "https: no authority to trust: the system has none; set ca_file");
        assert!(roots(false, none(), &[]).unwrap().is_empty(), "http needs none");
    }

    #[test]
    fn https_needs_a_provider_of_cryptography() {
        let error = crypto_provider(None, None).unwrap_err();
        let expected = "expected one from CryptoProvider::install_default, tls_config, or the feature tls";
        assert_eq!(error.to_string(), format!("https: no crypto provider: {expected}"));
        use rustls::crypto::ring::default_provider as provider;
        fn other() -> CryptoProvider {
            CryptoProvider { cipher_suites: Vec::new(), ..provider() }
        }
        let is_other = |provider: &CryptoProvider| provider.cipher_suites.is_empty();
        assert!(is_other(&crypto_provider(None, Some(other)).unwrap()), "the one that is built in");
        assert!(!is_other(&crypto_provider(Some(&Arc::new(provider())), Some(other)).unwrap()), "the process's");
    }

    #[test]
    fn rejections_are_permanent_at_any_depth_of_the_chain() {
        let check = |error: rustls::Error, expected: Option<&str>| {
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(explain(&error), expected.map(|why| (true, why.to_owned())));
        };
        let certificate = rustls::Error::InvalidCertificate;
        let unknown = "invalid peer certificate: unknown certificate authority";
        check(certificate(CertificateError::UnknownIssuer), Some(unknown));
        let error = SettingsApply(io::Error::other(certificate(CertificateError::UnknownIssuer)));
        assert_eq!(explain(&error), Some((true, format!("{unknown}; trust it with ca_file or ca_pem"))));
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
