//! One HTTP request to somewhere, with a limit to everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::url::HttpUrl;

/// How long one try may take, from the look-up of the name to the answer's head.
const TRY_MAX: Duration = Duration::from_secs(4);

/// Why no answer came. None of them says where to: the path may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nobody is there.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// What is there is not who it should be.
    #[error("no TLS")]
    Tls(#[source] std::io::Error),
    /// The name of the host cannot be checked.
    #[error("the host's name is none that TLS can check")]
    Name,
    /// The connection broke.
    #[error("no answer")]
    Http(#[source] hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    /// It took too long.
    #[error("no answer in time")]
    Late,
}

/// Sends requests; a connection of its own for each, since alerts are rare.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Makes one that trusts whom the system trusts; `SSL_CERT_FILE` names others.
    pub(crate) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { tls: Arc::new(tls) }
    }

    /// Posts JSON and returns the answer's status.
    pub(crate) async fn post(
        &self,
        url: &HttpUrl,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<StatusCode, SendError> {
        let sending = self.post_untimed(url, token, body);
        tokio::time::timeout(TRY_MAX, sending).await.map_err(|_| SendError::Late)?
    }

    async fn post_untimed(
        &self,
        url: &HttpUrl,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<StatusCode, SendError> {
        let mut request = Request::post(url.path())
            .header(header::HOST, url.authority())
            .header(header::USER_AGENT, concat!("krystalinex/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(SendError::Request)?;
        let connecting = TcpStream::connect((url.host(), url.port()));
        let stream = connecting.await.map_err(SendError::Connect)?;
        if !url.is_tls() {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| SendError::Name)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        exchange(connector.connect(name, stream).await.map_err(SendError::Tls)?, request).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, SendError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(SendError::Http)?;
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(SendError::Http);
    // The answer's body is not read: its status says all that is needed.
    driving.abort();
    Ok(answer?.status())
}
