//! What is unusual: how long each stage of each operation takes lately, and what is far from it.
//!
//! Invariant: nothing here has a clock, waits, or draws lots. Minutes are handed in, so that a test can live through a day
//! in a second, and the same requests in the same minutes find the same anomalies.

mod baseline;
mod context;
mod detector;
mod explain;
mod severity;
mod sketch;

pub use baseline::{Baseline, Figures, WARM_UP, Welford, Window};
pub use context::{ContextRow, Finding, SIGNALS, Signal, Source, findings};
pub use detector::{Anomaly, Detector, Ended, News, OPERATIONS_MAX, Saved, operation};
pub use explain::{Explained, Explanation, Known, Whole, explain, took};
pub use severity::{SEVERITIES, severity};
pub use sketch::Sketch;

use crate::waterfall::Stage;

/// What is measured of an operation: one stage, or the whole from request to answer.
pub type Part = Option<Stage>;

/// Returns the name of a part; the whole is `total`.
#[must_use]
pub fn part_name(part: Part) -> &'static str {
    part.map_or("total", Stage::name)
}

/// Finds a part by its name.
#[must_use]
pub fn part_of(name: &str) -> Option<Part> {
    match Stage::ALL.iter().find(|stage| stage.name() == name) {
        Some(stage) => Some(Some(*stage)),
        None => (name == "total").then_some(None),
    }
}
