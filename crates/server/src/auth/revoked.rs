//! Sessions that have been revoked, in memory, so that no request asks the database.
//!
//! Invariant: a session is remembered at least as long as an access token of it could still be good; the set is loaded
//! when listening begins, so nothing that was revoked while nobody listened is missed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use store::sessions;
use uuid::Uuid;

use crate::app::{App, Inner};
use crate::problem::chain;
use crate::token::ACCESS_SECONDS;

/// An access token and its leeway, and then some for clocks that differ.
const REMEMBERED: Duration = Duration::from_secs(ACCESS_SECONDS + 60);
const RETRY: Duration = Duration::from_secs(1);

/// The sessions that were revoked a short while ago.
#[derive(Debug, Default)]
pub(crate) struct Revoked(RwLock<HashMap<Uuid, Instant>>);

impl Revoked {
    /// Tells whether a session was revoked.
    #[must_use]
    pub(crate) fn contains(&self, session: Uuid) -> bool {
        self.0.read().contains_key(&session)
    }

    /// Remembers a session.
    pub(crate) fn insert(&self, session: Uuid) {
        let now = Instant::now();
        let mut sessions = self.0.write();
        sessions.insert(session, now);
        if sessions.len().is_power_of_two() {
            sessions.retain(|_, since| now.duration_since(*since) < REMEMBERED);
        }
    }
}

/// Hears of revocations for as long as the application lives.
pub(crate) fn follow(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        while let Some(db) = inner.upgrade().map(|inner| inner.db.clone()) {
            if let Err(error) = listen(&db, &inner).await {
                tracing::warn!(error = %chain(&error), "cannot hear of revoked sessions now");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

async fn listen(db: &store::Db, inner: &std::sync::Weak<Inner>) -> Result<(), store::StoreError> {
    let mut revocations = sessions::listen(db).await?;
    for session in sessions::revoked_within(db, REMEMBERED).await? {
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        inner.revoked.insert(session);
    }
    loop {
        // Looks now and then whether anybody is left to listen for.
        let next = tokio::time::timeout(REMEMBERED, revocations.next()).await;
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        match next {
            Ok(Some(session)) => inner.revoked.insert(session),
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
    }
}
