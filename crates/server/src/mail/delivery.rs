//! Sends what is in the outbox.
//!
//! Invariant: one mail that cannot be sent holds up no other, and none is tried for ever. A server that is away is not tried
//! with every mail: the circuit breaker says when, and no mail's tries are used up meanwhile.

use std::sync::Arc;
use std::time::Duration;

use breaker::{Breaker, Rules};
use store::outbox::{self, Claimed};
use store::{Db, StoreError};
use tokio::sync::Notify;

use super::letter::{PURPOSE, Rendered};
use super::{Mail, MailError};
use crate::app::{App, Inner};
use crate::problem::chain;

/// How often the outbox is looked into where nothing was written here: other servers may have ended.
const EVERY: Duration = Duration::from_secs(2);
/// How often what is of no use any more is taken away.
const SWEEP_EVERY: u32 = 30;
/// How long nobody else gets a claimed mail: longer than sending takes.
const LEASE: Duration = Duration::from_secs(120);
/// Mails that are sent at once.
const BATCH_MAX: usize = 8;

/// Tries, in about a day.
const ATTEMPTS_MAX: i16 = 32;
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// Makes the breaker around the mail server. It opens when the server is away, never for what it says of one mail; a server
/// that is slow is waited for, because nobody else waits. A mail waits for it for a minute at most.
pub(crate) fn breaker() -> Breaker {
    Breaker::new(
        "mail",
        Rules {
            calls_max: 10,
            bad_max: 5,
            slow: Duration::MAX,
            probes: 2,
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
        },
    )
}

/// Tells the sender that something was written.
#[derive(Clone, Default)]
pub(crate) struct Delivery(Arc<Notify>);

impl Delivery {
    /// Has the outbox looked into soon.
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends for as long as the application lives. Several servers share one outbox.
pub(crate) fn start(app: &App) {
    let (inner, delivery) = (app.downgrade(), app.delivery.clone());
    tokio::spawn(async move {
        let mut looks: u32 = 0;
        while let Some(inner) = inner.upgrade() {
            if looks.is_multiple_of(SWEEP_EVERY) {
                sweep(&inner.db).await;
            }
            looks = looks.wrapping_add(1);
            let full = match deliver(&inner).await {
                Ok(count) => count >= BATCH_MAX,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot look into the outbox now");
                    false
                }
            };
            drop(inner);
            if !full {
                let _ = tokio::time::timeout(EVERY, delivery.0.notified()).await;
            }
        }
    });
}

async fn sweep(db: &Db) {
    match outbox::sweep(db).await {
        Ok(0) => {}
        Ok(count) => tracing::error!(count, "mails could not be sent while they were of use"),
        Err(error) => tracing::warn!(error = %chain(&error), "cannot sweep the outbox now"),
    }
}

/// Sends what is due. Returns how many mails that were.
async fn deliver(inner: &Inner) -> Result<usize, StoreError> {
    let room = inner.mail_breaker.room(BATCH_MAX);
    let Some(most) = i64::try_from(room).ok().filter(|most| *most > 0) else { return Ok(0) };
    let claimed = outbox::claim(&inner.db, most, LEASE, &inner.vault.key_ids()).await?;
    let count = claimed.len();
    let all = claimed.into_iter().map(|claimed| one(inner, claimed));
    for done in futures::future::join_all(all).await {
        // The lease ends, and somebody tries again.
        if let Err(error) = done {
            tracing::warn!(error = %chain(&error), "cannot note what became of a mail");
        }
    }
    Ok(count)
}

async fn one(inner: &Inner, claimed: Claimed) -> Result<(), StoreError> {
    let Claimed { id, kind, recipient, content, attempts } = claimed;
    let opened = inner.vault.open(PURPOSE, id, &content);
    let rendered = opened.and_then(|plain| serde_json::from_slice::<Rendered>(&plain).ok());
    let Some(Rendered { subject, text, html }) = rendered else {
        tracing::error!(%id, kind, "a mail cannot be read and was set aside");
        return outbox::set_aside(&inner.db, id, "what it says cannot be read").await;
    };
    let permit = match inner.mail_breaker.permit() {
        Ok(permit) => permit,
        Err(refused) => return outbox::again(&inner.db, id, refused.retry_in.min(WAIT_MAX)).await,
    };
    let sent = inner.mailer.send(Mail { id, to: recipient, subject, text, html }).await;
    match &sent {
        Err(MailError::Unavailable(_)) => permit.failed(),
        Ok(()) | Err(MailError::Refused(_) | MailError::Deferred(_)) => permit.succeeded(),
    }
    match sent {
        Ok(()) => outbox::sent(&inner.db, id).await,
        Err(error @ MailError::Refused(_)) => {
            tracing::warn!(%id, kind, "a mail was refused and set aside");
            outbox::set_aside(&inner.db, id, &error.to_string()).await
        }
        Err(error) if attempts >= ATTEMPTS_MAX => {
            tracing::error!(%id, kind, attempts, %error, "a mail was given up");
            outbox::set_aside(&inner.db, id, &error.to_string()).await
        }
        Err(error) => {
            tracing::warn!(%id, kind, attempts, %error, "a mail will be tried again");
            outbox::again(&inner.db, id, wait(attempts)).await
        }
    }
}

/// Returns how long to wait after so many tries: a second, doubled each time, an hour at most.
fn wait(attempts: i16) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    Duration::from_secs(1 << doublings).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_all_tries_take_about_a_day() {
        assert_eq!(wait(1), Duration::from_secs(1));
        assert_eq!(wait(4), Duration::from_secs(8));
        assert_eq!(wait(i16::MAX), WAIT_MAX);
        let all: Duration = (1..ATTEMPTS_MAX).map(wait).sum();
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(all > day / 2 && all < day * 2, "{all:?}");
    }
}
