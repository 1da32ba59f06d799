#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part, and a failed expectation is the message"
)]
//! Certificate authorities and https servers for tests.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use retry_client::{Client, ClientBuilder};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

use crate::common::{Reply, Server, quick};

pub(crate) const BOTH: &[&str] = &["h2", "http/1.1"];

/// An authority that the system does not trust.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::default();
        // Authorities of the same name would be taken for one with two keys.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", NUMBER.fetch_add(1, SeqCst)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn file(&self) -> PathBuf {
        file("ca.pem", &self.pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::clone(self.0.der())).unwrap();
        roots
    }

    /// Returns the configuration of a client that trusts only this authority.
    pub(crate) fn client_config(&self, provider: CryptoProvider) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
        builder.unwrap().with_root_certificates(self.roots()).with_no_client_auth()
    }

    /// Returns the acceptor of a server with this name. With `clients`, it requests a certificate of that authority.
    pub(crate) fn acceptor(&self, name: &str, alpn: &[&str], clients: Option<&Self>) -> TlsAcceptor {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Writes a file for this test run.
pub(crate) fn file(name: &str, content: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, SeqCst);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

/// An https server on this machine, which counts its connections.
pub(crate) struct Https {
    pub(crate) server: Server,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Https {
    /// Starts a server that closes the first `broken` connections before the handshake.
    pub(crate) async fn start(acceptor: TlsAcceptor, broken: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let server = Server::start_on(listener, [Reply::Ok("ok")], move |number, stream| {
            count.fetch_add(1, SeqCst);
            let acceptor = acceptor.clone();
            async move { if number < broken { None } else { acceptor.accept(stream).await.ok() } }
        });
        Self { server, connections }
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("https://{}", self.server.address)).policy(quick(3))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}
