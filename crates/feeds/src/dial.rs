//! Connections to a source: TCP, and TLS by rustls with the system's own certificates.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::source::Source;

/// How long one address of a host may take, of which it may have several, and some of them dead.
const ADDRESS_MAX: Duration = Duration::from_secs(3);

/// What a source can be talked to over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Read once, when the first secret connection is made: a server without feeds never looks.
static CONNECTOR: LazyLock<Option<TlsConnector>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return None;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});

/// Tries one address after the other, none for so long that there is no time left for the next.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        match tokio::time::timeout(ADDRESS_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(last)
}

/// Connects. Whoever calls it limits how long that may take.
pub(crate) async fn dial(source: &Source) -> io::Result<Box<dyn Stream>> {
    let stream = connect(source.host(), source.port()).await?;
    stream.set_nodelay(true)?;
    if !source.is_secure() {
        return Ok(Box::new(stream));
    }
    let connector = CONNECTOR
        .as_ref()
        .ok_or_else(|| io::Error::other("the system has no certificates to trust"))?;
    let name = ServerName::try_from(source.host().to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(connector.connect(name, stream).await?))
}
