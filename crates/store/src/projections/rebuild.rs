//! A rebuild: a second generation of the tables is filled from the journal while the first one lives, and takes its
//! place in one transaction.

use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;
use units::Sequence;

use super::source::{Filled, Progress, Source};
use super::{Part, Projector};
use crate::numbers::to_u64;
use crate::{Connection, Db, StoreError, journal as stored};

/// One rebuild or comparison at a time: "kxprojec" in ASCII.
const LOCK_KEY: i64 = 0x6b78_7072_6f6a_6563;

/// What a rebuild has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that is in use now.
    pub generation: String,
    /// The last journal row in it.
    pub sequence: Sequence,
}

/// Makes the projections anew from the journal's first row and puts them in the place of those in use, which are
/// dropped. Readers and the live projectors go on meanwhile.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when the journal itself cannot be followed, [`StoreError::Schema`] when another rebuild or
/// comparison is going on. What is in use stays in use then.
pub async fn rebuild(
    db: &Db,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Rebuilt, StoreError> {
    let mut control = lock(db).await?;
    let active = active(&control).await?;
    let number = active.rsplit('_').next().and_then(|number| number.parse::<u32>().ok());
    let generation = format!("projected_{}", number.unwrap_or(0) + 1);
    drop_generation(&mut control, &generation).await?;
    create(&mut control, &generation).await?;
    let mut projectors = Projector::of_generation(db, &generation);
    let mut show = |filled: Filled<'_>| on_progress(filled.progress);
    let mut source = Source::from_zero(db);
    loop {
        let head = stored::head(db).await?.map_or(Sequence::new(0), |(sequence, ..)| sequence);
        source = source.fill(&mut projectors.each_mut(), head, &mut show).await?;
        if swap(&mut control, &active, &generation, source.sequence()).await? {
            break;
        }
        // A live projector has passed us meanwhile; what it had, the journal has.
    }
    drop_generation(&mut control, &active).await?;
    Ok(Rebuilt { generation, sequence: source.sequence() })
}

/// Takes the one place there is for rebuilds and comparisons, for as long as the connection lives.
pub(super) async fn lock(db: &Db) -> Result<Connection, StoreError> {
    let connection = db.dedicated().await?;
    // Not at once refused: the connection of one that has just ended may still be on its way out.
    connection.batch_execute("SET lock_timeout = '5s'").await?;
    match connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let text = "another rebuild or comparison of the projections is going on";
            return Err(StoreError::Schema(text.to_owned()));
        }
        Err(error) => return Err(error.into()),
    }
    connection.batch_execute("SET lock_timeout = 0").await?;
    Ok(connection)
}

/// Returns the generation that is in use.
async fn active(connection: &Connection) -> Result<String, StoreError> {
    let text = "SELECT generation FROM projection_progress WHERE active";
    Ok(connection.query_one(text, &[]).await?.get(0))
}

/// Makes a generation's empty tables.
pub(super) async fn create(
    connection: &mut Connection,
    generation: &str,
) -> Result<(), StoreError> {
    let transaction = connection.transaction().await?;
    transaction.execute("SELECT projection_tables_create($1)", &[&generation]).await?;
    let parts = Part::ALL.map(Part::name);
    let text = "INSERT INTO projection_parts (generation, part) SELECT $1, part FROM unnest($2::text[]) part";
    transaction.execute(text, &[&generation, &parts.as_slice()]).await?;
    transaction.commit().await?;
    Ok(())
}

/// Drops a generation that is not in use, if it is there.
pub(super) async fn drop_generation(
    connection: &mut Connection,
    generation: &str,
) -> Result<(), StoreError> {
    let transaction = connection.transaction().await?;
    let text = "DELETE FROM projection_parts WHERE generation = $1 AND NOT active";
    transaction.execute(text, &[&generation]).await?;
    // The names are ours: `projected_` and a number or a word.
    transaction.batch_execute(&format!("DROP SCHEMA IF EXISTS {generation} CASCADE")).await?;
    transaction.commit().await?;
    Ok(())
}

/// Puts the new generation in the place of the old one, unless a part of the old one is ahead of it.
async fn swap(
    connection: &mut Connection,
    old: &str,
    new: &str,
    sequence: Sequence,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction().await?;
    // From here to the commit the live projectors wait; their next writes find the new generation.
    let old_sequence = locked_progress(&transaction, old).await?;
    if old_sequence > sequence {
        return Ok(false);
    }
    let activate = "UPDATE projection_parts SET active = $2 WHERE generation = $1";
    transaction.execute(activate, &[&old, &false]).await?;
    transaction.execute(activate, &[&new, &true]).await?;
    transaction.execute("SELECT projection_views_point($1)", &[&new]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Stops all parts where they are; returns the row of the one that is furthest.
async fn locked_progress(
    transaction: &Transaction<'_>,
    generation: &str,
) -> Result<Sequence, StoreError> {
    let text =
        "SELECT sequence FROM projection_parts WHERE generation = $1 ORDER BY part FOR UPDATE";
    let mut furthest = 0;
    for row in transaction.query(text, &[&generation]).await? {
        furthest = furthest.max(to_u64(row.get(0))?);
    }
    Ok(Sequence::new(furthest))
}
