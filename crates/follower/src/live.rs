//! The followed state, shared by everything in a process that reads it.
//!
//! Invariant: the state is that after the row [`Live::sequence`], whole rows only; a waiter is completed after the
//! state it will read has its row.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use engine::{Effects, State};
use journal::{Applied, Batch};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, oneshot, watch};
use trace::{BatchTiming, Micros};
use units::{CommandId, Hash32, Sequence, Time};

use crate::recover::Recovered;

/// Batches that are kept for a subscriber that is slow; one that is slower hears that it lagged.
const SUBSCRIBER_BATCHES_MAX: usize = 512;

/// The followed state of one process. Share it as an [`Arc`].
pub struct Live {
    state: RwLock<State>,
    /// The hash of the last row that is in the state.
    hash: Mutex<Hash32>,
    incarnation: AtomicU64,
    sequence: watch::Sender<Sequence>,
    projected: watch::Sender<Sequence>,
    /// The greatest row that somebody has waited for in the projections.
    wanted: watch::Sender<Sequence>,
    clock: Mutex<Clock>,
    waiters: Mutex<Waiters>,
    subscribers: broadcast::Sender<Arc<Applied>>,
    stopped: OnceLock<String>,
}

/// Journal time, carried on by this process' own monotonic clock.
struct Clock {
    /// The last batch's time, and when it was seen here.
    time: Time,
    seen: Instant,
    /// When the state was last known to be at the journal's head; `None` before it ever was.
    at_head: Option<Instant>,
    started: Instant,
}

#[derive(Default)]
struct Waiters {
    by_command: HashMap<CommandId, Vec<Waiting>>,
    last: u64,
}

/// One who waits for a command's outcome.
struct Waiting {
    number: u64,
    since: Instant,
    sender: oneshot::Sender<Outcome>,
}

/// A command's outcome as it was followed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The batch it is in.
    pub applied: Arc<Applied>,
    /// Its place in the batch.
    pub index: usize,
    /// When the batch's commands were received, decided and committed, where the fan-out has told it.
    pub timing: Option<Arc<BatchTiming>>,
    /// When the batch had been followed here.
    pub seen: Micros,
}

impl Outcome {
    /// Returns the command and what it has done.
    #[must_use]
    pub fn entry(&self) -> &journal::Entry {
        &self.applied.batch.entries[self.index]
    }
}

