//! Logs and metrics: JSON lines on standard output, and one registry of metric names.
//!
//! Invariant: every metric has its name, help and labels in [`Metric`] and nowhere else, and every label's values are
//! bounded, so that no request can make memory or a dashboard grow without limit.

mod log;
mod metrics;
mod panic;

pub use log::{LogFormat, init, json_time};
pub use metrics::{
    Kind, Metric, add, add_labelled, http_request, observe, observe_labelled, render, set,
    set_labelled, values,
};
pub use panic::install_panic_hook;
