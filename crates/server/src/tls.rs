//! TLS on the server's own port, where no proxy in front of it does that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Why there is no identity. Nothing of the key is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum BadIdentity {
    /// A file cannot be read as PEM.
    #[error("{path}: it is no PEM file with a {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The two do not fit together, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate with its key. Cheap to clone.
#[derive(Clone)]
pub struct Identity(TlsAcceptor);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads a chain of certificates, the server's own first, and its key: two PEM files.
    ///
    /// # Errors
    ///
    /// [`BadIdentity`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, BadIdentity> {
        let bad = |path: &Path, what| BadIdentity::File { path: path.to_owned(), what };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| bad(certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|_| bad(key, "private key"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes a connection secret.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}
