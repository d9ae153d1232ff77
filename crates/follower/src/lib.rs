//! Follows the journal: keeps the live state of a process, completes who waits for an outcome, feeds the projections and
//! takes the snapshots.
//!
//! Invariant: a follower decides nothing. Every row is checked by its sequence, its hash and the hash before it; a row
//! that cannot be read stops the follower, which is then not ready and never guesses.

mod live;

pub use live::{Live, Outcome, Waiter};
