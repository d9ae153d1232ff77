//! One connection that writes one generation, and where that generation stands.

use std::sync::Arc;

use journal::Applied;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};
use units::Sequence;

use super::rows::Rows;
use super::{sql, tables};
use crate::numbers::{to_i64, to_u64};
use crate::{Connection, Db, StoreError, Timestamp};

/// Every statement of a write, prepared.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) advance: Statement,
    pub(super) trades: Statement,
    pub(super) postings: Statement,
    pub(super) orders: Statement,
    pub(super) refused_orders: Statement,
    pub(super) balances: Statement,
    pub(super) accounts: Statement,
    pub(super) flags: Statement,
    pub(super) deposits: Statement,
    pub(super) refused_deposits: Statement,
    pub(super) transfers: Statement,
    pub(super) refused_transfers: Statement,
    pub(super) requests: Statement,
    pub(super) refused_requests: Statement,
    pub(super) withdrawal: Statement,
    pub(super) asset: Statement,
    pub(super) market: Statement,
    pub(super) market_state: Statement,
    pub(super) last_prices: Statement,
    pub(super) candles: Statement,
}

impl Statements {
    async fn prepare(on: &Connection) -> Result<Self, StoreError> {
        let with = |text: &str, ending: &str| format!("{text}{ending}");
        Ok(Self {
            advance: on.prepare(sql::ADVANCE).await?,
            trades: on.prepare(sql::TRADES).await?,
            postings: on.prepare(sql::POSTINGS).await?,
            orders: on.prepare(&with(sql::ORDERS, sql::ORDERS_LAST)).await?,
            refused_orders: on.prepare(&with(sql::ORDERS, sql::FIRST)).await?,
            balances: on.prepare(sql::BALANCES).await?,
            accounts: on.prepare(sql::ACCOUNTS).await?,
            flags: on.prepare(sql::FLAGS).await?,
            deposits: on.prepare(&with(sql::DEPOSITS, sql::DEPOSITS_LAST)).await?,
            refused_deposits: on.prepare(&with(sql::DEPOSITS, sql::FIRST)).await?,
            transfers: on.prepare(&with(sql::TRANSFERS, sql::TRANSFERS_LAST)).await?,
            refused_transfers: on.prepare(&with(sql::TRANSFERS, sql::FIRST)).await?,
            requests: on.prepare(&with(sql::REQUESTS, sql::REQUESTS_LAST)).await?,
            refused_requests: on.prepare(&with(sql::REQUESTS, sql::FIRST)).await?,
            withdrawal: on.prepare(sql::WITHDRAWAL).await?,
            asset: on.prepare(sql::ASSET).await?,
            market: on.prepare(sql::MARKET).await?,
            market_state: on.prepare(sql::MARKET_STATE).await?,
            last_prices: on.prepare(sql::LAST_PRICES).await?,
            candles: on.prepare(sql::CANDLES).await?,
        })
    }
}

/// A connection that writes one generation.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    statements: Statements,
    generation: String,
    /// Whether the generation must be the one in use for a write to count.
    in_use: bool,
    progress: Sequence,
}

/// A write's transaction, and its statements.
pub(super) struct Write<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) statements: &'a Statements,
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
    /// Opens a session for one generation, or for the one that is in use.
    pub(super) async fn open(db: &Db, generation: Option<&str>) -> Result<Self, StoreError> {
        let connection = db.dedicated().await?;
        let found = connection
            .query_opt(
                "SELECT generation, sequence FROM projection_progress
                 WHERE CASE WHEN $1::text IS NULL THEN active ELSE generation = $1 END",
                &[&generation],
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
        let statements = Statements::prepare(&connection).await?;
        let progress = Sequence::new(to_u64(sequence)?);
        let in_use = generation.is_none();
        Ok(Self { connection, statements, generation: name, in_use, progress })
    }

    pub(super) fn progress(&self) -> Sequence {
        self.progress
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Writes batches that follow the progress, in one transaction. False: somebody else has moved the progress, or
    /// another generation is in use, and nothing was written.
    pub(super) async fn write(&mut self, batches: &[Arc<Applied>]) -> Result<bool, StoreError> {
        let last = batches.last().expect("a write has batches");
        let rows = Rows::collect(batches.iter().map(Arc::as_ref));
        let transaction = self.connection.transaction().await?;
        let write = Write { transaction, statements: &self.statements };
        let (from, to) = (to_i64(self.progress.get())?, to_i64(last.batch.sequence.get())?);
        let advanced = write
            .execute(
                &write.statements.advance,
                &[
                    &self.generation,
                    &from,
                    &to,
                    &Timestamp(last.batch.time),
                    &last.hash.0.as_slice(),
                    &self.in_use,
                ],
            )
            .await?;
        if advanced == 0 {
            return Ok(false);
        }
        tables::write(&write, &rows).await?;
        write.transaction.commit().await?;
        self.progress = last.batch.sequence;
        Ok(true)
    }
}
