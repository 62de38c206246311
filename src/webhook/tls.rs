//! TLS of the webhook: which certificate is served, exchanged without a restart.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate that is served; until there is one, no handshake succeeds.
#[derive(Debug, Default)]
pub struct Served(ArcSwapOption<CertifiedKey>);

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate or key is no PEM.
    #[error("certificate or key cannot be read")]
    Pem(#[from] pem::Error),
    /// They do not belong together, or are of a kind that is not known.
    #[error("certificate and key cannot be served together")]
    Tls(#[from] rustls::Error),
}

impl Served {
    /// Serves another certificate from the next handshake on. When it cannot be served the one before stays.
    ///
    /// # Errors
    /// When certificate or key cannot be parsed or do not belong together.
    pub fn install(&self, certificate: &str, key: &str) -> Result<(), TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        self.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// Whether there is a certificate to serve.
    pub fn is_ready(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// HTTP/1.1 over TLS 1.2 or 1.3.
///
/// # Errors
/// When the provider lacks what these versions need, which it does not.
pub fn server_config(served: Arc<Served>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
