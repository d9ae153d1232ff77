//! Mail to people.
//!
//! Invariant: no request waits for mail. It is written to the outbox with what causes it, and sent from there.

pub(crate) mod delivery;
pub(crate) mod letter;
pub mod smtp;

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its id; the same when it is sent again, so that a receiver can tell.
    pub id: Uuid,
    /// To whom.
    pub to: String,
    /// About what.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// It will never be taken: there is no such recipient, or it is no mail.
    #[error("the mail was refused: {0}")]
    Refused(String),
    /// This one may be taken later: the server answers, and takes others.
    #[error("the mail was not taken now: {0}")]
    Deferred(String),
    /// The server cannot be reached, or takes nothing now.
    #[error("the mail server is away: {0}")]
    Unavailable(String),
}

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands a mail over.
    ///
    /// # Errors
    ///
    /// [`MailError`] when it was not taken.
    async fn send(&self, mail: Mail) -> Result<(), MailError>;
}

/// Mails that the development inbox keeps.
const MAILS_MAX: usize = 200;

/// The development inbox: mail stays in this process, for a person to read at `:1080`.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    count: u64,
    mails: VecDeque<Received>,
}

/// A mail in the inbox.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its number.
    pub id: u64,
    /// When it came, in seconds since 1970.
    pub at_seconds: u64,
    /// The mail.
    pub mail: Mail,
}

impl Inbox {
    /// Returns the mails that are kept, newest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Received> {
        self.0.lock().mails.iter().rev().cloned().collect()
    }

    /// Throws the mails away.
    pub fn clear(&self) {
        self.0.lock().mails.clear();
    }
}

#[async_trait]
impl Mailer for Inbox {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let at_seconds = now.unwrap_or_default().as_secs();
        let mut kept = self.0.lock();
        kept.count += 1;
        let id = kept.count;
        kept.mails.push_back(Received { id, at_seconds, mail });
        if kept.mails.len() > MAILS_MAX {
            kept.mails.pop_front();
        }
        Ok(())
    }
}
