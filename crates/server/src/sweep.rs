//! Deletes the rows of commands that were answered 202 and are decided by now.

use std::time::Duration;

use crate::app::App;
use crate::problem::chain;

const EVERY: Duration = Duration::from_secs(30);

/// Sweeps for as long as the application lives. Several servers may: deleting twice is deleting once.
pub(crate) fn start(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(db) = inner.upgrade().map(|inner| inner.db.clone()) else { break };
            match store::lookup::sweep_pending(&db).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "pending commands were decided by now"),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot sweep pending commands now");
                }
            }
        }
    });
}
