//! What the online auditor reads: pieces of the projected balances at one journal row, and pieces of the journal.
//!
//! Invariant: it reads what stands there and judges nothing; of several processes one reads at a time, on a connection of
//! its own.

use tokio_postgres::IsolationLevel;
use units::{AccountId, AssetId, Hash32, Sequence};

use crate::journal::{COLUMNS, decode};
use crate::numbers::{hash, to_i64, to_u64};
use crate::{Connection, Db, Numeric, StoreError};

/// The key of the advisory lock of the one who audits: "kxonline" in ASCII.
const LOCK_KEY: i64 = 0x6b78_6f6e_6c69_6e65;
/// Nothing of the auditor's may take longer.
const STATEMENT_MAX: &str = "SET statement_timeout = '30s'";

/// A connection whose process is the one that audits.
#[derive(Debug)]
pub struct Auditor {
    connection: Connection,
}

/// A projected balance, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectedBalance {
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// What is free.
    pub available: Numeric,
    /// What is held.
    pub held: Numeric,
}

/// A piece of the projected balances.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The journal row that they are the balances of.
    pub sequence: Sequence,
    /// The balances, by account and asset.
    pub balances: Vec<ProjectedBalance>,
}

/// What a look at everything has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Assets that do not sum to zero.
    pub imbalances: u64,
    /// Balances below zero.
    pub negative_accounts: u64,
    /// Projected balances that are not the journal's.
    pub projection_differences: u64,
    /// Places where the journal's chain is broken, or the audit log's is not the one that the journal has noted.
    pub journal_breaks: u64,
    /// Balances compared.
    pub balances: u64,
    /// Journal rows checked.
    pub rows: u64,
}

impl Results {
    /// Tells whether everything is as it must be.
    #[must_use]
    pub fn are_clean(&self) -> bool {
        let found = [
            self.imbalances,
            self.negative_accounts,
            self.projection_differences,
            self.journal_breaks,
        ];
        found.iter().all(|count| *count == 0)
    }
}

impl Auditor {
    /// Becomes the one that audits; `None` while another process is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn hold(db: &Db) -> Result<Option<Self>, StoreError> {
        let connection = db.dedicated().await?;
        connection.batch_execute(STATEMENT_MAX).await?;
        let got = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY]).await?;
        Ok(got.get::<_, bool>(0).then_some(Self { connection }))
    }

    /// Returns the last account of the piece of so many balances that begins behind `after`; `None`: it is the last piece.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn piece_end(
        &self,
        after: Option<AccountId>,
        balances: i64,
    ) -> Result<Option<AccountId>, StoreError> {
        let text = "SELECT account_id FROM balances WHERE account_id > $1
            ORDER BY account_id, asset_id OFFSET $2 LIMIT 1";
        let found = self.connection.query_opt(text, &[&behind(after)?, &balances]).await?;
        found.map(|row| Ok(AccountId::new(to_u64(row.get(0))?))).transpose()
    }

    /// Reads the balances of the accounts behind `after`, up to and with `through`, and the row that they stand at, both of
    /// one moment.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn piece(
        &mut self,
        after: Option<AccountId>,
        through: Option<AccountId>,
    ) -> Result<Piece, StoreError> {
        let through = through.map_or(Ok(i64::MAX), |account| to_i64(account.get()))?;
        let transaction = self
            .connection
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let standing = "SELECT sequence FROM projection_parts WHERE part = 'money' AND active";
        let sequence = to_u64(transaction.query_one(standing, &[]).await?.get(0))?;
        let text = "SELECT account_id, asset_id, available, held FROM balances
            WHERE account_id > $1 AND account_id <= $2 ORDER BY account_id, asset_id";
        let rows = transaction.query(text, &[&behind(after)?, &through]).await?;
        transaction.commit().await?;
        let mut balances = Vec::with_capacity(rows.len());
        for row in &rows {
            let asset = u16::try_from(row.get::<_, i32>(1));
            balances.push(ProjectedBalance {
                account: AccountId::new(to_u64(row.get(0))?),
                asset: AssetId::new(asset.map_err(|_| {
                    StoreError::Corrupt("a balance of an asset that cannot be".to_owned())
                })?),
                available: row.get(2),
                held: row.get(3),
            });
        }
        Ok(Piece { sequence: Sequence::new(sequence), balances })
    }

    /// Returns the first and the last row that the journal has; `None` for an empty one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn journal_ends(&self) -> Result<Option<(Sequence, Sequence)>, StoreError> {
        let text = "SELECT min(sequence), max(sequence) FROM journal";
        let found = self.connection.query_one(text, &[]).await?;
        let (Some(first), Some(last)) = (found.get(0), found.get(1)) else { return Ok(None) };
        Ok(Some((Sequence::new(to_u64(first)?), Sequence::new(to_u64(last)?))))
    }

    /// Returns the journal's rows from one to another, those that are there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rows(
        &self,
        from: Sequence,
        through: Sequence,
    ) -> Result<Vec<::journal::Row>, StoreError> {
        let text = format!("{COLUMNS} WHERE sequence BETWEEN $1 AND $2 ORDER BY sequence");
        let ends = (to_i64(from.get())?, to_i64(through.get())?);
        let rows = self.connection.query(&text, &[&ends.0, &ends.1]).await?;
        rows.iter().map(decode).collect()
    }

    /// Returns the hash of a link of the audit log's chain; `None` where there is no such link.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_link(&self, position: u64) -> Result<Option<Hash32>, StoreError> {
        let text = "SELECT hash FROM audit_chain WHERE position = $1";
        let row = self.connection.query_opt(text, &[&to_i64(position)?]).await?;
        row.map(|row| hash(row.get(0))).transpose()
    }

    /// Says what a look at everything has come to.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn tell(&self, results: &Results) -> Result<(), StoreError> {
        let text = "INSERT INTO audit_results VALUES (true, clock_timestamp(), $1, $2, $3, $4, $5, $6)
            ON CONFLICT (one) DO UPDATE SET looked_at = excluded.looked_at, imbalances = excluded.imbalances,
                negative_accounts = excluded.negative_accounts,
                projection_differences = excluded.projection_differences,
                journal_breaks = excluded.journal_breaks, balances = excluded.balances,
                journal_rows = excluded.journal_rows";
        self.connection
            .execute(
                text,
                &[
                    &to_i64(results.imbalances)?,
                    &to_i64(results.negative_accounts)?,
                    &to_i64(results.projection_differences)?,
                    &to_i64(results.journal_breaks)?,
                    &to_i64(results.balances)?,
                    &to_i64(results.rows)?,
                ],
            )
            .await?;
        Ok(())
    }
}

fn behind(after: Option<AccountId>) -> Result<i64, StoreError> {
    after.map_or(Ok(-1), |account| to_i64(account.get()))
}
