//! Addresses, what a mail says, and TLS towards a server that speaks it, does not, or is not who it should be.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::CertifiedKey;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

#[test]
fn urls_are_read_and_never_printed_whole() {
    let read = |text: &str| text.parse::<SmtpUrl>();
    let url = read("smtp://localhost:1025").unwrap();
    assert_eq!((url.host.as_str(), url.port, url.wrapped), ("localhost", 1025, false));
    assert_eq!(read("smtps://mail.example.com").unwrap().port, 465);
    assert_eq!(read("smtp://mail.example.com/").unwrap().port, 25);
    assert_eq!(read("smtp://[::1]:2525").unwrap().host, "::1");
    let url = read("smtps://me%40example.com:pass%2Fwo%3ard@mail.example.com:587").unwrap();
    assert_eq!(url.credentials, Some(("me@example.com".into(), "pass/wo:rd".into())));
    assert!(!format!("{url:?}").contains("pass"), "{url:?}");
    for text in [
        "",
        "mail.example.com",
        "http://mail.example.com",
        "smtp://",
        "smtp://:25",
        "smtp://host:0",
        "smtp://host:99999",
        "smtp://host/path",
        "smtp://host?tls=no",
        "smtp://us%er@host",
        "smtp://host\r\n:25",
    ] {
        assert_eq!(read(text), Err(InvalidSmtpUrl), "{text}");
    }
}

#[test]
fn a_password_goes_nowhere_unprotected() {
    let of = |text: &str| text.parse::<SmtpUrl>().unwrap().protection();
    assert_eq!(of("smtp://localhost:1025"), Protection::Nothing);
    assert_eq!(of("smtp://127.0.0.1:1025"), Protection::Nothing);
    assert_eq!(of("smtp://maildev:1025"), Protection::StartTlsIfOffered);
    assert_eq!(of("smtp://u:p@mail.example.com:587"), Protection::StartTls);
    assert_eq!(of("smtps://u:p@mail.example.com"), Protection::Wrapped);
}

#[test]
fn a_mail_has_a_text_and_an_html_part_and_no_header_of_anothers_making() {
    let url = "smtp://localhost:1025".parse().unwrap();
    let smtp = Smtp::new(&url, "KrystalineX <no-reply@example.com>").unwrap();
    let mail = |to: &str| Mail {
        id: uuid::Uuid::from_u128(7),
        to: to.to_owned(),
        subject: "A subject\r\nBcc: x@example.com".to_owned(),
        text: "plain".to_owned(),
        html: "<p>plain</p>".to_owned(),
    };
    let bytes = smtp.message(mail("ann@example.com")).unwrap().formatted();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("text/plain") && text.contains("text/html"), "{text}");
    assert!(text.contains("00000000-0000-0000-0000-000000000007@example.com"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc:")), "{text}");
    assert!(smtp.message(mail("ann@example.com\r\nBcc: x@example.com")).is_err());
    assert!(Smtp::new(&url, "no address").is_err());
}

const PASSWORD: &str = "smtp-password-of-a-test";

/// How a server speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Wrapped,
    StartTls,
    Nothing,
}

/// A mail server: as much of RFC 5321 as a client needs, and all that was said to it in the clear and in secret.
struct Stand {
    address: SocketAddr,
    certificate: Certificate,
    clear: Arc<Mutex<Vec<String>>>,
    secret: Arc<Mutex<Vec<String>>>,
}

impl Stand {
    async fn start(speaks: Speaks, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("a certificate can be made");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it is a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions are known")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they fit together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let certificate = Certificate::from_pem(cert.pem().as_bytes()).expect("it is one");
        let (clear, secret) = (Arc::default(), Arc::default());
        let stand =
            Self { address, certificate, clear: Arc::clone(&clear), secret: Arc::clone(&secret) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, clear, secret) = (acceptor.clone(), clear.clone(), secret.clone());
                tokio::spawn(async move { serve(stream, speaks, acceptor, clear, secret).await });
            }
        });
        stand
    }

    /// Sends a mail there, as to a host called `localhost`.
    async fn send(&self, protection: Protection, is_trusted: bool) -> Result<(), MailError> {
        let scheme = if protection == Protection::Wrapped { "smtps" } else { "smtp" };
        let text = format!("{scheme}://exchange:{PASSWORD}@localhost:{}", self.address.port());
        let url: SmtpUrl = text.parse().expect("it is an address");
        let trusted = is_trusted.then(|| self.certificate.clone());
        let smtp =
            Smtp::with(&url, "no-reply@example.com", protection, trusted).expect("it is good");
        let mail = Mail {
            id: uuid::Uuid::from_u128(7),
            to: "ann@example.com".to_owned(),
            subject: "your code".to_owned(),
            text: "123456".to_owned(),
            html: "<p>123456</p>".to_owned(),
        };
        smtp.send(mail).await
    }
}

