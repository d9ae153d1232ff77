//! The comparison: every projection against what the journal says, row by row, whatever the size.
//!
//! What the journal says is written to tables of its own, which are dropped afterwards; both sides are then read in
//! the order of their keys and merged. The live side is read from one snapshot of the database, so it may go on.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};
use units::{Hash32, Sequence};

use super::rebuild::{create, drop_generation, lock};
use super::source::{Filled, Progress, Source};
use super::{Part, Projector};
use crate::numbers::{hash, to_u64};
use crate::{Connection, Db, StoreError};

/// Where the expected rows are written.
const EXPECTED: &str = "projected_verify";

/// A table and the columns that its rows are told apart by.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
}

const TABLES: &[Table] = &[
    Table { name: "assets", key: &["id"] },
    Table { name: "markets", key: &["id"] },
    Table { name: "accounts", key: &["id"] },
    Table { name: "balances", key: &["account_id", "asset_id"] },
    Table { name: "orders", key: &["id"] },
    Table { name: "trades", key: &["market_id", "trade_id"] },
    Table { name: "postings", key: &["sequence", "posting"] },
    Table { name: "deposits", key: &["id"] },
    Table { name: "transfers", key: &["id"] },
    Table { name: "withdrawals", key: &["id"] },
    Table { name: "market_candles", key: &["market_id", "interval_seconds", "open_time"] },
];

/// The first row of a projection that is not what the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The projection.
    pub table: String,
    /// The row: its key's columns and values.
    pub key: String,
    /// The column; `None` where the row as a whole is missing or too many.
    pub column: Option<String>,
    /// What the journal says; `None`: NULL, or no such row.
    pub expected: Option<String>,
    /// What stands there; `None`: NULL, or no such row.
    pub found: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, key, column, expected, found } = self;
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
        match (column, found) {
            (Some(column), found) => {
                let (expected, found) = (text(expected), text(found));
                write!(f, "{table} {key}: {column} is {found}, the journal says {expected}")
            }
            (None, None) => write!(f, "{table} {key}: the row is missing"),
            (None, Some(_)) => write!(f, "{table} {key}: the journal knows no such row"),
        }
    }
}

/// What a comparison has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The last journal row in all of the projections.
    pub sequence: Sequence,
    /// How many rows were compared.
    pub rows: u64,
    /// The first difference of each projection that has one.
    pub differences: Vec<Difference>,
}

