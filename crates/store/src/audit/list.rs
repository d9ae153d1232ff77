//! Reading the audit log.

use std::net::IpAddr;

use tokio_postgres::types::Json;
use units::Time;
use uuid::Uuid;

use crate::{Db, StoreError, Timestamp};

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this action, or of all actions that begin so where it ends in `.`.
    pub action: Option<String>,
    /// By this user.
    pub user: Option<Uuid>,
    /// Of this level.
    pub level: Option<String>,
    /// Not before.
    pub from: Option<Time>,
    /// Before.
    pub until: Option<Time>,
    /// Older than the row with this id.
    pub before_id: Option<i64>,
}

/// A row of the audit log.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its number.
    pub id: i64,
    /// When.
    pub created_at: Time,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// What was done.
    pub action: String,
    /// By whom.
    pub user: Option<Uuid>,
    /// From where.
    pub address: Option<IpAddr>,
    /// In which trace.
    pub trace: Option<Uuid>,
    /// What else there is to say.
    pub detail: serde_json::Value,
}

/// Returns rows, newest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    rows_max: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT id, created_at, level, action, user_id, address, trace_id, detail FROM audit_log \
              WHERE ($1::text IS NULL OR action = $1 OR (right($1, 1) = '.' AND starts_with(action, $1))) \
                AND ($2::uuid IS NULL OR user_id = $2) AND ($3::text IS NULL OR level = $3) \
                AND ($4::timestamptz IS NULL OR created_at >= $4) \
                AND ($5::timestamptz IS NULL OR created_at < $5) AND ($6::bigint IS NULL OR id < $6) \
              ORDER BY id DESC LIMIT $7",
        )
        .await?;
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = client
        .query(
            &text,
            &[
                &filter.action,
                &filter.user,
                &filter.level,
                &filter.from.map(Timestamp),
                &filter.until.map(Timestamp),
                &filter.before_id,
                &rows_max,
            ],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| AuditRow {
            id: row.get(0),
            created_at: row.get::<_, Timestamp>(1).0,
            level: row.get(2),
            action: row.get(3),
            user: row.get(4),
            address: row.get(5),
            trace: row.get(6),
            detail: row.get::<_, Json<serde_json::Value>>(7).0,
        })
        .collect())
}