async fn serve(
    mut stream: TcpStream,
    speaks: Speaks,
    acceptor: TlsAcceptor,
    clear: Arc<Mutex<Vec<String>>>,
    secret: Arc<Mutex<Vec<String>>>,
) {
    if speaks == Speaks::Wrapped {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            talk(&mut stream, true, false, &secret).await;
        }
        return;
    }
    // What a client sends after its `STARTTLS` is the handshake, so nothing is lost with this buffer.
    if talk(&mut stream, true, speaks == Speaks::StartTls, &clear).await
        && let Ok(mut stream) = acceptor.accept(stream).await
    {
        talk(&mut stream, false, false, &secret).await;
    }
}

/// Talks until the end, or until the client asks for TLS where that is offered: then `true`.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    greets: bool,
    offers: bool,
    heard: &Mutex<Vec<String>>,
) -> bool {
    let mut stream = BufReader::new(stream);
    if greets && stream.write_all(b"220 stand\r\n").await.is_err() {
        return false;
    }
    let (mut line, mut is_mail) = (String::new(), false);
    loop {
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return false;
        }
        heard.lock().await.push(line.trim_end().to_owned());
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            "." if is_mail => {
                is_mail = false;
                "250 taken\r\n"
            }
            _ if is_mail => continue,
            "EHLO" if offers => "250-stand\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n",
            "EHLO" => "250-stand\r\n250 AUTH PLAIN LOGIN\r\n",
            "STARTTLS" if offers => "220 go ahead\r\n",
            "STARTTLS" => "502 no such thing\r\n",
            "AUTH" => "235 welcome\r\n",
            "DATA" => {
                is_mail = true;
                "354 go ahead\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return false;
        }
        if word == "STARTTLS" && offers {
            return true;
        }
    }
}

/// Returns why a mail was not sent: it is tried again later.
fn refusal(sent: Result<(), MailError>) -> String {
    match sent {
        Err(MailError::Unavailable(text)) => text,
        other => panic!("it is refused for now: {other:?}"),
    }
}

#[tokio::test]
async fn mail_and_password_go_over_tls_to_a_server_that_is_trusted() {
    for (speaks, protection) in
        [(Speaks::Wrapped, Protection::Wrapped), (Speaks::StartTls, Protection::StartTls)]
    {
        let stand = Stand::start(speaks, "localhost").await;
        stand.send(protection, true).await.unwrap_or_else(|error| panic!("{speaks:?}: {error:?}"));
        let secret = stand.secret.lock().await.join("\n");
        assert!(secret.contains("AUTH") && secret.contains("123456"), "{speaks:?}: {secret}");
        let clear = stand.clear.lock().await.join("\n");
        assert!(!clear.contains("AUTH") && !clear.contains("MAIL"), "{speaks:?}: {clear}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_hears_nothing() {
    for (speaks, protection) in [
        (Speaks::Wrapped, Protection::Wrapped),
        (Speaks::StartTls, Protection::StartTls),
        (Speaks::StartTls, Protection::StartTlsIfOffered),
    ] {
        // Signed by nobody who is known, and somebody else's.
        for (name, is_trusted) in [("localhost", false), ("mail.example.com", true)] {
            let stand = Stand::start(speaks, name).await;
            let why = refusal(stand.send(protection, is_trusted).await);
            assert!(why.contains("certificate"), "{protection:?} {name}: {why}");
            assert!(!why.contains(PASSWORD), "{why}");
            let heard = [stand.clear.lock().await.join("\n"), stand.secret.lock().await.join("\n")];
            let heard = heard.join("\n");
            assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{protection:?}: {heard}");
        }
    }
}

/// Somebody on the way takes the offer of TLS away.
#[tokio::test]
async fn no_password_goes_to_a_server_that_offers_no_tls() {
    let stand = Stand::start(Speaks::Nothing, "localhost").await;
    let why = refusal(stand.send(Protection::StartTls, true).await);
    assert!(why.to_lowercase().contains("tls"), "{why}");
    let heard = stand.clear.lock().await.join("\n");
    assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{heard}");
}
