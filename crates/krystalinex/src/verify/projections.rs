//! The projections, compared with the journal.

use store::Db;

use super::report::Report;

/// Compares.
///
/// # Errors
///
/// The database cannot be read.
pub async fn compare(_db: &Db, _report: &mut Report) -> anyhow::Result<()> {
    Ok(())
}
