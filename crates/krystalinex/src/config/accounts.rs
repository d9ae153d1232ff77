//! Settings of accounts and their mail.

use std::sync::Arc;
use std::time::Duration;

use server::JwtSecret;
use server::mail::smtp::{Smtp, SmtpUrl, is_sender};
use server::mail::{Inbox, Mailer};

use super::{Config, Reader, origin};

const FREEZE_HOURS_MAX: u64 = 720;

impl Config {
    /// Returns the way to people: SMTP where it is set, else the development inbox.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn mailer(&self, inbox: Inbox) -> anyhow::Result<Arc<dyn Mailer>> {
        Ok(match &self.smtp_url {
            Some(url) => Arc::new(Smtp::new(url, &self.mail_from)?),
            None => Arc::new(inbox),
        })
    }
}

/// The sender of mail.
pub(super) fn mail_from(reader: &mut Reader<'_>) -> String {
    let sender = |text: &str| is_sender(text).then(|| text.to_owned());
    let rule = "an address such as Name <name@example.com>";
    reader.read("KX_MAIL_FROM", rule, sender).unwrap_or_default()
}

/// How long a change of security settings freezes withdrawals.
pub(super) fn withdrawal_freeze(reader: &mut Reader<'_>) -> Duration {
    let hours = |text: &str| {
        let hours = text.parse().ok().filter(|hours: &u64| *hours <= FREEZE_HOURS_MAX)?;
        Some(Duration::from_secs(hours * 60 * 60))
    };
    let rule = "a whole number from 0 to 720";
    reader.read("KX_WITHDRAWAL_FREEZE_HOURS", rule, hours).unwrap_or_default()
}

/// Where people reach this exchange.
pub(super) fn public_url(reader: &mut Reader<'_>) -> Option<String> {
    reader.text("KX_PUBLIC_URL")?;
    reader.read("KX_PUBLIC_URL", "a URL such as https://exchange.example", origin)
}

/// Where mail goes. What was said is never part of the message: it may have a password in it.
pub(super) fn smtp_url(reader: &mut Reader<'_>) -> Option<SmtpUrl> {
    let text = reader.text("SMTP_URL")?;
    match text.parse() {
        Ok(url) => Some(url),
        Err(error) => {
            reader.faults.push(format!("SMTP_URL: {error}"));
            None
        }
    }
}

/// A key that need not be there.
pub(super) fn key(name: &str, reader: &mut Reader<'_>) -> Option<JwtSecret> {
    let text = reader.text(name)?;
    match JwtSecret::new(&text) {
        Ok(secret) => Some(secret),
        Err(error) => {
            reader.faults.push(error.to_string().replace("JWT_SECRET", name));
            None
        }
    }
}
