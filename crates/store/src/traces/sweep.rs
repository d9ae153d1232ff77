//! What is old goes, and what is too much.
//!
//! Invariant: spans that others send never drive out our own traces: each of the two has its share.

use std::time::SystemTime;

use deadpool_postgres::Client;

use crate::{Db, StoreError};

/// Rows that one statement deletes at most, so that none holds anybody up.
const ROWS: i64 = 10_000;
/// Rows whose size stands for that of all.
const SAMPLE: i64 = 100;
/// What a row takes beside its payload, with its place in the indexes; a span of others, with its words.
const OVERHEAD: u64 = 120;
const SPAN_BYTES: u64 = 600;

/// A table and when its rows are from.
type Table = (&'static str, &'static str);

/// Our own traces.
const OURS: [Table; 4] = [
    ("trace_requests", "begun_at"),
    ("trace_foreign", "begun_at"),
    ("trace_batches", "noted_at"),
    ("trace_projections", "begun_at"),
];
/// What others have sent.
const OTHERS: Table = ("trace_spans", "received_at");

/// Deletes what is older than this moment, and then the oldest of what takes more than `bytes_max`, of which a quarter is for
/// what others send. Returns how many rows went.
///
/// # Errors
///
/// [`StoreError`].
pub async fn sweep(db: &Db, older_than: SystemTime, bytes_max: u64) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let mut gone = 0;
    for table in OURS.into_iter().chain([OTHERS]) {
        gone += delete(&client, table, older_than).await?;
    }
    let others_max = bytes_max / 4;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for (table, _) in OURS {
        let count = live_rows(&client, table).await?;
        let of_one = match table {
            "trace_requests" | "trace_batches" => payload_bytes(&client, table).await? + OVERHEAD,
            _ => OVERHEAD,
        };
        rows.push(count);
        bytes += count.saturating_mul(of_one);
    }
    if let Some(until) = cut(&client, OURS[0], rows[0], bytes, bytes_max - others_max).await? {
        for table in OURS {
            gone += delete(&client, table, until).await?;
        }
    }
    let count = live_rows(&client, OTHERS.0).await?;
    let bytes = count.saturating_mul(SPAN_BYTES);
    if let Some(until) = cut(&client, OTHERS, count, bytes, others_max).await? {
        gone += delete(&client, OTHERS, until).await?;
    }
    Ok(gone)
}

/// Deletes a table's rows from before this moment. Several processes may do so at once: none waits for another.
async fn delete(client: &Client, table: Table, before: SystemTime) -> Result<u64, StoreError> {
    let (table, column) = table;
    let text = format!(
        "DELETE FROM {table} WHERE ctid IN
            (SELECT ctid FROM {table} WHERE {column} < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
    );
    let statement = client.prepare_cached(&text).await?;
    let mut gone = 0;
    loop {
        let rows = client.execute(&statement, &[&before, &ROWS]).await?;
        gone += rows;
        if rows < ROWS.unsigned_abs() {
            return Ok(gone);
        }
    }
}

/// Returns how many rows a table has, as PostgreSQL keeps count. A table's size says nothing: what was deleted leaves room for what
/// comes and makes no file smaller.
async fn live_rows(client: &Client, table: &str) -> Result<u64, StoreError> {
    let text = "SELECT coalesce(max(n_live_tup), 0) FROM pg_stat_user_tables WHERE relname = $1";
    let statement = client.prepare_cached(text).await?;
    let rows: i64 = client.query_one(&statement, &[&table]).await?.get(0);
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Returns how many bytes a payload takes, by the mean of some of the newest.
async fn payload_bytes(client: &Client, table: &str) -> Result<u64, StoreError> {
    let newest = if table == "trace_requests" { "id" } else { "sequence" };
    let text = format!(
        "SELECT coalesce(avg(pg_column_size(payload)), 0)::bigint FROM
            (SELECT payload FROM {table} ORDER BY {newest} DESC LIMIT $1) AS newest"
    );
    let statement = client.prepare_cached(&text).await?;
    let bytes: i64 = client.query_one(&statement, &[&SAMPLE]).await?.get(0);
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Returns up to which moment the oldest have to go, so that a tenth is free again; none where all have room.
async fn cut(
    client: &Client,
    (table, column): Table,
    rows: u64,
    bytes: u64,
    bytes_max: u64,
) -> Result<Option<SystemTime>, StoreError> {
    if bytes <= bytes_max {
        return Ok(None);
    }
    let stay = u128::from(rows) * u128::from(bytes_max / 10 * 9) / u128::from(bytes.max(1));
    let stay = i64::try_from(stay).unwrap_or(i64::MAX);
    // The first row that has to go, and all that are older. What goes is never what came just now.
    let text = format!(
        "SELECT {column} + interval '1 microsecond' FROM {table} ORDER BY {column} DESC OFFSET $1 LIMIT 1"
    );
    let row = client.query_opt(&text, &[&stay]).await?;
    Ok(row.map(|row| row.get(0)))
}