/// Waits for one command's outcome. Dropping it ends the wait.
pub struct Waiter {
    live: Arc<Live>,
    command: CommandId,
    number: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Live {
    /// Wraps a state whose last row has this hash.
    #[must_use]
    pub fn new(state: State, hash: Hash32) -> Arc<Self> {
        let now = Instant::now();
        let incarnation = state.settings().map_or(0, |settings| settings.incarnation);
        let clock = Clock { time: state.time(), seen: now, at_head: None, started: now };
        Arc::new(Self {
            sequence: watch::Sender::new(state.sequence()),
            projected: watch::Sender::new(Sequence::new(0)),
            wanted: watch::Sender::new(Sequence::new(0)),
            incarnation: AtomicU64::new(incarnation),
            hash: Mutex::new(hash),
            clock: Mutex::new(clock),
            state: RwLock::new(state),
            waiters: Mutex::default(),
            subscribers: broadcast::Sender::new(SUBSCRIBER_BATCHES_MAX),
            stopped: OnceLock::new(),
        })
    }

    /// Reads the state. Keep `f` short: following waits for it.
    pub fn read<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.state.read())
    }

    /// Returns the last row that is in the state.
    pub fn sequence(&self) -> Sequence {
        *self.sequence.borrow()
    }

    /// Returns a copy of the state with its row's hash, to go on from.
    pub fn recovered(&self) -> Recovered {
        let state = self.state.read();
        let sequence = state.sequence();
        Recovered { state: state.clone(), hash: *self.hash.lock(), snapshot: sequence }
    }

    /// Returns the hash of the last row that is in the state.
    pub fn hash(&self) -> Hash32 {
        *self.hash.lock()
    }

    /// Waits until a row is in the state, at most `limit`; tells whether it is.
    pub async fn wait_for(&self, sequence: Sequence, limit: Duration) -> bool {
        reached(&self.sequence, sequence, limit).await
    }

    /// Returns the last row that this process has seen in all parts of the projections; 0 where it does not write them
    /// all.
    pub fn projected(&self) -> Sequence {
        *self.projected.borrow()
    }

    /// Waits until a row is in the projections that this process writes, at most `limit`; tells whether it is. Their
    /// writers hurry then.
    pub async fn wait_projected(&self, sequence: Sequence, limit: Duration) -> bool {
        self.want_projected(sequence);
        reached(&self.projected, sequence, limit).await
    }

    /// Begins to wait for a command's outcome. Call it before the command is published, so that the outcome cannot
    /// pass unseen.
    pub fn expect(self: &Arc<Self>, command: CommandId) -> Waiter {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        waiters.last += 1;
        let number = waiters.last;
        let waiting = Waiting { number, since: Instant::now(), sender };
        waiters.by_command.entry(command).or_default().push(waiting);
        Waiter { live: Arc::clone(self), command, number, receiver }
    }

    /// Returns journal time as it is about now: the last batch's time and this process' own clock since.
    pub fn journal_now(&self) -> Time {
        let clock = self.clock.lock();
        let since = u64::try_from(clock.seen.elapsed().as_micros()).unwrap_or(u64::MAX);
        clock.time.plus_micros(since)
    }

    /// Returns how long ago the state was last known to be at the journal's head.
    pub fn behind(&self) -> Duration {
        let clock = self.clock.lock();
        clock.at_head.unwrap_or(clock.started).elapsed()
    }

    /// Tells whether the state has ever been at the journal's head.
    pub fn has_caught_up(&self) -> bool {
        self.clock.lock().at_head.is_some()
    }

    /// Returns which journal this is; 0 before its first row.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Relaxed)
    }

    /// Hears of every batch from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Applied>> {
        self.subscribers.subscribe()
    }

    /// Returns why following has stopped for good, if it has. Such a process is not ready.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// Returns how many commands are waited for.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().by_command.len()
    }

    /// Returns how long the one has waited who waits longest for an outcome.
    pub fn longest_wait(&self) -> Duration {
        let waiters = self.waiters.lock();
        let oldest = waiters.by_command.values().flatten().map(|waiting| waiting.since).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Follows the next batch: changes the state, then tells everybody who waits.
    ///
    /// # Panics
    ///
    /// When the batch does not follow the state's last row, or its events cannot have come from this state.
    pub fn apply(
        &self,
        batch: Batch,
        hash: Hash32,
        timing: Option<Arc<BatchTiming>>,
    ) -> Arc<Applied> {
        let sequence = batch.sequence;
        assert_eq!(sequence, self.sequence().next(), "batches are followed in order");
        let effects = {
            let mut state = self.state.write();
            let effects = journal::apply(&mut state, &batch);
            if let Some(settings) = state.settings() {
                self.incarnation.store(settings.incarnation, Relaxed);
            }
            // Within the state's lock: whoever reads both reads them of one row.
            *self.hash.lock() = hash;
            effects
        };
        self.publish(batch, hash, effects, timing.as_ref())
    }

    fn publish(
        &self,
        batch: Batch,
        hash: Hash32,
        effects: Effects,
        timing: Option<&Arc<BatchTiming>>,
    ) -> Arc<Applied> {
        let sequence = batch.sequence;
        {
            let mut clock = self.clock.lock();
            clock.time = batch.time;
            clock.seen = Instant::now();
        }
        let applied = Arc::new(Applied { batch, hash, effects });
        self.sequence.send_replace(sequence);
        self.complete(&applied, timing);
        // Nobody listening is no failure.
        let _ = self.subscribers.send(Arc::clone(&applied));
        applied
    }

    fn complete(&self, applied: &Arc<Applied>, timing: Option<&Arc<BatchTiming>>) {
        let mut waiters = self.waiters.lock();
        if waiters.by_command.is_empty() {
            return;
        }
        let seen = Micros::now();
        for (index, entry) in applied.batch.entries.iter().enumerate() {
            if entry.command.origin != engine::Origin::Client {
                continue;
            }
            for Waiting { sender, .. } in
                waiters.by_command.remove(&entry.command.id).into_iter().flatten()
            {
                // A waiter that has just given up is no failure.
                let applied = Arc::clone(applied);
                let _ = sender.send(Outcome { applied, index, timing: timing.cloned(), seen });
            }
        }
    }

    /// Notes that the state is at the journal's head now.
    pub(crate) fn mark_at_head(&self) {
        self.clock.lock().at_head = Some(Instant::now());
    }

    /// Notes how far the projections are.
    pub(crate) fn mark_projected(&self, sequence: Sequence) {
        self.projected.send_replace(sequence);
    }

    /// Notes that somebody waits for a row of the projections.
    pub(crate) fn want_projected(&self, sequence: Sequence) {
        // A row that is not there yet hurries nobody.
        let there = sequence.min(self.sequence());
        self.wanted.send_if_modified(|wanted| {
            let before = std::mem::replace(wanted, there.max(*wanted));
            before < there
        });
    }

    /// Waits until somebody waits for a row of the projections after this one.
    pub async fn wanted_beyond(&self, sequence: Sequence) {
        let waited = self.wanted.subscribe().wait_for(|wanted| *wanted > sequence).await.is_ok();
        assert!(waited, "the sender is here");
    }

    /// Stops for good.
    pub(crate) fn stop(&self, reason: String) {
        // The first reason is the one that counts.
        let _ = self.stopped.set(reason);
    }

    /// Replaces the state by one that was loaded anew.
    pub(crate) fn replace(&self, state: State, hash: Hash32) {
        let sequence = state.sequence();
        self.incarnation
            .store(state.settings().map_or(0, |settings| settings.incarnation), Relaxed);
        {
            let mut clock = self.clock.lock();
            clock.time = state.time();
            clock.seen = Instant::now();
        }
        {
            let mut replaced = self.state.write();
            *replaced = state;
            *self.hash.lock() = hash;
        }
        self.sequence.send_replace(sequence);
    }
}

