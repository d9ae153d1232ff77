//! Who writes which part of the projections.
//!
//! Invariant: a lease saves double work and nothing else. Two that write one part at once cannot harm it, because its
//! progress moves by compare-and-set.

use crate::projections::Part;
use crate::{Db, StoreError};

/// How long a lease lasts, and how long a process counts as living after it was seen, in seconds. Renew it several times
/// in that time.
pub const LEASE_SECONDS: u8 = 5;

/// Notes that a process lives, renews its leases, takes free ones up to its share of the parts among the living processes
/// of its role, and gives up what it has above that. Returns the parts that it holds from now on.
///
/// # Errors
///
/// [`StoreError`].
pub async fn renew(db: &Db, holder: &str, role: &str) -> Result<Vec<Part>, StoreError> {
    let client = db.get().await?;
    let text = "SELECT projection_leases_renew($1, $2, make_interval(secs => $3))";
    let statement = client.prepare_cached(text).await?;
    let found = client.query(&statement, &[&holder, &role, &f64::from(LEASE_SECONDS)]).await?;
    let part = |name: &str| {
        Part::of_name(name)
            .ok_or_else(|| StoreError::Corrupt(format!("a lease of no part: {name}")))
    };
    let mut held: Vec<Part> = found.iter().map(|row| part(row.get(0))).collect::<Result<_, _>>()?;
    held.sort();
    Ok(held)
}

/// Gives up all leases of a process that is about to end, and forgets it.
///
/// # Errors
///
/// [`StoreError`].
pub async fn release(db: &Db, holder: &str) -> Result<(), StoreError> {
    let client = db.get().await?;
    let text = "WITH gone AS (DELETE FROM processes WHERE id = $1)
        UPDATE projection_leases SET holder = NULL, until = '-infinity' WHERE holder = $1";
    client.execute(text, &[&holder]).await?;
    Ok(())
}
