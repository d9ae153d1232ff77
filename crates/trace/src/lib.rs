//! Stage times of every request and command: noted on the hot path, packed, and turned into spans when they are read.
//!
//! Invariant: noting costs the hot path some clock readings and one push; it never waits and its memory is bounded.

pub mod anomaly;
mod build;
mod clock;
mod id;
mod latency;
mod record;
mod recorder;
mod span;
mod timing;
mod waterfall;

pub use build::{Names, ProjectionTiming, build, sequencer_spans, server_spans};
pub use clock::{Micros, Origin};
pub use id::{new_span_id, new_trace_id, span_id, time_of};
pub use latency::{Latency, Percentiles};
pub use record::{
    Decided, Outcome, Request, Sent, pack as pack_requests, unpack as unpack_requests,
};
pub use recorder::{BatchRecord, Noted, ProjectionRecord, Recorder};
pub use span::{Kind, Span, Value};
pub use timing::{BatchTiming, CommandTiming};
pub use waterfall::{Stage, Timed, stages};

/// Name of the server in traces.
pub const SERVER: &str = "kx-server";
/// Name of the payment processor in traces.
pub const PROCESSOR: &str = "kx-payment-processor";

/// Packs a value behind the version of its form.
fn pack<T: serde::Serialize>(version: u8, value: &T) -> Vec<u8> {
    // Writing into memory fails for no value of ours: lengths are known, and nothing is a map.
    postcard::to_extend(value, vec![version]).unwrap_or_default()
}

/// Reads a packed value; `None` where it is of another form, or has anything after its end.
fn unpack<T: for<'bytes> serde::Deserialize<'bytes>>(version: u8, bytes: &[u8]) -> Option<T> {
    let rest = bytes.strip_prefix(&[version])?;
    let (value, rest) = postcard::take_from_bytes(rest).ok()?;
    rest.is_empty().then_some(value)
}
