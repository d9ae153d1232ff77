//! Mail to people.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: String,
    /// About what.
    pub subject: String,
    /// The text.
    pub text: String,
}

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
#[error("the mail was not taken: {0}")]
pub struct MailError(pub String);

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands a mail over. Must not take long: a request waits for it.
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
