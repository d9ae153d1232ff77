//! Logs and metrics: JSON lines on standard output, and one registry of metric names.
//!
//! Invariant: every metric has its name, help and labels in [`Metric`] and nowhere else, and every label's values are
//! bounded, so that no request can make memory or a dashboard grow without limit.

mod log;
mod metrics;
mod panic;

pub use log::{LogFormat, init, json_time};
pub use metrics::{
    Buckets, Handle, Kind, Metric, Reading, add, add_labelled, buckets, count, http_request,
    observe, observe_labelled, observe_size, render, set, set_count, set_count_labelled,
    set_labelled, set_total, total, value, value_labelled, values,
};
pub use panic::install_panic_hook;
