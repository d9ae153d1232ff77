//! The journal's bytes: rows of the hash chain, messages of the queue, snapshots.
//!
//! Invariant: what is decoded is what was encoded, or an error; never a guess and never a panic, whatever the
//! bytes are. Every length is checked before memory is taken for it, every value has one encoding alone, and bytes that are
//! left over are an error. The codecs are written by hand, field by field (`codec`), so that a change of a type in
//! the engine does not compile here until somebody has decided what it means for the format.
//!
//! Two numbers stand in every row. [`FORMAT`] is the version of the bytes: any change of the encoding raises it,
//! and a reader that meets a greater one stops. (As long as nothing has been released, an action or a record that is
//! new takes the next number in format 1: what was written before reads as before, and a reader that does not know the
//! number stops at it just so.) [`RULES`] is the version of the decisions: any change of what
//! [`engine::decide`] answers raises it, while the bytes may stay as they are.
//!
//! Format 1 in short:
//! - integers are little-endian base-128 varints, signed ones zigzag first; ids of 128 bits and hashes are fixed
//!   and big-endian; enums are one byte with the numbers listed in `codec`; an option is a byte 0 or 1;
//! - a row's payload is the length of its entries' bytes (4 bytes, big-endian) and one LZ4 block of them;
//! - a row's hash is SHA-256 of: previous hash, sequence, time, incarnation, epoch (8 bytes each), format, rules (2
//!   bytes each), commands (4 bytes), all big-endian, then the payload. PostgreSQL can check it: `sha256(previous_hash ||
//!   int8send(sequence) || int8send(time) || int8send(incarnation) || int8send(epoch) || int2send(format) ||
//!   int2send(rules) || int4send(commands) || payload)`;
//! - a snapshot is a series of chunks, each as a payload is; the state's hash is SHA-256 of the records' bytes.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::indexing_slicing
    )
)]

mod block;
mod codec;
mod message;
mod row;
mod snapshot;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod tests;

pub use codec::BadBytes;
pub use message::{BadMessage, MESSAGE_BYTES_MAX, Message};
pub use row::{Applied, BadRow, Batch, COMMANDS_MAX, Entry, Row, apply, read, row_hash, seal};
pub use snapshot::{BadSnapshot, CHUNK_BYTES_MAX, Snapshot, SnapshotReader};
pub use snapshot::{state_hash, write_snapshot};

/// The version of the bytes that this release writes, and the greatest that it reads.
pub const FORMAT: u16 = 1;

/// The version of the decisions that this release makes, and the greatest that it knows.
pub const RULES: u16 = 1;
