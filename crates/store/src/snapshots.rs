//! Snapshots of the state, in chunks.
//!
//! Invariant: a snapshot is seen only when all of its chunks are there, and used only when its hash is right; else an
//! older one and more of the journal do.

use futures::TryStreamExt;
use tokio_postgres::Row as SqlRow;
use units::{Sequence, Time};
use uuid::Uuid;

use crate::numbers::{bits_to_i64, hash, i64_to_bits, to_i64, to_u64};
use crate::{Connection, Db, StoreError};

const COLUMNS: &str = "
    SELECT id, sequence, time, incarnation, journal_hash, state_hash, format, chunks, bytes
    FROM snapshots";

/// A snapshot as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its chunks' key.
    pub id: Uuid,
    /// What it is a snapshot of.
    pub snapshot: ::journal::Snapshot,
    /// How many chunks it has.
    pub chunks: u32,
    /// How many bytes they have together.
    pub bytes: u64,
}

/// One taker of snapshots at a time: "kxsnapsh" in ASCII.
const LOCK_KEY: i64 = 0x6b78_736e_6170_7368;

/// The one place there is for who takes a snapshot while others could too. Dropping it gives it up.
#[derive(Debug)]
pub struct Turn {
    _connection: Connection,
}

/// Takes the one place there is for taking a snapshot; `None`: somebody else is taking one.
///
/// # Errors
///
/// [`StoreError`].
pub async fn try_turn(db: &Db) -> Result<Option<Turn>, StoreError> {
    let connection = db.dedicated().await?;
    let text = "SELECT pg_try_advisory_lock($1)";
    let mine: bool = connection.query_one(text, &[&LOCK_KEY]).await?.get(0);
    Ok(mine.then_some(Turn { _connection: connection }))
}

/// Returns how many rows, with how many commands, the journal has after the newest snapshot.
///
/// # Errors
///
/// [`StoreError`].
pub async fn journal_since(db: &Db) -> Result<(u64, u64), StoreError> {
    let client = db.get().await?;
    let text = "SELECT count(*), coalesce(sum(commands), 0)::bigint FROM journal
        WHERE sequence > (SELECT coalesce(max(sequence), 0) FROM snapshots)";
    let found = client.query_one(text, &[]).await?;
    Ok((to_u64(found.get(0))?, to_u64(found.get(1))?))
}

/// Writes one snapshot, chunk by chunk, so that it never is in memory as a whole.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    id: Uuid,
    chunks: i32,
    bytes: i64,
}

impl Writer {
    /// Begins a snapshot.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn begin(db: &Db) -> Result<Self, StoreError> {
        let connection = db.dedicated().await?;
        Ok(Self { connection, id: Uuid::new_v4(), chunks: 0, bytes: 0 })
    }

    /// Writes the next chunk.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the snapshot is given up then and never seen.
    pub async fn push(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT INTO snapshot_chunks (snapshot, chunk, data) VALUES ($1, $2, $3)",
                &[&self.id, &self.chunks, &chunk],
            )
            .await?;
        self.chunks += 1;
        self.bytes += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Makes the snapshot visible.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the snapshot is not seen then.
    pub async fn finish(self, snapshot: &::journal::Snapshot) -> Result<Uuid, StoreError> {
        let format = i16::try_from(snapshot.format)
            .map_err(|_| StoreError::Corrupt(format!("no format {}", snapshot.format)))?;
        self.connection
            .execute(
                "INSERT INTO snapshots
                    (id, sequence, time, incarnation, journal_hash, state_hash, format, chunks, bytes)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                &[
                    &self.id,
                    &to_i64(snapshot.sequence.get())?,
                    &to_i64(snapshot.time.micros())?,
                    &bits_to_i64(snapshot.incarnation),
                    &snapshot.journal_hash.0.as_slice(),
                    &snapshot.state_hash.0.as_slice(),
                    &format,
                    &self.chunks,
                    &self.bytes,
                ],
            )
            .await?;
        Ok(self.id)
    }
}

/// Writes a snapshot whose chunks are all there already.
///
/// # Errors
///
/// [`StoreError`].
pub async fn save(
    db: &Db,
    snapshot: &::journal::Snapshot,
    chunks: &[Vec<u8>],
) -> Result<Uuid, StoreError> {
    let mut writer = Writer::begin(db).await?;
    for chunk in chunks {
        writer.push(chunk).await?;
    }
    writer.finish(snapshot).await
}

/// Returns every snapshot at or before `sequence`, newest first.
///
/// # Errors
///
/// [`StoreError`].
pub async fn list(db: &Db, sequence: Option<Sequence>) -> Result<Vec<Stored>, StoreError> {
    let bound = sequence.map_or(Ok(i64::MAX), |sequence| to_i64(sequence.get()))?;
    let client = db.get().await?;
    let text = format!("{COLUMNS} WHERE sequence <= $1 ORDER BY sequence DESC, created_at DESC");
    let found = client.query(&text, &[&bound]).await?;
    found.iter().map(decode).collect()
}

