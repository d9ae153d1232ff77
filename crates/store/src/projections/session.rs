//! One connection that writes one part of one generation, and where that part stands.

use std::sync::Arc;

use journal::Applied;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};
use units::{Hash32, Sequence};

use super::rows::Rows;
use super::tables::{self, Statements};
use super::{Part, sql};
use crate::numbers::{hash, to_i64, to_u64};
use crate::{Connection, Db, StoreError, Timestamp};

/// A connection that writes one part of one generation.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    advance: Statement,
    statements: Statements,
    part: Part,
    generation: String,
    /// Whether the generation must be the one in use for a write to count.
    in_use: bool,
    progress: Sequence,
    /// The hash of the row that the progress stands on.
    hash: Hash32,
}

/// A write's transaction.
pub(super) struct Write<'a> {
    pub(super) transaction: Transaction<'a>,
}

impl Write<'_> {
    pub(super) async fn execute(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        Ok(self.transaction.execute(statement, parameters).await?)
    }
}

impl Session {
    /// Opens a session for a part of one generation, or of the one that is in use.
    pub(super) async fn open(
        db: &Db,
        part: Part,
        generation: Option<&str>,
    ) -> Result<Self, StoreError> {
        let connection = db.dedicated().await?;
        let found = connection
            .query_opt(
                "SELECT generation, sequence, hash FROM projection_parts
                 WHERE part = $2 AND CASE WHEN $1::text IS NULL THEN active ELSE generation = $1 END",
                &[&generation, &part.name()],
            )
            .await?
            .ok_or_else(|| StoreError::Schema("there are no projections to write".to_owned()))?;
        let (name, sequence): (String, i64) = (found.get(0), found.get(1));
        // Commits wait for the disk: a writer that goes on after a crash of the database alone has nothing left in its
        // hands from before it, so the progress must never fall back under it.
        connection
            .query_one(
                "SELECT set_config('search_path', quote_ident($1) || ', public', false)",
                &[&name],
            )
            .await?;
        // Each row is found by its key. A plan that was made while a table was small must not be one that reads all of it.
        connection
            .batch_execute(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
            )
            .await?;
        let advance = connection.prepare(sql::ADVANCE).await?;
        let statements = Statements::prepare(&connection, part).await?;
        let progress = Sequence::new(to_u64(sequence)?);
        let hash = hash(found.get(2))?;
        let in_use = generation.is_none();
        Ok(Self { connection, advance, statements, part, generation: name, in_use, progress, hash })
    }

    pub(super) fn progress(&self) -> Sequence {
        self.progress
    }

    /// Returns the hash of the row that the progress stands on.
    pub(super) fn hash(&self) -> Hash32 {
        self.hash
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Writes batches that follow the progress, in one transaction. False: somebody else has moved the progress, or
    /// another generation is in use, and nothing was written.
    pub(super) async fn write(&mut self, batches: &[Arc<Applied>]) -> Result<bool, StoreError> {
        let last = batches.last().expect("a write has batches");
        let rows = Rows::collect(self.part, batches.iter().map(Arc::as_ref));
        let transaction = self.connection.transaction().await?;
        let write = Write { transaction };
        let (from, to) = (to_i64(self.progress.get())?, to_i64(last.batch.sequence.get())?);
        let advanced = write
            .execute(
                &self.advance,
                &[
                    &self.generation,
                    &from,
                    &to,
                    &Timestamp(last.batch.time),
                    &last.hash.0.as_slice(),
                    &self.in_use,
                    &self.part.name(),
                ],
            )
            .await?;
        if advanced == 0 {
            return Ok(false);
        }
        tables::write(&write, &self.statements, &rows).await?;
        write.transaction.commit().await?;
        self.progress = last.batch.sequence;
        self.hash = last.hash;
        Ok(true)
    }
}
