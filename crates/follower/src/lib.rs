//! Follows the journal: keeps the live state of a process, completes who waits for an outcome, feeds the projections and
//! takes the snapshots.
//!
//! Invariant: a follower decides nothing. Every row is checked by its sequence, its hash and the hash before it; a row
//! that cannot be read stops the follower, which is then not ready and never guesses.

mod feeds;
mod follow;
mod live;
mod project;
mod recover;
mod share;
mod snapshot;
mod volume;

pub use feeds::Feeds;
pub use follow::Follower;
pub use live::{Live, Outcome, Waiter};
pub use recover::{FollowError, HEAD, Recovered, catch_up, load_snapshot, read_next, recover};
pub use share::{Hold, PROJECTING_ROLE, share_projections};
pub use snapshot::{final_snapshot, take_snapshots};
