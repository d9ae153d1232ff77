//! The journal's binary format, its hash chain, and snapshots.
