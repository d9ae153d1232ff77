//! The server's own TLS: what is said is secret, and what is no handshake is closed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use server::tls::{BadIdentity, Identity};
use server::{JwtSecret, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const LIMIT: Duration = Duration::from_secs(60);

/// A certificate for `localhost` that it has signed itself, in files.
struct Files {
    directory: tempfile::TempDir,
    der: CertificateDer<'static>,
}

impl Files {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let made = made.expect("a certificate can be made");
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem())
            .expect("written");
        Self { directory, der: made.cert.der().clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("the certificate is good");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions are known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls_and_nothing_else() {
    let files = Files::make();
    let mut config =
        ServerConfig::new(JwtSecret::new(&"0123456789abcdef".repeat(4)).expect("good"));
    config.identity =
        Some(Identity::read(&files.path("cert.pem"), &files.path("key.pem")).expect("they fit"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let router = Router::new().route("/secret", get(async || "told"));
    let serving = tokio::spawn(async move {
        server::serve_router(listener, router, &config, std::future::pending()).await;
    });

    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("it is a name");
    let mut stream = files.connector().connect(name, stream).await.expect("it is who it says");
    let request = b"GET /secret HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .expect("it answers")
        .expect("it ends cleanly");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("told"), "{answer}");

    // Plain HTTP on the same port gets no page, and the connection is closed.
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(request).await.expect("it reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LIMIT, plain.read_to_end(&mut answer)).await;
    // Closed or reset: both are an end.
    let _ = read.expect("it ends");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    serving.abort();
}

#[test]
fn files_that_are_none_are_named_and_not_shown() {
    let files = Files::make();
    std::fs::write(files.path("empty.pem"), "hunter2").expect("written");
    let read = |certificate: &str, key: &str| {
        Identity::read(&files.path(certificate), &files.path(key)).expect_err("it is none")
    };
    for (certificate, key, named) in [
        ("empty.pem", "key.pem", "empty.pem"),
        ("missing.pem", "key.pem", "missing.pem"),
        ("cert.pem", "empty.pem", "empty.pem"),
    ] {
        let error = read(certificate, key);
        assert!(matches!(error, BadIdentity::File { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(named) && !text.contains("hunter2"), "{text}");
    }
}
