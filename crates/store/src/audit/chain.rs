//! The audit log's hash chain, written behind the log by one process at a time.
//!
//! Invariant: every link covers one row of the log, to the letter, and the link before. A row that was changed, taken
//! away or put in between afterwards is found, whoever did it, as long as one later hash is known elsewhere: the journal
//! notes the newest one every minute.

use engine::AuditHead;
use sha2::{Digest, Sha256};
use tokio_postgres::{GenericClient, Row};
use units::Sequence;

use crate::numbers::{hash, to_u64};
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

/// Returns how many rows of the log are linked, and the hash of the newest link; `None` while none is.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn head(db: &Db) -> Result<Option<AuditHead>, StoreError> {
    let text = "SELECT position, hash FROM audit_chain ORDER BY position DESC LIMIT 1";
    let row = db.get().await?.query_opt(text, &[]).await?;
    row.map(|row| Ok(AuditHead { rows: to_u64(row.get(0))?, head: hash(row.get(1))? })).transpose()
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

/// A head of the chain as the journal has noted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedHead {
    /// The journal row that notes it.
    pub noted_in: Sequence,
    /// What is noted.
    pub head: AuditHead,
}

/// What checking the chain came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Links that are right, up to the first fault.
    pub links: u64,
    /// The newest hash: whoever keeps it elsewhere can prove what was before.
    pub head: Vec<u8>,
    /// The first fault of the chain in itself.
    pub fault: Option<String>,
    /// Noted heads that the chain has.
    pub noted: u64,
    /// The first noted head that the chain does not have: it was made anew, or cut.
    pub noted_fault: Option<String>,
}

/// The heads that the journal has noted, compared one after the other as the chain reaches them.
struct Noted<'a> {
    left: std::slice::Iter<'a, NotedHead>,
    next: Option<&'a NotedHead>,
    /// The first link behind the last head that was right, and its row: nothing before it was changed since.
    first: Option<(i64, i64)>,
}

impl<'a> Noted<'a> {
    fn new(heads: &'a [NotedHead]) -> Self {
        let mut left = heads.iter();
        let next = left.next();
        Self { left, next, first: None }
    }

    fn link(&mut self, position: u64, row: &Row, checked: &mut Checked) {
        let (at, id): (i64, i64) = (row.get(0), row.get(1));
        let (first, first_id) = *self.first.get_or_insert((at, id));
        let Some(noted) = self.next.filter(|noted| noted.head.rows == position) else { return };
        self.next = self.left.next();
        self.first = None;
        if row.get::<_, &[u8]>(3) == noted.head.head.0 {
            checked.noted += 1;
        } else if checked.noted_fault.is_none() {
            let from = match first == at {
                true => format!("row {id} on"),
                false => format!("one of its rows {first_id} to {id} (links {first} to {at}) on"),
            };
            checked.noted_fault = Some(format!(
                "link {at} (row {id}) is not the one that journal row {} has noted: the log was written anew from {from}",
                noted.noted_in
            ));
        }
    }

    fn end(self, checked: &mut Checked) {
        if let Some(noted) = self.next.filter(|_| checked.noted_fault.is_none()) {
            let (from, rows, row) = (checked.links + 1, noted.head.rows, noted.noted_in);
            checked.noted_fault = Some(format!(
                "the log was cut: links {from} to {rows} are gone, which journal row {row} has noted"
            ));
        }
    }
}

/// Checks every link, oldest first, that no row of the log was left out, and that the chain has every head that the
/// journal has noted, in the order in which they were noted.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn check(db: &Db, noted: &[NotedHead]) -> Result<Checked, StoreError> {
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
    let mut noted = Noted::new(noted);
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
            noted.link(checked.links, row, &mut checked);
        }
        if rows.is_empty() {
            break;
        }
    }
    noted.end(&mut checked);
    checked.fault = left_out(&**client).await?;
    Ok(checked)
}

/// Finds a row that has no link. The newest rows may not have been reached yet; what is far behind them never will be.
async fn left_out(client: &impl GenericClient) -> Result<Option<String>, StoreError> {
    let row = client
        .query_opt(
            "SELECT l.id FROM audit_log l \
              WHERE l.id <= (SELECT coalesce(max(audit_id), 0) - $1 FROM audit_chain) \
                AND NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.id) ORDER BY l.id LIMIT 1",
            &[&LATE_MAX],
        )
        .await?;
    Ok(row.map(|row| format!("row {} of the audit log has no link", row.get::<_, i64>(0))))
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
