//! What our mails say.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::outbox::NewMail;
use uuid::Uuid;

use crate::app::App;

/// What seals in the vault are for.
pub(super) const PURPOSE: &str = "mail";
/// How long a notice is of use.
const NOTICE_LIFETIME: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// A mail that is to be written.
pub(crate) struct Letter {
    kind: &'static str,
    subject: String,
    lines: Vec<Line>,
    lifetime: Duration,
    replaces: bool,
}

enum Line {
    Text(String),
    Code(String),
    Link(String),
}

/// A mail as it is kept: rendered, so that a release that does not know its kind can send it.
#[derive(Serialize, Deserialize)]
pub(super) struct Rendered {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

impl Letter {
    fn new(kind: &'static str, subject: &str) -> Self {
        Self {
            kind,
            subject: format!("KrystalineX: {subject}"),
            lines: Vec::new(),
            lifetime: NOTICE_LIFETIME,
            replaces: false,
        }
    }

    fn text(mut self, text: impl Into<String>) -> Self {
        self.lines.push(Line::Text(text.into()));
        self
    }

    /// Brings a code that is good for a while; one that was sent before and has not left yet is of no use any more.
    fn code(mut self, code: &str, lifetime: Duration) -> Self {
        self.lines.push(Line::Code(code.to_owned()));
        (self.lifetime, self.replaces) = (lifetime, true);
        self
    }

    /// Brings the code that verifies the address.
    pub(crate) fn verification(code: &str, lifetime: Duration) -> Self {
        Self::new("verification", "your verification code")
            .code(code, lifetime)
            .text(format!("It is good for {} minutes.", lifetime.as_secs() / 60))
            .text("If you did not register, ignore this mail.")
    }

    /// Brings the token that sets a new password, and a link where this exchange has a public address.
    pub(crate) fn reset(token: &str, public_url: Option<&str>, lifetime: Duration) -> Self {
        let mut letter = Self::new("reset", "set a new password")
            .text("Somebody asked to set a new password for this account. This sets it, once:");
        if let Some(url) = public_url {
            // In the fragment, which no browser sends to any server.
            letter.lines.push(Line::Link(format!("{url}/reset-password#token={token}")));
        }
        letter = letter.code(token, lifetime);
        // An earlier link stays good, so its mail is still of use.
        letter.replaces = false;
        letter
            .text(format!("It is good for {} minutes.", lifetime.as_secs() / 60))
            .text("If it was not you, ignore this mail: nothing has changed.")
    }

    /// Brings the code that confirms a new address.
    pub(crate) fn new_email(code: &str, lifetime: Duration) -> Self {
        Self::new("new_email", "confirm your new address")
            .code(code, lifetime)
            .text(format!("It is good for {} minutes.", lifetime.as_secs() / 60))
            .text("If you have no account here, ignore this mail.")
    }

    /// Tells that something about the security of an account has changed.
    pub(crate) fn changed(what: &str, origin: &str) -> Self {
        Self::new("security_changed", what)
            .text(format!("Your account's security settings have changed: {what}."))
            .text(format!("It was done from {origin}."))
            .text("Withdrawals are frozen for a while. If it was not you, set a new password at once and write to us.")
    }

    /// Tells that a refresh token was used twice.
    pub(crate) fn session_reused(origin: &str) -> Self {
        Self::new("session_reused", "a session was ended for your safety")
            .text("The token that keeps one of your sessions going was used twice: somebody may have a copy of it.")
            .text(format!("The second use came from {origin}. The session has ended, for you too: log in again."))
            .text("If you do not know why this happened, set a new password and look at your sessions.")
    }

    /// Tells that somebody knows the password and guesses codes.
    pub(crate) fn codes_guessed(origin: &str) -> Self {
        Self::new("codes_guessed", "somebody may know your password")
            .text(format!("Several wrong codes of your second factor came from {origin}, after the right password."))
            .text("If it was not you, set a new password now. Your second factor has kept them out.")
    }

    /// Tells that the account is closed.
    pub(crate) fn closed() -> Self {
        Self::new("closed", "your account is closed")
            .text("Your account is closed, and what names you has been erased.")
            .text("Records of money that moved are kept as long as the law asks.")
    }

    fn render(&self) -> Rendered {
        let (mut text, mut html) = (String::new(), String::new());
        html.push_str(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"></head><body>",
        );
        for line in &self.lines {
            let _ = match line {
                Line::Text(words) => {
                    let _ = write!(text, "{words}\n\n");
                    write!(html, "<p>{}</p>", escape(words))
                }
                Line::Code(code) => {
                    let _ = write!(text, "Your code is {code}\n\n");
                    write!(html, "<p>Your code is <b>{}</b></p>", escape(code))
                }
                Line::Link(url) => {
                    let _ = write!(text, "{url}\n\n");
                    let url = escape(url);
                    write!(html, "<p><a href=\"{url}\">{url}</a></p>")
                }
            };
        }
        html.push_str("</body></html>");
        Rendered { subject: self.subject.clone(), text: text.trim_end().to_owned(), html }
    }

    /// Seals it for the outbox.
    pub(crate) fn seal(&self, app: &App, to: &str) -> NewMail {
        let id = Uuid::now_v7();
        let plain = serde_json::to_vec(&self.render()).expect("it is plain text");
        NewMail {
            id,
            kind: self.kind,
            recipient: to.to_owned(),
            content: app.vault.seal(PURPOSE, id, &plain),
            lifetime: self.lifetime,
            replaces: self.replaces,
        }
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_the_same_in_text_and_html_and_what_it_quotes_is_inert() {
        let letter = Letter::changed("the password was changed", "<img src=x> & co");
        let rendered = letter.render();
        assert!(rendered.text.contains("<img src=x> & co"), "{}", rendered.text);
        assert!(rendered.html.contains("&lt;img src=x&gt; &amp; co"), "{}", rendered.html);
        let minutes = Duration::from_secs(900);
        let rendered = Letter::verification("012345", minutes).render();
        assert!(rendered.text.contains("012345") && rendered.html.contains("<b>012345</b>"));
        assert!(!rendered.subject.contains("012345"), "a subject is shown on locked screens");
    }

    #[test]
    fn a_link_goes_to_the_configured_address_alone() {
        let minutes = Duration::from_secs(900);
        let with = Letter::reset("tok", Some("https://kx.example"), minutes).render();
        assert!(with.text.contains("https://kx.example/reset-password#token=tok"), "{}", with.text);
        let without = Letter::reset("tok", None, minutes).render();
        assert!(!without.text.contains("http") && without.text.contains("tok"), "{}", without.text);
    }
}
