//! Orders: placing, seeing, changing, cancelling; and their fills.
//!
//! Invariant: an answer to an order is rendered from what the journal says of it, so that a repeat of the request is
//! answered with the same body, whichever server it meets.

mod change;
pub(crate) mod cursor;
pub(crate) mod place;
mod read;
pub(crate) mod render;

use std::time::Duration;

use units::Sequence;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::edge::Context;
use crate::problem::{Code, Problem};

/// How long a read of the projections waits for a row.
const PROJECTION_WAIT: Duration = Duration::from_secs(1);
const PROJECTION_LOOK: Duration = Duration::from_millis(20);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(place::place, read::list, change::cancel_all))
        .routes(routes!(read::one, change::cancel, change::amend))
        .routes(routes!(read::fills))
}

/// Waits until the projections have a row; tells whether they have.
pub(crate) async fn wait_projected(app: &App, sequence: Sequence) -> bool {
    if app.live.projected() > Sequence::new(0) {
        return app.live.wait_projected(sequence, PROJECTION_WAIT).await;
    }
    // Another process writes them: ask the database, and let that process hurry.
    let until = tokio::time::Instant::now() + PROJECTION_WAIT;
    let mut told = false;
    loop {
        if store::lookup::projected(&app.db).await.is_ok_and(|projected| projected >= sequence) {
            return true;
        }
        told = told || store::lookup::want_projected(&app.db, sequence).await.is_ok();
        if tokio::time::Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(PROJECTION_LOOK).await;
    }
}

/// Waits until the projections have the row that a read asks for.
pub(crate) async fn min_projected(app: &App, context: &Context) -> Result<(), Problem> {
    match context.min_sequence {
        Some(sequence) if !wait_projected(app, sequence).await => Err(Problem::new(Code::Behind)),
        _ => Ok(()),
    }
}
