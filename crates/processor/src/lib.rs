//! The sequencer: takes the commands that wait, decides them one after the other in memory, and appends what they did to
//! the journal.
//!
//! Invariants:
//! - Nothing leaves before the commit of the row it is in: no broadcast, no acknowledgement, no answer.
//! - One row is in flight at a time. While it commits, the next batch is decided, never appended.
//! - A sequencer that is deposed drops its state: what it decided beyond its last commit has never happened.

mod auditor;
mod batch;
mod clock;
mod error;
pub mod failpoint;
mod genesis;
mod health;
pub mod rules;
mod sequencer;
mod standby;
mod status;
mod takeover;
mod turns;

pub use auditor::audit;
pub use batch::{Decide, Decided, EvolvePanicked, OpenBatch};
pub use error::ProcessorError;
pub use genesis::Genesis;
pub use health::health_router;
pub use status::Status;
pub use takeover::{Restored, restore};
pub use turns::{Config, Parts, run};
