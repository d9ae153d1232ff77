//! Single rows and pages that the API reads from the projections, and what it asks the database about itself.

use crate::{Db, StoreError};

/// Returns what PostgreSQL promises when it says that a row is committed.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn durability(db: &Db) -> Result<String, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT current_setting('synchronous_commit') || CASE \
                 WHEN current_setting('synchronous_standby_names') = '' THEN ', no standby' \
                 ELSE ', standbys ' || current_setting('synchronous_standby_names') END",
        )
        .await?;
    Ok(client.query_one(&text, &[]).await?.get(0))
}
