//! The projections, row by row, against what the journal says of them.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use store::projections::Progress;
use store::{Db, StoreError};

use super::report::{Area, Report};

/// Compares every projection up to the row that the projections have.
///
/// # Errors
///
/// The database cannot be read, or another comparison or a rebuild is going on.
pub(crate) async fn compare(db: &Db, report: &mut Report) -> anyhow::Result<()> {
    let bar = ProgressBar::new(0).with_message("tables");
    let style = "{msg:9} {wide_bar} row {pos} of {len} eta {eta}";
    let bar = match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let mut on_progress = |progress: Progress| {
        bar.set_length(progress.goal.get());
        bar.set_position(progress.done.get());
    };
    let compared = store::projections::compare(db, &mut on_progress).await;
    bar.finish_and_clear();
    match compared {
        Ok(compared) => {
            report.counted(Area::Projections, compared.rows);
            for difference in compared.differences {
                report.fault(Area::Projection(difference.table.clone()), difference.to_string());
            }
        }
        // The journal has its own fault then, or is not the one that was projected.
        Err(StoreError::Corrupt(text)) => report.fault(Area::Projections, text),
        Err(error) => return Err(error).context("the projections cannot be compared"),
    }
    Ok(())
}
