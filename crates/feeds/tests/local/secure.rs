//! TLS: the other side must show a certificate that the system trusts.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use feeds::{FeedState, Feeds, Kind, Settings};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::stubs::{Stub, price};
use crate::{One, of, shown, timing, until, until_shown};

/// Where the second half of this test finds the server, and what it is to see.
const ADDRESS: &str = "FEEDS_TEST_ADDRESS";

/// A stub behind TLS, and its certificate.
async fn secure() -> (Stub, String) {
    let signed =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (stub, listener) = Stub::bind(price("60000")).await;
    let serving = stub.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serving) = (acceptor.clone(), serving.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serving.serve_binance(stream).await;
                }
            });
        }
    });
    (stub, signed.cert.pem())
}

fn at(port: u16) -> Settings {
    let source = format!("binance=wss://localhost:{port}").parse().expect("a source");
    // A handshake may take long on a machine that is busy with other things.
    let timing = feeds::Timing { connect_max: Duration::from_secs(10), ..timing() };
    Settings { sources: vec![source], timing }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_the_system_trusts_is_taken() {
    let (stub, certificate) = secure().await;
    let feeds = Feeds::start(at(stub.address.port()), One(None));
    until(&feeds, "it is refused", || of(&feeds, Kind::Binance).state == FeedState::Down).await;
    assert_eq!(shown(&feeds), "NotAvailable");
    assert_eq!(stub.calls(), 0);
    drop(feeds);
    // The system's certificates are read once in a process: another one has it among them.
    let file = std::env::temp_dir().join(format!("feeds-{}.pem", std::process::id()));
    std::fs::write(&file, certificate).expect("it can be written");
    let port = stub.address.port().to_string();
    let (program, path) = (std::env::current_exe().expect("it is running"), file.clone());
    let child = move || {
        Command::new(program)
            .args(["--exact", "secure::trusting", "--ignored"])
            .env("SSL_CERT_FILE", path)
            .env(ADDRESS, port)
            .output()
    };
    let output = tokio::task::spawn_blocking(child).await.expect("it ends").expect("it starts");
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(stub.calls() > 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the second half of the test above"]
async fn trusting() {
    let port = std::env::var(ADDRESS).expect("the first half says it").parse().expect("a port");
    let feeds = Feeds::start(at(port), One(None));
    until_shown(&feeds, "binance 60000").await;
}
