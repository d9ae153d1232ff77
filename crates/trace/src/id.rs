//! Ids of traces and spans.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::clock::first_eight;

/// Makes a trace id that begins with the time: 48 bits of milliseconds since 1970, then 80 random bits. So what belongs to
/// it is found by time, without an index of its own; W3C asks for randomness in the last 56 bits only.
#[must_use]
pub fn new_trace_id() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let random = rand::random::<u128>() & ((1 << 80) - 1);
    ((now & ((1 << 48) - 1)) << 80 | random).max(1)
}

/// Returns the milliseconds since 1970 with which a trace id of ours begins. One from elsewhere begins with anything.
#[must_use]
pub fn time_of(trace_id: u128) -> u64 {
    u64::try_from(trace_id >> 80).unwrap_or(0)
}

/// Makes a span id that nothing else knows.
#[must_use]
pub fn new_span_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// Returns the id of a span that two processes must name alike without telling each other: of one command, by its name.
#[must_use]
pub fn span_id(trace_id: u128, command: u128, name: &str) -> u64 {
    let mut digest = Sha256::new();
    digest.update(trace_id.to_be_bytes());
    digest.update(command.to_be_bytes());
    digest.update(name.as_bytes());
    first_eight(&digest.finalize()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_of_ours_begins_with_the_time() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let (a, b) = (new_trace_id(), new_trace_id());
        assert_ne!(a, b);
        assert!(u128::from(time_of(a)).abs_diff(now) < 60_000);
    }

    #[test]
    fn a_span_is_named_by_its_trace_its_command_and_its_name() {
        let id = span_id(1, 2, "publish");
        assert_eq!(id, span_id(1, 2, "publish"));
        for other in [span_id(2, 2, "publish"), span_id(1, 3, "publish"), span_id(1, 2, "append")] {
            assert_ne!(id, other);
        }
    }
}
