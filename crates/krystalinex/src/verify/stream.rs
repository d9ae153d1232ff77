//! The journal's rows as a stream: read from PostgreSQL on one side, checked and decoded on a thread in between, so
//! that both overlap with whoever follows.

use anyhow::Context;
use store::{Db, StoreError, journal};
use tokio::sync::mpsc;
use units::Sequence;

use super::journal_check::ReadRow;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 512;
/// Lots of rows that wait on each side of the thread.
const LOTS_WAITING_MAX: usize = 4;

/// Streams the rows after `after` up to the head as it is when it is reached.
///
/// # Errors
///
/// The thread cannot be started. Faults of the database come in the stream.
pub(crate) fn rows(
    db: &Db,
    after: Sequence,
) -> anyhow::Result<mpsc::Receiver<Result<Vec<ReadRow>, StoreError>>> {
    let (fetched_in, mut fetched) =
        mpsc::channel::<Result<Vec<::journal::Row>, StoreError>>(LOTS_WAITING_MAX);
    let (read_in, read) = mpsc::channel(LOTS_WAITING_MAX);
    let db = db.clone();
    tokio::spawn(async move {
        let mut after = after;
        loop {
            let rows = journal::rows_after(&db, after, ROWS_AT_ONCE).await;
            let last = match &rows {
                Ok(rows) => rows.last().map(|row| row.sequence),
                Err(_) => None,
            };
            let over = last.is_none();
            after = last.unwrap_or(after);
            if fetched_in.send(rows).await.is_err() || over {
                return;
            }
        }
    });
    std::thread::Builder::new()
        .name("kx-journal-read".to_owned())
        .spawn(move || {
            while let Some(rows) = fetched.blocking_recv() {
                let rows = rows.map(|rows| rows.iter().map(ReadRow::new).collect());
                if read_in.blocking_send(rows).is_err() {
                    return;
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(read)
}