async fn reached(at: &watch::Sender<Sequence>, sequence: Sequence, limit: Duration) -> bool {
    if *at.borrow() >= sequence {
        return true;
    }
    let mut receiver = at.subscribe();
    let waited = tokio::time::timeout(limit, receiver.wait_for(|now| *now >= sequence)).await;
    matches!(waited, Ok(Ok(_)))
}

impl Waiter {
    /// Waits for the outcome, at most `limit`; `None` when it has not come. A wait that has ended so may be repeated.
    pub async fn outcome(&mut self, limit: Duration) -> Option<Outcome> {
        match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(Ok(outcome)) => Some(outcome),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.live.waiters.lock();
        let Some(all) = waiters.by_command.get_mut(&self.command) else {
            return;
        };
        all.retain(|waiting| waiting.number != self.number);
        if all.is_empty() {
            waiters.by_command.remove(&self.command);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::{Action, Decision, Origin, Settings};
    use journal::Entry;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LIMIT: Duration = Duration::from_secs(20);

    /// Decides what follows the state of `live`, as a sequencer would.
    fn batch(live: &Live, time: u64, commands: Vec<engine::Command>) -> Batch {
        let mut builder = engine::StateBuilder::new();
        live.read(|state| state.records().try_for_each(|record| builder.push(record)))
            .expect("the state is good");
        let mut state = builder.finish().expect("the state is good");
        let (sequence, time) = (live.sequence().next(), Time::from_micros(time));
        state.open_batch(engine::Stamp { sequence, time });
        let decide = |command: engine::Command| match engine::run(&mut state, &command, &mut ()) {
            Decision::Event(event) => Entry { command, event },
            other => panic!("{other:?}"),
        };
        let entries = commands.into_iter().map(decide).collect();
        Batch { sequence, time, incarnation: 9, epoch: 1, rules: journal::RULES, entries }
    }

    fn genesis() -> engine::Command {
        let settings = Settings { incarnation: 9, salt: 1, sandbox: true };
        engine::internal_command(Action::Genesis(settings))
    }

    fn client(id: u128) -> engine::Command {
        let origin = Origin::Client;
        engine::Command { id: CommandId::new(id), origin, ..engine::internal_command(Action::Tick) }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_command_hears_of_it_once_it_is_in_the_state() {
        let live = Live::new(State::new(), Hash32::default());
        assert_eq!(live.incarnation(), 0);
        live.apply(batch(&live, 5, vec![genesis()]), Hash32([1; 32]), None);
        assert_eq!(
            (live.incarnation(), live.sequence(), live.hash()),
            (9, Sequence::new(1), Hash32([1; 32]))
        );

        let mut first = live.expect(CommandId::new(7));
        let mut second = live.expect(CommandId::new(7));
        let mut other = live.expect(CommandId::new(8));
        let given_up = live.expect(CommandId::new(6));
        drop(given_up);
        assert_eq!(live.waiting(), 2, "a wait that was given up is forgotten");
        let mut subscriber = live.subscribe();
        live.apply(batch(&live, 6, vec![client(6), client(7)]), Hash32::default(), None);
        for waiter in [&mut first, &mut second] {
            let outcome = waiter.outcome(LIMIT).await.expect("it came");
            assert_eq!((outcome.index, outcome.entry().command.id), (1, CommandId::new(7)));
        }
        assert!(other.outcome(SOON).await.is_none());
        drop(other);
        assert_eq!(live.waiting(), 0);
        assert_eq!(subscriber.recv().await.expect("it came").batch.sequence, Sequence::new(2));
    }

    #[tokio::test]
    async fn a_row_can_be_waited_for() {
        let live = Live::new(State::new(), Hash32::default());
        assert!(live.wait_for(Sequence::new(0), SOON).await);
        assert!(!live.wait_for(Sequence::new(1), SOON).await);
        let waiting = {
            let live = Arc::clone(&live);
            tokio::spawn(async move { live.wait_for(Sequence::new(1), LIMIT).await })
        };
        live.apply(batch(&live, 5, vec![genesis()]), Hash32::default(), None);
        assert!(waiting.await.expect("it does not panic"));
        assert!(!live.wait_projected(Sequence::new(1), SOON).await, "nothing is projected");
    }

    #[test]
    fn journal_time_goes_on_between_batches() {
        let live = Live::new(State::new(), Hash32::default());
        live.apply(batch(&live, 1_000_000, vec![genesis()]), Hash32::default(), None);
        let now = live.journal_now();
        assert!(now >= Time::from_micros(1_000_000));
        assert!(live.journal_now() >= now);
        assert!(!live.has_caught_up(), "nobody has compared it with the journal");
        live.mark_at_head();
        assert!(live.has_caught_up() && live.behind() < LIMIT);
    }
}
