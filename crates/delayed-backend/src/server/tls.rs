//! TLS: the certificate, generated at start, and the handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::fault::TlsFault;
use crate::fault::connection_faults::Socket;

/// The time limit of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The host names and addresses of the local machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A name of no host (RFC 6761, section 6.4).
const WRONG_NAME: &str = "wrong-name.invalid";

/// The certificate and key of a server, issued by a certificate authority (CA) of its own, and certificates with faults.
///
/// They are generated for each process and the keys are never stored, so tests can safely trust the CA.
#[derive(Debug)]
pub(crate) struct Identity {
    ca_pem: String,
    valid: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
    wrong_name: Arc<ServerConfig>,
    untrusted: Arc<ServerConfig>,
}

type Ca = CertifiedIssuer<'static, KeyPair>;

impl Identity {
    /// Generates a certificate for the local machine and for `host`. Fails if `host` is not a valid name.
    pub(crate) fn new(host: &str) -> Result<Self, String> {
        Self::generate(host).map_err(|error| format!("cannot generate a certificate: {error}"))
    }

    fn generate(host: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let ca = CertifiedIssuer::self_signed(ca_params("delayed-backend test CA")?, KeyPair::generate()?)?;
        let other_ca = CertifiedIssuer::self_signed(ca_params("untrusted CA")?, KeyPair::generate()?)?;
        let valid = CertificateParams::new(names(host))?;
        let mut expired = valid.clone();
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2021, 1, 1);
        Ok(Self {
            ca_pem: ca.pem(),
            valid: server_config(&valid, &ca)?,
            expired: server_config(&expired, &ca)?,
            wrong_name: server_config(&CertificateParams::new([WRONG_NAME.to_owned()])?, &ca)?,
            untrusted: server_config(&valid, &other_ca)?,
        })
    }

    /// Returns the CA certificate as PEM, for clients to trust.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Performs the handshake, with this fault if there is one.
    pub(crate) async fn accept(
        &self,
        mut stream: TcpStream,
        fault: Option<TlsFault>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = match fault {
            None => &self.valid,
            Some(TlsFault::Expired) => &self.expired,
            Some(TlsFault::WrongName) => &self.wrong_name,
            Some(TlsFault::Untrusted) => &self.untrusted,
            Some(TlsFault::Stall) => {
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "stalled by the script"));
            }
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
    }
}

/// Returns the configuration of a server whose certificate is issued by `ca`.
fn server_config(certificate: &CertificateParams, ca: &Ca) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let certificate = certificate.signed_by(&key, ca)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn ca_params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn names(host: &str) -> Vec<String> {
    let mut names: Vec<String> = LOCAL_NAMES.map(String::from).into();
    if !LOCAL_NAMES.contains(&host) {
        names.push(host.to_owned());
    }
    names
}

impl Socket for TlsStream<TcpStream> {
    fn reset_on_drop(&self) -> io::Result<()> {
        self.get_ref().0.set_zero_linger()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_covers_its_host() {
        assert_eq!(names("localhost"), LOCAL_NAMES);
        assert_eq!(names("10.0.0.1").last().unwrap(), "10.0.0.1");
        let identity = Identity::new("10.0.0.1").unwrap();
        assert!(identity.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn an_invalid_host_is_an_error() {
        assert!(Identity::new("é").unwrap_err().to_string().starts_with("cannot generate a certificate"));
    }
}
