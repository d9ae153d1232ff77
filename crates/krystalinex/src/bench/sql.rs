//! What the bench itself asks PostgreSQL. None of it is the exchange's: plain rows to compare with, and where the
//! processor time of the sessions goes.

use std::collections::BTreeMap;
use std::time::Duration;

use store::{Connection, Db, DbConfig};
use units::Sequence;

use super::machine;

/// Rows of given bytes, one transaction each, as plainly as it can be done.
pub(crate) struct Plain {
    connection: Connection,
    insert: tokio_postgres::Statement,
    next: i64,
}

impl Plain {
    /// Makes the table.
    ///
    /// # Errors
    ///
    /// The database does not take it.
    pub(crate) async fn new(db: &Db) -> anyhow::Result<Self> {
        let connection = db.dedicated().await?;
        connection
            .batch_execute(
                "CREATE TABLE plain_rows (id bigint PRIMARY KEY, payload bytea NOT NULL);
                 ALTER TABLE plain_rows ALTER COLUMN payload SET STORAGE EXTERNAL",
            )
            .await?;
        let insert =
            connection.prepare("INSERT INTO plain_rows (id, payload) VALUES ($1, $2)").await?;
        Ok(Self { connection, insert, next: 0 })
    }

    /// Inserts one row.
    ///
    /// # Errors
    ///
    /// The database does not take it.
    pub(crate) async fn insert(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.next += 1;
        self.connection.execute(&self.insert, &[&self.next, &payload]).await?;
        Ok(())
    }
}

/// The processor time that PostgreSQL's processes have used, by what they work for.
///
/// # Errors
///
/// The database does not answer.
pub(crate) async fn times(
    config: &DbConfig,
    postmaster: u32,
) -> anyhow::Result<BTreeMap<String, Duration>> {
    let connection = config.connect().await?;
    let text =
        "SELECT pid, coalesce(nullif(application_name, ''), backend_type) FROM pg_stat_activity";
    let names: BTreeMap<u32, String> = connection
        .query(text, &[])
        .await?
        .iter()
        .filter_map(|row| Some((u32::try_from(row.get::<_, i32>(0)).ok()?, row.get(1))))
        .collect();
    let mut times = BTreeMap::new();
    for child in machine::children(postmaster) {
        let name = names.get(&child).cloned().unwrap_or_else(|| "other".to_owned());
        *times.entry(name).or_default() += machine::process_time(child);
    }
    Ok(times)
}

/// Returns the last journal row that is projected.
///
/// # Errors
///
/// The database does not answer.
pub(crate) async fn projected(db: &Db) -> anyhow::Result<Sequence> {
    let client = db.get().await?;
    let text = "SELECT sequence FROM projection_progress WHERE active";
    let statement = client.prepare_cached(text).await?;
    let sequence: i64 = client.query_one(&statement, &[]).await?.get(0);
    Ok(Sequence::new(u64::try_from(sequence)?))
}

/// Returns how many commands the journal has after a row.
///
/// # Errors
///
/// The database does not answer.
pub(crate) async fn commands_after(db: &Db, row: Sequence) -> anyhow::Result<u64> {
    let client = db.get().await?;
    let text = "SELECT coalesce(sum(commands), 0)::bigint FROM journal WHERE sequence > $1";
    let after = i64::try_from(row.get())?;
    let commands: i64 = client.query_one(text, &[&after]).await?.get(0);
    Ok(u64::try_from(commands)?)
}
