//! The whole order's way in one thread: receive, publish, decide, append, broadcast, answer, project, with a seeded clock.
//!
//! The broker, the database and the network are simulated: they reorder, double, delay, lose before the confirmation, commit
//! without answering, and are away. Any process crashes, stands still or is cut off at any step; standbys take over. What
//! decides is the product's own code: `engine`, `journal`, the sequencer's batches and rules, the rules by which an
//! append becomes definite, the chain's check of every follower.
//!
//! Invariant: a run depends on its seed and on nothing else: no clock, no thread, no map with a random order. So a failure
//! comes again with its seed.

mod broker;
mod check;
mod client;
mod event;
mod faults;
mod guard;
mod processor;
mod projector;
mod publish;
mod rng;
mod server;
mod settings;
mod store;
mod tables;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use guard::Guard;
pub use world::Failure;

use world::World;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// A digest of everything that happened, the journal's last hash included.
    pub digest: u64,
    /// The rule that was broken, if one was.
    pub failure: Option<Failure>,
    /// Commands that clients asked for.
    pub commands: u64,
    /// Rows of the journal.
    pub rows: u64,
    /// How often the epoch was raised.
    pub epochs: u64,
    /// How often each thing happened, by the words of the trace.
    pub happened: BTreeMap<&'static str, u64>,
    /// The lines of the trace, where they were asked for.
    pub trace: Vec<String>,
}

/// Runs one seed, without the guards that are `removed`.
#[must_use]
pub fn run(seed: u64, removed: &[Guard], traced: bool) -> Run {
    let mut world = World::new(seed, removed, traced);
    // A panic is a finding like any other, and has its trace.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.fail("nothing panics", || text.unwrap_or_default());
    }
    let head = world.store.rows.last().map_or([0; 32], |row| row.hash.0);
    let digest = units::mix_bytes(&head, world.trace.digest());
    let (happened, trace) = world.trace.into_parts();
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    Run {
        seed,
        digest,
        failure: world.failure,
        commands: count(world.records.len()),
        rows: count(world.store.rows.len()),
        epochs: world.store.epoch,
        happened,
        trace,
    }
}
