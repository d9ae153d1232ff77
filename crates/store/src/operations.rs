//! What an operator asks the database for: what waits, who is there, how far everything is.

use std::time::Duration;

use tokio_postgres::Row;
use units::Sequence;

use crate::auditor::Results;
use crate::numbers::to_u64;
use crate::{Db, StoreError};

/// What waits in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Commands answered with 202 that are not among the projected orders and may still be decided.
    pub pending: u64,
    /// The age of the oldest of them.
    pub oldest_pending: Duration,
    /// Letters that were not handed over yet.
    pub mail: u64,
}

/// Counts what waits.
///
/// # Errors
///
/// [`StoreError`].
pub async fn waiting(db: &Db) -> Result<Waiting, StoreError> {
    let client = db.get().await?;
    let text = "
        SELECT p.count, p.oldest, (SELECT count(*) FROM mail_outbox WHERE failed_at IS NULL)
        FROM (
            SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest
            FROM pending_commands w
            WHERE NOT EXISTS (SELECT FROM orders_projected decided WHERE decided.id = w.id)
                AND NOT (SELECT g.time > w.expires_at FROM projection_progress g WHERE g.active)
        ) p";
    let row = client.query_one(&client.prepare_cached(text).await?, &[]).await?;
    Ok(Waiting {
        pending: to_u64(row.get(0))?,
        oldest_pending: seconds(row.get(1)),
        mail: to_u64(row.get(2))?,
    })
}

/// How far a part of the projections is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The part.
    pub part: String,
    /// The newest journal row in it.
    pub sequence: Sequence,
    /// Whether some process writes it now.
    pub held: bool,
}

/// What the auditor last saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audited {
    /// How long ago.
    pub age: Duration,
    /// What it saw.
    pub results: Results,
}

/// How the exchange is, as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The epoch in force.
    pub epoch: u64,
    /// Who holds it, by its own name.
    pub owner: Option<String>,
    /// How long it has been in force.
    pub raised: Duration,
    /// The journal's last row; `None` for an empty journal.
    pub head: Option<Sequence>,
    /// How far the projections are.
    pub parts: Vec<Standing>,
    /// Payment processors that were seen in the last few seconds; 0 where one process is the whole exchange.
    pub processors: u64,
    /// What the auditor last saw.
    pub audited: Option<Audited>,
    /// Connections to this database, by everybody.
    pub connections: u64,
    /// How many it takes at most.
    pub connections_max: u64,
}

/// Returns how the exchange is.
///
/// # Errors
///
/// [`StoreError`].
pub async fn overview(db: &Db) -> Result<Overview, StoreError> {
    let client = db.get().await?;
    let text = "
        SELECT e.epoch, e.owner, extract(epoch FROM clock_timestamp() - e.raised_at)::float8,
            (SELECT max(sequence) FROM journal),
            (SELECT count(*) FROM processes WHERE seen_at > clock_timestamp() - interval '10 s'),
            (SELECT sum(numbackends)::bigint FROM pg_stat_database),
            current_setting('max_connections')::bigint
        FROM epoch e";
    let row = client.query_one(&client.prepare_cached(text).await?, &[]).await?;
    let head: Option<i64> = row.get(3);
    let text = "
        SELECT p.part, p.sequence, coalesce(l.until > clock_timestamp(), false)
        FROM projection_parts p LEFT JOIN projection_leases l USING (part) WHERE p.active ORDER BY p.part";
    let parts = client.query(&client.prepare_cached(text).await?, &[]).await?;
    let text = "
        SELECT extract(epoch FROM clock_timestamp() - looked_at)::float8, imbalances, negative_accounts,
            projection_differences, journal_breaks, balances, journal_rows
        FROM audit_results";
    let audited = client.query_opt(&client.prepare_cached(text).await?, &[]).await?;
    Ok(Overview {
        epoch: to_u64(row.get(0))?,
        owner: row.get(1),
        raised: seconds(row.get::<_, Option<f64>>(2).unwrap_or_default()),
        head: head.map(|head| to_u64(head).map(Sequence::new)).transpose()?,
        parts: parts.iter().map(standing).collect::<Result<_, _>>()?,
        processors: to_u64(row.get(4))?,
        audited: audited.as_ref().map(self::audited).transpose()?,
        connections: to_u64(row.get::<_, Option<i64>>(5).unwrap_or_default())?,
        connections_max: to_u64(row.get(6))?,
    })
}

fn standing(row: &Row) -> Result<Standing, StoreError> {
    let sequence = Sequence::new(to_u64(row.get(1))?);
    Ok(Standing { part: row.get(0), sequence, held: row.get(2) })
}

fn audited(row: &Row) -> Result<Audited, StoreError> {
    let results = Results {
        imbalances: to_u64(row.get(1))?,
        negative_accounts: to_u64(row.get(2))?,
        projection_differences: to_u64(row.get(3))?,
        journal_breaks: to_u64(row.get(4))?,
        balances: to_u64(row.get(5))?,
        rows: to_u64(row.get(6))?,
    };
    Ok(Audited { age: seconds(row.get(0)), results })
}

/// A span that PostgreSQL has measured; clocks may be a little apart.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
