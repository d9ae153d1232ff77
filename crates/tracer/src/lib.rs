//! Traces at rest and on the way out: the built-in store, Jaeger's query API with a plain page, and OTLP, in and out.
//!
//! Invariant: nothing here is on an order's way. What it reads was noted in memory, bounded; a store or a collector that
//! is away costs traces, which are counted, and nothing else.

mod explain;
mod export;
mod find;
mod jaeger;
mod otlp;
mod page;
mod watch;
mod writer;

pub use explain::explain;
pub use export::{Endpoint, Exporter, Protocol};
pub use find::{Query, find, search};
pub use jaeger::router as jaeger_router;
pub use otlp::router as otlp_router;
pub use watch::{Process, Watch};
pub use writer::{Settings, write};

/// Writes a trace's id as the W3C does: 32 hexadecimal digits.
#[must_use]
pub fn format_trace_id(trace_id: u128) -> String {
    format!("{trace_id:032x}")
}

/// Reads a trace's id: up to 32 hexadecimal digits, leading zeros may be missing, as in Jaeger's addresses.
#[must_use]
pub fn parse_trace_id(text: &str) -> Option<u128> {
    let digits =
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().filter(|id| *id != 0)
}
