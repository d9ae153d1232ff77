//! The audit log: what was done, by whom, from where. Rows are added and never changed.

pub mod chain;
mod list;

use std::net::IpAddr;

use tokio_postgres::GenericClient;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{Db, StoreError};

pub use list::{AuditFilter, AuditRow, list};

/// How grave an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Somebody should look at it if it goes on.
    Warn,
    /// Somebody should look at it.
    Error,
}

impl Level {
    /// Returns the name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// How grave.
    pub level: Level,
    /// What was done, such as `auth.login`.
    pub action: &'static str,
    /// By whom, where that is known.
    pub user: Option<Uuid>,
    /// From where.
    pub address: Option<IpAddr>,
    /// In which trace; 0: none.
    pub trace_id: u128,
    /// What else there is to say; never a secret.
    pub detail: serde_json::Value,
}

/// Adds entries.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn append(db: &Db, entries: &[AuditEntry]) -> Result<(), StoreError> {
    let client = db.get().await?;
    append_in(&**client, entries).await
}

/// Adds entries in a transaction, so that what is done and what is said of it are one.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn append_in(
    client: &impl GenericClient,
    entries: &[AuditEntry],
) -> Result<(), StoreError> {
    let column = |of: fn(&AuditEntry) -> &'static str| entries.iter().map(of).collect::<Vec<_>>();
    let levels = column(|entry| entry.level.name());
    let actions = column(|entry| entry.action);
    let users: Vec<_> = entries.iter().map(|entry| entry.user).collect();
    let addresses: Vec<_> = entries.iter().map(|entry| entry.address).collect();
    let traces: Vec<_> = entries
        .iter()
        .map(|entry| (entry.trace_id != 0).then(|| Uuid::from_u128(entry.trace_id)))
        .collect();
    let details: Vec<_> = entries.iter().map(|entry| Json(&entry.detail)).collect();
    client
        .execute(
            "INSERT INTO audit_log (level, action, user_id, address, trace_id, detail) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::inet[], $5::uuid[], $6::jsonb[])",
            &[&levels, &actions, &users, &addresses, &traces, &details],
        )
        .await?;
    Ok(())
}
