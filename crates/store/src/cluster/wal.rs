//! The files of the write-ahead log, made before they are needed.
//!
//! A commit that needs a file which is not there waits until its 16 MiB are written and flushed: tens of milliseconds in
//! which no order is confirmed. PostgreSQL keeps files that it has used for later, but makes none ahead.

use std::time::Duration;

use crate::{DbConfig, StoreError};

/// How many files there are, and how many PostgreSQL keeps.
const COUNT: &str = "SELECT (SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'), \
    (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'min_wal_size') \
    / (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size')";
/// Goes on to another file. The record before it is needed: without one, PostgreSQL stays where it is.
const NEXT: &str =
    "SELECT pg_logical_emit_message(false, 'krystalinex', ''); SELECT pg_switch_wal()";

/// Makes as many files as the cluster keeps (`min_wal_size`), a file every `pace`, and returns how many were missing.
/// Whoever commits meanwhile waits for a file now and then, as without it. Nothing is done where there are enough already.
///
/// # Errors
///
/// The cluster does not answer, or the role may not (it has to be a superuser).
pub async fn make_ahead(config: &DbConfig, pace: Duration) -> Result<u64, StoreError> {
    let connection = config.connect().await?;
    let row = connection.query_one(COUNT, &[]).await?;
    let (there, kept): (i64, i64) = (row.get(0), row.get(1));
    let missing = u64::try_from(kept - there).unwrap_or(0);
    for _ in 0..missing {
        connection.batch_execute(NEXT).await?;
        tokio::time::sleep(pace).await;
    }
    if missing > 0 {
        // What lies behind is renamed to what lies ahead.
        connection.batch_execute("CHECKPOINT").await?;
    }
    Ok(missing)
}
