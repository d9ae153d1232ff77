//! The audit log's hash chain, written behind the log by one process at a time.
//!
//! Invariant: every link covers one row of the log, to the letter, and the link before. A row that was changed, taken
//! away or put in between afterwards is found, whoever did it, as long as one later hash is known elsewhere.

use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use crate::{Db, StoreError};

/// The key of the advisory lock under which links are added: "kxaudits" in ASCII.
const LOCK_KEY: i64 = 0x6b78_6175_6469_7473;
/// Links added in one transaction.
const LINKS_MAX: i64 = 1_000;
/// Rows behind the newest link that are looked at for ones that were committed late.
const LATE_MAX: i64 = 10_000;
/// The hash before the first.
const FIRST: [u8; 32] = [0; 32];

/// A row of the log as it is hashed: its numbers, and what PostgreSQL prints of the rest.
macro_rules! hashed_columns {
    () => {
        "l.id, (extract(epoch FROM l.created_at) * 1000000)::bigint, l.level, l.action, l.user_id::text, \
         host(l.address), l.trace_id::text, l.detail::text"
    };
}

fn link(previous: &[u8], row: &Row, first: usize) -> [u8; 32] {
    let mut digest = Sha256::new().chain_update(previous);
    digest.update(row.get::<_, i64>(first).to_be_bytes());
    digest.update(row.get::<_, i64>(first + 1).to_be_bytes());
    for column in first + 2..first + 8 {
        // The length goes first, so that no two rows give the same bytes; none is told from empty.
        let text = row.get::<_, Option<&str>>(column);
        digest.update(text.map_or(0, |text| text.len() as u64 + 1).to_be_bytes());
        digest.update(text.unwrap_or_default());
    }
    digest.finalize().into()
}

/// Adds links for rows that have none. Returns how many; `None` where another process is at it.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn extend(db: &Db) -> Result<Option<usize>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let mine = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK_KEY]).await?;
    if !mine.get::<_, bool>(0) {
        return Ok(None);
    }
    let head = transaction
        .query_opt("SELECT position, hash FROM audit_chain ORDER BY position DESC LIMIT 1", &[])
        .await?;
    let (mut position, mut previous) =
        head.map_or((0_i64, FIRST.to_vec()), |row| (row.get(0), row.get(1)));
    let rows = transaction
        .query(
            concat!(
                "SELECT ", hashed_columns!(), " FROM audit_log l ",
                "WHERE l.id > (SELECT coalesce(max(audit_id), 0) - $1 FROM audit_chain) ",
                "AND NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.id) ORDER BY l.id LIMIT $2"
            ),
            &[&LATE_MAX, &LINKS_MAX],
        )
        .await?;
    let (mut positions, mut ids, mut before, mut hashes) = (vec![], vec![], vec![], vec![]);
    for row in &rows {
        let hash = link(&previous, row, 0).to_vec();
        position += 1;
        positions.push(position);
        ids.push(row.get::<_, i64>(0));
        before.push(std::mem::replace(&mut previous, hash.clone()));
        hashes.push(hash);
    }
    transaction
        .execute(
            "INSERT INTO audit_chain (position, audit_id, previous_hash, hash) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])",
            &[&positions, &ids, &before, &hashes],
        )
        .await?;
    transaction.commit().await?;
    Ok(Some(rows.len()))
}

/// What checking the chain came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Links that are right, up to the first fault.
    pub links: u64,
    /// The newest hash: whoever keeps it elsewhere can prove what was before.
    pub head: Vec<u8>,
    /// The first fault.
    pub fault: Option<String>,
}

/// Checks every link, oldest first, and that no row of the log was left out.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn check(db: &Db) -> Result<Checked, StoreError> {
    const PAGE: i64 = 5_000;
    let client = db.get().await?;
    let text = client
        .prepare_cached(concat!(
            "SELECT c.position, c.audit_id, c.previous_hash, c.hash, l.id IS NOT NULL, ",
            hashed_columns!(),
            " FROM audit_chain c LEFT JOIN audit_log l ON l.id = c.audit_id ",
            "WHERE c.position > $1 ORDER BY c.position LIMIT $2"
        ))
        .await?;
    let mut checked = Checked { head: FIRST.to_vec(), ..Checked::default() };
    let mut position = 0_i64;
    loop {
        let rows = client.query(&text, &[&position, &PAGE]).await?;
        for row in &rows {
            if let Some(fault) = fault_of(row, position, &checked.head) {
                checked.fault = Some(fault);
                return Ok(checked);
            }
            position += 1;
            checked.links += 1;
            checked.head = row.get(3);
        }
        if rows.is_empty() {
            break;
        }
    }
    // The newest rows may not have been reached yet; what is far behind them never will be.
    let left_out = client
        .query_opt(
            "SELECT l.id FROM audit_log l \
              WHERE l.id <= (SELECT coalesce(max(audit_id), 0) - $1 FROM audit_chain) \
                AND NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.id) ORDER BY l.id LIMIT 1",
            &[&LATE_MAX],
        )
        .await?;
    if let Some(row) = left_out {
        checked.fault = Some(format!("row {} of the audit log has no link", row.get::<_, i64>(0)));
    }
    Ok(checked)
}

fn fault_of(row: &Row, position: i64, previous: &[u8]) -> Option<String> {
    let (at, id): (i64, i64) = (row.get(0), row.get(1));
    if at != position + 1 {
        return Some(format!("link {} is missing", position + 1));
    }
    if row.get::<_, &[u8]>(2) != previous {
        return Some(format!("link {at} (row {id}) does not go on from the one before"));
    }
    if !row.get::<_, bool>(4) {
        return Some(format!("row {id} of the audit log, link {at}, is gone"));
    }
    let right = row.get::<_, &[u8]>(3) == link(previous, row, 5);
    (!right).then(|| format!("row {id} of the audit log, link {at}, is not what was written"))
}
