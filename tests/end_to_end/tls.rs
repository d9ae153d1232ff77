//! TLS to the broker and to the mail server: with a certificate that is trusted it works, and with one that is not the
//! exchange refuses, and says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{Broker, Identity, Options};
use e2e::{Exchange, MailDev, Settings, Trader, limit, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

/// A directory of a test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Self {
        let path = std::env::temp_dir().join(format!("kx-tls-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    /// A certificate of `localhost` that it has signed itself, in two files.
    fn identity(&self, name: &str) -> Identity {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let made = made.expect("a certificate can be made");
        let (certificate, key) =
            (self.0.join(format!("{name}.pem")), self.0.join(format!("{name}-key.pem")));
        fs::write(&certificate, made.cert.pem()).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        Identity { certificate, key }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_broker_and_the_mail_server_are_reached_over_tls_and_only_if_they_are_trusted() {
    let directory = Directory::make();
    let identity = directory.identity("ours");
    let options = Options { identity: Some(identity.clone()), ..Options::default() };
    let broker = Broker::start(&directory.0.join("broker"), options);
    let broker = broker.unwrap_or_else(|error| panic!("RabbitMQ is installed: {error}"));
    let queue = broker.tls_url().expect("it has an identity");
    let maildev = MailDev::secure(&identity);
    let environment = |trusted: &Path| {
        // Where the system's own certificates would be looked for.
        let trusted = trusted.to_str().expect("a path of ours is text").to_owned();
        vec![
            ("RABBITMQ_URL".to_owned(), queue.clone()),
            ("SMTP_URL".to_owned(), maildev.smtp_url()),
            ("SSL_CERT_FILE".to_owned(), trusted),
        ]
    };

    // Trusted: an order goes over the broker, a code over the mail server.
    let arguments = vec!["--demo".to_owned()];
    let environment_of = environment(&identity.certificate);
    let mut exchange =
        Exchange::with(Settings { arguments, environment: environment_of, user: None });
    let mut alice = Trader::alice(&exchange);
    let order = limit("BTC/USD", "buy", "0.001", "60000.00");
    alice.place(&order).expect("it answers").expect(201);
    let email = "ann@example.com";
    let credentials = json!({"email": email, "password": "correct horse battery"});
    let mut http = exchange.http();
    http.post("/api/v1/auth/register", &credentials).expect("it answers").expect(201);
    let _ = maildev.mail(email, "verification code");
    assert_eq!(maildev.count(), 1, "it is in a file");
    let queues = broker.ctl(&["list_connections", "ssl", "state"]).expect("it answers");
    assert!(queues.contains("true") && !queues.contains("false"), "{queues}");
    assert!(!exchange.said().contains(broker.password()), "no password is logged");
    exchange.kill();
    drop(exchange);

    // Signed by nobody who is trusted: it does not come up, and says why; nor does mail leave.
    let other = directory.identity("another");
    let mut stranger = Exchange::unstarted(Settings {
        arguments: vec!["--no-demo".to_owned()],
        environment: environment(&other.certificate),
        user: None,
    });
    stranger.spawn();
    wait_for("a refusal that says why", LIMIT, || {
        assert!(stranger.ended().is_none(), "it waits: {}", stranger.said());
        stranger.said().lines().any(|line| line.contains("certificate")).then_some(())
    });
    let ready = stranger.http().get("/ready").ok();
    assert!(ready.is_none_or(|answer| answer.status == 503), "{}", stranger.said());
    assert!(!stranger.said().contains(broker.password()), "no password is logged");
    drop(stranger);

    let arguments = vec!["--no-demo".to_owned()];
    let mut settings = environment(&other.certificate);
    settings.retain(|(name, _)| name != "RABBITMQ_URL");
    let exchange = Exchange::with(Settings { arguments, environment: settings, user: None });
    let credentials = json!({"email": "bob@example.com", "password": "correct horse battery"});
    let mut http = exchange.http();
    http.post("/api/v1/auth/register", &credentials).expect("it answers").expect(201);
    wait_for("a failed mail that says why", LIMIT, || {
        exchange.said().lines().any(|line| line.contains("certificate")).then_some(())
    });
    assert_eq!(maildev.count(), 1, "nothing was sent");
    assert!(!exchange.said().contains("smtp-password"), "no password is logged");
    assert!(!exchange.said().contains("correct horse"), "no password is logged");
}
