//! TLS: the certificate, generated at start, and the handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::fault::connection_faults::Socket;

/// The time limit of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The host names and addresses of the local machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate and key of a server, issued by a certificate authority (CA) of its own.
///
/// They are generated for each process and the keys are never stored, so tests can safely trust the CA.
#[derive(Debug)]
pub(crate) struct Identity {
    ca_pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Generates a certificate for the local machine and for `host`. Fails if `host` is not a valid name.
    pub(crate) fn new(host: &str) -> Result<Self, String> {
        Self::generate(host).map_err(|error| format!("cannot generate a certificate: {error}"))
    }

    fn generate(host: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let ca = CertifiedIssuer::self_signed(ca_params()?, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names(host))?.signed_by(&key, &ca)?;

        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { ca_pem: ca.pem(), config: Arc::new(config) })
    }

    /// Returns the CA certificate as PEM, for clients to trust.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Performs the handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
    }
}

fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, "delayed-backend test CA");
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
