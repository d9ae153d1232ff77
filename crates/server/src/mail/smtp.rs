//! Mail by SMTP.
//!
//! Invariant: the password of the URL is in no message; it goes over the network only where TLS protects it, or to this
//! machine itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Mail, MailError, Mailer};

/// How long one step of the dialogue may take.
const STEP_MAX: Duration = Duration::from_secs(10);
/// How long a mail may take in all.
const SEND_MAX: Duration = Duration::from_secs(30);
/// Answers that say that there is no such mailbox, now or ever (RFC 5321, 4.2.3; RFC 7504). Others may be our own fault, such
/// as a wrong password, and end with it.
const NO_MAILBOX: [u16; 4] = [550, 551, 553, 556];
/// The answer of a server that closes (RFC 5321, 3.8).
const CLOSING: u16 = 421;

/// Where mail goes: `smtp://` or `smtps://`, `user:password@` where needed, host, port.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    host: String,
    port: u16,
    /// TLS from the first byte.
    wrapped: bool,
    credentials: Option<(String, String)>,
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpUrl")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Why a text is no such URL. It never repeats it: it may have a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be smtp://host:port or smtps://host:port, with user:password@ before the host where needed"
)]
pub struct InvalidSmtpUrl;

impl FromStr for SmtpUrl {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let (wrapped, rest) = match (text.strip_prefix("smtps://"), text.strip_prefix("smtp://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(InvalidSmtpUrl),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((credentials, place)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                (Some((decode(user)?, decode(password)?)), place)
            }
        };
        // An IPv6 address stands in brackets.
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let default = if wrapped { 465 } else { 25 };
        let port = port.map_or(Ok(default), str::parse).map_err(|_| InvalidSmtpUrl)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(InvalidSmtpUrl);
        }
        Ok(Self { host: host.to_owned(), port, wrapped, credentials })
    }
}

/// Decodes `%xx`.
fn decode(text: &str) -> Result<String, InvalidSmtpUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, after) = after.split_at_checked(2).ok_or(InvalidSmtpUrl)?;
        let hex = std::str::from_utf8(hex).map_err(|_| InvalidSmtpUrl)?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| InvalidSmtpUrl)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| InvalidSmtpUrl)
}

/// What protects the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Wrapped,
    StartTls,
    StartTlsIfOffered,
    Nothing,
}

impl SmtpUrl {
    fn protection(&self) -> Protection {
        let address = self.host.parse::<std::net::IpAddr>();
        let here = self.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match (self.wrapped, here, &self.credentials) {
            (true, _, _) => Protection::Wrapped,
            (false, true, _) => Protection::Nothing,
            (false, false, Some(_)) => Protection::StartTls,
            (false, false, None) => Protection::StartTlsIfOffered,
        }
    }
}

/// Tells whether a text names a sender of mail, such as `Name <name@example.com>`.
#[must_use]
pub fn is_sender(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// Sends mail to an SMTP server, each on a connection of its own.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// Why there can be no sender.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The sender's address is none.
    #[error("the sender of mail is not an address")]
    From(#[source] lettre::address::AddressError),
    /// TLS cannot be set up.
    #[error("TLS towards the mail server cannot be set up")]
    Tls(#[source] lettre::transport::smtp::Error),
}

impl Smtp {
    /// Makes a sender. Connects when there is something to send.
    ///
    /// # Errors
    ///
    /// [`SmtpError`].
    pub fn new(url: &SmtpUrl, from: &str) -> Result<Self, SmtpError> {
        Self::with(url, from, url.protection(), None)
    }

    /// Makes a sender that trusts one more certificate than the system does.
    fn with(
        url: &SmtpUrl,
        from: &str,
        protection: Protection,
        trusted: Option<Certificate>,
    ) -> Result<Self, SmtpError> {
        let parameters = || {
            let mut builder = TlsParameters::builder(url.host.clone());
            if let Some(certificate) = trusted {
                builder = builder.add_root_certificate(certificate);
            }
            builder.build().map_err(SmtpError::Tls)
        };
        let tls = match protection {
            Protection::Wrapped => Tls::Wrapper(parameters()?),
            Protection::StartTls => Tls::Required(parameters()?),
            Protection::StartTlsIfOffered => Tls::Opportunistic(parameters()?),
            Protection::Nothing => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&url.host)
            .port(url.port)
            .timeout(Some(STEP_MAX))
            .tls(tls);
        if let Some((user, password)) = &url.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        let from = from.parse().map_err(SmtpError::From)?;
        Ok(Self { transport: builder.build(), from })
    }

    fn message(&self, mail: Mail) -> Result<Message, Box<dyn std::error::Error>> {
        let id = format!("<{}@{}>", mail.id, self.from.email.domain());
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, mail.to.parse()?))
            .subject(mail.subject)
            .message_id(Some(id))
            .date_now()
            .multipart(MultiPart::alternative_plain_html(mail.text, mail.html))?;
        Ok(message)
    }
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let message = self.message(mail).map_err(|error| MailError::Refused(error.to_string()))?;
        match tokio::time::timeout(SEND_MAX, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let code = error.status().map(u16::from);
                let text = crate::problem::chain(&error);
                match code {
                    Some(code) if NO_MAILBOX.contains(&code) => Err(MailError::Refused(text)),
                    None | Some(CLOSING) => Err(MailError::Unavailable(text)),
                    // What it says of one mail it need not say of the next.
                    Some(_) => Err(MailError::Deferred(text)),
                }
            }
            Err(_) => Err(MailError::Unavailable("it took too long".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
