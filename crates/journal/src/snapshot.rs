//! Snapshots: a state's records in compressed chunks, written and read as a stream.
//!
//! Invariant: neither side ever has more than one chunk of records beside the state itself, and no state comes out whose
//! hash is not the one that was asked for.

use engine::{State, StateBuilder};
use sha2::{Digest, Sha256};
use units::{Hash32, Sequence, Time};

use crate::FORMAT;
use crate::block;
use crate::codec::{BadBytes, Code, Reader, Writer};

/// The most bytes of one chunk, compressed or not.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// A chunk is closed with the record that takes it here. What LZ4 adds to bytes that it cannot compress is a tenth at
/// most, and a record is smaller than 2 KiB, so the chunk stays below [`CHUNK_BYTES_MAX`] either way.
const CHUNK_BYTES_FULL: usize = 900 * 1024;

/// What is known of a stored snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last journal row in it.
    pub sequence: Sequence,
    /// That row's journal time.
    pub time: Time,
    /// Which journal it belongs to.
    pub incarnation: u64,
    /// That row's hash.
    pub journal_hash: Hash32,
    /// The state's hash.
    pub state_hash: Hash32,
    /// The version of the records' bytes.
    pub format: u16,
}

/// Why chunks are no snapshot. It is refused, and an older one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// A chunk is not what it should be.
    #[error("chunk {chunk} of the snapshot cannot be read: {bytes}")]
    Chunk {
        /// Which, counted from 0.
        chunk: usize,
        /// What is wrong with it.
        bytes: BadBytes,
    },
    /// The records are no state.
    #[error("the snapshot's records are no state: {0}")]
    Records(engine::BadSnapshot),
    /// The state is another one.
    #[error("the snapshot should have the state hash {expected}, and has {computed}")]
    Hash {
        /// What it should be.
        expected: Hash32,
        /// What it is.
        computed: Hash32,
    },
}

/// Hashes records' bytes: the version first, so that no two formats give one hash.
fn hasher() -> Sha256 {
    let mut hasher = Sha256::new();
    hasher.update(b"state");
    hasher.update(FORMAT.to_be_bytes());
    hasher
}

/// Passes a state's records on in pieces of about 900 KiB; returns the state's hash.
fn pieces(state: &State, mut each: impl FnMut(&[u8])) -> Hash32 {
    let mut hasher = hasher();
    let mut w = Writer::with_capacity(CHUNK_BYTES_MAX);
    for record in state.records() {
        record.put(&mut w);
        if w.bytes().len() >= CHUNK_BYTES_FULL {
            hasher.update(w.bytes());
            each(w.bytes());
            w.clear();
        }
    }
    if !w.bytes().is_empty() {
        hasher.update(w.bytes());
        each(w.bytes());
    }
    Hash32(hasher.finalize().into())
}

/// Returns a state's hash: two states have the same one when they are equal, and then alone.
#[must_use]
pub fn state_hash(state: &State) -> Hash32 {
    pieces(state, |_| {})
}

/// Writes a state as chunks, in order, and returns its hash.
pub fn write_snapshot(state: &State, sink: &mut dyn FnMut(Vec<u8>)) -> Hash32 {
    pieces(state, |piece| sink(block::compress(piece)))
}

/// Reads a snapshot, chunk by chunk.
#[derive(Debug)]
pub struct SnapshotReader {
    builder: StateBuilder,
    hasher: Sha256,
    plain: Vec<u8>,
    chunks: usize,
}

impl Default for SnapshotReader {
    fn default() -> Self {
        Self { builder: StateBuilder::new(), hasher: hasher(), plain: Vec::new(), chunks: 0 }
    }
}

impl SnapshotReader {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    ///
    /// [`BadSnapshot`]; the reader is of no use after that.
    pub fn push_chunk(&mut self, chunk: &[u8]) -> Result<(), BadSnapshot> {
        let at = self.chunks;
        let bad = |bytes| BadSnapshot::Chunk { chunk: at, bytes };
        block::decompress(chunk, CHUNK_BYTES_MAX, &mut self.plain).map_err(bad)?;
        self.chunks = self.chunks.saturating_add(1);
        self.hasher.update(&self.plain);
        let mut r = Reader::new(&self.plain);
        while !r.is_empty() {
            let record = Code::get(&mut r).map_err(bad)?;
            self.builder.push(record).map_err(BadSnapshot::Records)?;
        }
        Ok(())
    }

    /// Returns the state, if it is the one that was asked for.
    ///
    /// # Errors
    ///
    /// [`BadSnapshot`] when its hash is not `expected`, or the records are no whole state.
    pub fn finish(self, expected: Hash32) -> Result<State, BadSnapshot> {
        // The hash first: what it does not cover is not worth a look.
        let computed = Hash32(self.hasher.finalize().into());
        if computed != expected {
            return Err(BadSnapshot::Hash { expected, computed });
        }
        self.builder.finish().map_err(BadSnapshot::Records)
    }
}

#[cfg(test)]
mod tests;