/// Compares every projection with what the journal says up to the progress of its part.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when the journal itself cannot be followed, or is not the one that was projected;
/// [`StoreError::Schema`] when another comparison or a rebuild is going on.
pub async fn compare(
    db: &Db,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Compared, StoreError> {
    let mut control = lock(db).await?;
    let mut live = db.dedicated().await?;
    let snapshot = live
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let active = "SELECT generation FROM projection_progress WHERE active";
    let generation: String = snapshot.query_one(active, &[]).await?.get(0);
    let standings = standings(&snapshot, &generation).await?;
    drop_generation(&mut control, EXPECTED).await?;
    create(&mut control, EXPECTED).await?;
    lighten(&control).await?;
    let sequence = fill(db, &standings, on_progress).await?;
    let filled = self::standings(&*control, EXPECTED).await?;
    for (standing, filled) in standings.iter().zip(&filled) {
        if (standing.sequence, standing.hash) != (filled.sequence, filled.hash) {
            return Err(StoreError::Corrupt(format!(
                "the projections ({}) stand on a journal row {} with the hash {}, and the journal has row {} with the \
                 hash {}",
                standing.part, standing.sequence, standing.hash, filled.sequence, filled.hash
            )));
        }
    }
    let mut compared = Compared { sequence, rows: 0, differences: Vec::new() };
    for table in TABLES {
        let difference =
            compare_table(&snapshot, &control, &generation, table, &mut compared.rows).await?;
        compared.differences.extend(difference);
    }
    snapshot.commit().await?;
    drop_generation(&mut control, EXPECTED).await?;
    Ok(compared)
}

/// Where a part stands.
struct Standing {
    part: Part,
    sequence: Sequence,
    hash: Hash32,
}

/// Returns where the parts of a generation stand, in the order of [`Part::ALL`].
async fn standings(
    client: &impl GenericClient,
    generation: &str,
) -> Result<Vec<Standing>, StoreError> {
    let text = "SELECT sequence, hash FROM projection_parts WHERE generation = $1 AND part = $2";
    let mut standings = Vec::new();
    for part in Part::ALL {
        let found = client.query_one(text, &[&generation, &part.name()]).await?;
        let sequence = Sequence::new(to_u64(found.get(0))?);
        standings.push(Standing { part, sequence, hash: hash(found.get(1))? });
    }
    Ok(standings)
}

/// Writes what the journal says, each part up to where it stands: from the slowest to the furthest, those that have
/// arrived are left out. Returns where the slowest stands.
async fn fill(
    db: &Db,
    standings: &[Standing],
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Sequence, StoreError> {
    let mut projectors = Projector::of_generation(db, EXPECTED);
    let until = |projector: &Projector| {
        let standing = standings.iter().find(|standing| standing.part == projector.part());
        standing.map_or(Sequence::new(0), |standing| standing.sequence)
    };
    projectors.sort_by_key(until);
    let slowest = until(&projectors[0]);
    let furthest = projectors.last().map_or(slowest, until);
    let mut show = |filled: Filled<'_>| on_progress(Progress { goal: furthest, ..filled.progress });
    let mut source = Source::from_zero(db);
    for arrived in 0..projectors.len() {
        let next = until(&projectors[arrived]);
        let mut others: Vec<_> = projectors[arrived..].iter_mut().collect();
        source = source.fill(&mut others, next, &mut show).await?;
    }
    Ok(slowest)
}

/// Takes from the expected tables what only costs time: the write-ahead log, and the indexes that no key needs.
async fn lighten(connection: &Connection) -> Result<(), StoreError> {
    let text = format!(
        "DO $$ DECLARE each record; BEGIN
            FOR each IN SELECT tablename FROM pg_tables WHERE schemaname = '{EXPECTED}' LOOP
                EXECUTE format('ALTER TABLE {EXPECTED}.%I SET UNLOGGED', each.tablename);
            END LOOP;
            FOR each IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE c.relnamespace = '{EXPECTED}'::regnamespace AND NOT i.indisunique LOOP
                EXECUTE format('DROP INDEX {EXPECTED}.%I', each.relname);
            END LOOP;
        END $$"
    );
    Ok(connection.batch_execute(&text).await?)
}

/// A table's rows on their way, in the order of its key.
type Rows = Pin<Box<dyn Stream<Item = Result<Row, Error>> + Send>>;

/// Merges the two sides of one table.
async fn compare_table(
    live: &Transaction<'_>,
    expected: &Client,
    generation: &str,
    table: &Table,
    rows: &mut u64,
) -> Result<Option<Difference>, StoreError> {
    let columns = columns(expected, table.name).await?;
    let select = |schema: &str| select(schema, table, &columns);
    let none: [&str; 0] = [];
    let mut found: Rows = Box::pin(live.query_raw(&select(generation), none).await?);
    let mut wanted: Rows = Box::pin(expected.query_raw(&select(EXPECTED), none).await?);
    let (mut left, mut right) = (next(&mut wanted).await?, next(&mut found).await?);
    loop {
        *rows += 1;
        let (missing, extra) = match (&left, &right) {
            (None, None) => return Ok(None),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(wanted), Some(found)) => {
                let (wanted, found): (&str, &str) = (wanted.get(0), found.get(0));
                (wanted < found, wanted > found)
            }
        };
        if missing || extra {
            let row = if missing { &left } else { &right };
            let key = name(row.as_ref().expect("one side has the row"), table, &columns);
            let whole = |present: bool| present.then(|| "a row".to_owned());
            return Ok(Some(Difference {
                table: table.name.to_owned(),
                key,
                column: None,
                expected: whole(missing),
                found: whole(extra),
            }));
        }
        let (wanted_row, found_row) =
            (left.expect("both are there"), right.expect("both are there"));
        for (at, column) in columns.iter().enumerate() {
            let (expected, found): (Option<&str>, Option<&str>) =
                (wanted_row.get(at + 1), found_row.get(at + 1));
            if expected != found {
                return Ok(Some(Difference {
                    table: table.name.to_owned(),
                    key: name(&wanted_row, table, &columns),
                    column: Some(column.clone()),
                    expected: expected.map(str::to_owned),
                    found: found.map(str::to_owned),
                }));
            }
        }
        (left, right) = (next(&mut wanted).await?, next(&mut found).await?);
    }
}

async fn next(rows: &mut Rows) -> Result<Option<Row>, StoreError> {
    Ok(rows.next().await.transpose()?)
}

async fn columns(client: &Client, table: &str) -> Result<Vec<String>, StoreError> {
    let text = "SELECT column_name::text FROM information_schema.columns
        WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position";
    let found = client.query(text, &[&EXPECTED, &table]).await?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// Everything as text, the key first in a form that sorts as PostgreSQL sorts the key itself. The names are our own
/// schema's.
fn select(schema: &str, table: &Table, columns: &[String]) -> String {
    let sortable = table.key.iter().map(|column| match *column {
        "id" if matches!(table.name, "orders" | "deposits" | "transfers" | "withdrawals") => {
            "id::text".to_owned()
        }
        "open_time" => {
            "lpad((extract(epoch FROM open_time) * 1000000)::bigint::text, 20, '0')".to_owned()
        }
        column => format!("lpad({column}::text, 20, '0')"),
    });
    let sortable = sortable.collect::<Vec<_>>().join(" || '/' || ");
    let texts: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
    let (texts, order) = (texts.join(", "), table.key.join(", "));
    format!("SELECT {sortable}, {texts} FROM {schema}.{} ORDER BY {order}", table.name)
}

/// Names a row by its key.
fn name(row: &Row, table: &Table, columns: &[String]) -> String {
    let parts = table.key.iter().map(|key| {
        let at = columns.iter().position(|column| column == key).map_or(0, |at| at + 1);
        let value: Option<&str> = row.get(at);
        format!("{key} = {}", value.unwrap_or("NULL"))
    });
    parts.collect::<Vec<_>>().join(", ")
}