/// Returns the newest snapshot at or before `sequence`, unread.
///
/// # Errors
///
/// [`StoreError`].
pub async fn newest_at_or_before(
    db: &Db,
    sequence: Sequence,
) -> Result<Option<Stored>, StoreError> {
    Ok(list(db, Some(sequence)).await?.into_iter().next())
}

/// Reads a snapshot's state.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when its format is unknown, a chunk is missing or changed, its hash is another one, or the
/// journal's row that it stands on is not the one it names.
pub async fn load(db: &Db, stored: &Stored) -> Result<engine::State, StoreError> {
    let Stored { id, snapshot, chunks, .. } = stored;
    let corrupt = |what: String| {
        StoreError::Corrupt(format!("the snapshot at row {} is refused: {what}", snapshot.sequence))
    };
    if snapshot.format != ::journal::FORMAT {
        return Err(corrupt(format!("its format is {}", snapshot.format)));
    }
    // The row may be gone with an archived partition; one that is there must be the one.
    if let Some(row) = crate::journal::row(db, snapshot.sequence).await?
        && row.hash != snapshot.journal_hash
    {
        return Err(corrupt("the journal's row there has another hash".to_owned()));
    }
    let connection = db.dedicated().await?;
    let text = "SELECT chunk, data FROM snapshot_chunks WHERE snapshot = $1 ORDER BY chunk";
    let mut found = Box::pin(connection.query_raw(text, [id]).await?);
    let mut reader = ::journal::SnapshotReader::new();
    let mut count = 0_u32;
    while let Some(row) = found.try_next().await? {
        let chunk: i32 = row.get(0);
        if u32::try_from(chunk) != Ok(count) {
            return Err(corrupt(format!("chunk {count} is missing")));
        }
        reader.push_chunk(row.get(1)).map_err(|error| corrupt(error.to_string()))?;
        count += 1;
    }
    if count != *chunks {
        return Err(corrupt(format!("it has {count} chunks of {chunks}")));
    }
    reader.finish(snapshot.state_hash).map_err(|error| corrupt(error.to_string()))
}

/// Reads the newest snapshot at or before `sequence` that is whole: one that is refused is logged, and the next older
/// one is tried. `None`: begin with nothing.
///
/// # Errors
///
/// [`StoreError`], for everything but a snapshot that is refused.
pub async fn load_newest(
    db: &Db,
    sequence: Option<Sequence>,
) -> Result<Option<(::journal::Snapshot, engine::State)>, StoreError> {
    for stored in list(db, sequence).await? {
        match load(db, &stored).await {
            Ok(state) => return Ok(Some((stored.snapshot, state))),
            Err(StoreError::Corrupt(what)) => tracing::error!(%what, "an older snapshot is tried"),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Removes all but the newest `keep` snapshots, and the chunks of those that were never finished. Returns how many
/// snapshots went.
///
/// # Errors
///
/// [`StoreError`].
pub async fn prune(db: &Db, keep: u32) -> Result<u64, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let removed = transaction
        .execute(
            "DELETE FROM snapshots WHERE id NOT IN
                (SELECT id FROM snapshots ORDER BY sequence DESC, created_at DESC LIMIT $1)",
            &[&i64::from(keep)],
        )
        .await?;
    // One that is being written now has chunks and no row yet; an hour is longer than any takes.
    transaction
        .execute(
            "DELETE FROM snapshot_chunks c
             WHERE NOT EXISTS (SELECT FROM snapshots s WHERE s.id = c.snapshot)
               AND (c.created_at < clock_timestamp() - interval '1 hour'
                    OR c.created_at < (SELECT min(created_at) FROM snapshots))",
            &[],
        )
        .await?;
    transaction.commit().await?;
    Ok(removed)
}

fn decode(row: &SqlRow) -> Result<Stored, StoreError> {
    let count = |number: i32| {
        u32::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} chunks")))
    };
    let format: i16 = row.get(6);
    Ok(Stored {
        id: row.get(0),
        snapshot: ::journal::Snapshot {
            sequence: Sequence::new(to_u64(row.get(1))?),
            time: Time::from_micros(to_u64(row.get(2))?),
            incarnation: i64_to_bits(row.get(3)),
            journal_hash: hash(row.get(4))?,
            state_hash: hash(row.get(5))?,
            format: u16::try_from(format)
                .map_err(|_| StoreError::Corrupt(format!("no format {format}")))?,
        },
        chunks: count(row.get(7))?,
        bytes: to_u64(row.get(8))?,
    })
}
