//! What the outside may know of the sequencer: for health, readiness and the drills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use telemetry::Metric;
use tokio_util::sync::{CancellationToken, DropGuard};
use units::Sequence;

/// How long the loop may stand still before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// How often one that is waited for beats.
const BEAT: Duration = Duration::from_secs(1);

/// The sequencer's state, as it last said.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    /// Milliseconds after `started` of the loop's last turn.
    beat: AtomicU64,
    active: AtomicBool,
    standby: AtomicBool,
    epoch: AtomicU64,
    sequence: AtomicU64,
    /// The first row of this process' last claim.
    first: AtomicU64,
    /// Milliseconds after `started` since which an append is in flight; 0: none.
    appending_since: AtomicU64,
    /// What keeps it from its work while it is neither active nor standing by.
    waits_for: Mutex<&'static str>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            beat: AtomicU64::new(0),
            active: AtomicBool::new(false),
            standby: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            first: AtomicU64::new(0),
            appending_since: AtomicU64::new(0),
            waits_for: Mutex::new("starting: the database and the queue are not reached yet"),
        }
    }
}

impl Status {
    /// Tells whether this process is the active sequencer.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Tells whether this process would be the active sequencer if the queue named it.
    pub fn is_standby(&self) -> bool {
        self.standby.load(Relaxed)
    }

    /// Tells whether it could do its work now: active, with no append waiting for long, or a standby that is ready to
    /// take over.
    pub fn is_ready(&self) -> bool {
        (self.is_active() && self.held_up().is_none()) || self.is_standby()
    }

    /// Returns for how many milliseconds an append has been in flight, where that is long.
    fn held_up(&self) -> Option<u64> {
        let since = self.appending_since.load(Relaxed);
        (since > 0).then(|| self.now().saturating_sub(since)).filter(|millis| *millis > 2_000)
    }

    /// Says what keeps it from its work, one dependency after the other; nothing where it is ready.
    pub fn failing(&self) -> Vec<String> {
        let mut failing = Vec::new();
        if self.is_stuck() {
            failing.push("sequencer: its loop stands still".to_owned());
        }
        match self.held_up() {
            Some(millis) if self.is_active() => {
                failing.push(format!("database: an append has waited for {millis} ms"));
            }
            _ if !self.is_active() && !self.is_standby() => {
                failing.push((*self.waits_for.lock()).to_owned());
            }
            _ => {}
        }
        failing
    }

    /// Tells whether the loop has stood still for so long that only a restart will help.
    pub fn is_stuck(&self) -> bool {
        let since = self.now().saturating_sub(self.beat.load(Relaxed));
        u128::from(since) > STUCK_AFTER.as_millis()
    }

    /// Returns the epoch of the last claim.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// Returns the last row that this process has committed.
    pub fn sequence(&self) -> Sequence {
        Sequence::new(self.sequence.load(Relaxed))
    }

    /// Returns the first row of this process' last claim. A follower that has it knows journal time as it is now.
    pub fn first_row(&self) -> Sequence {
        Sequence::new(self.first.load(Relaxed))
    }

    /// Keeps the loop from counting as stuck while it is not there yet, until the returned guard is dropped or
    /// `shutdown`. Must be called within a tokio runtime.
    #[must_use]
    pub fn beat_until(self: &Arc<Self>, shutdown: CancellationToken) -> DropGuard {
        let (status, end) = (Arc::clone(self), shutdown.child_token());
        let ended = end.clone();
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                status.beat();
                tokio::time::sleep(BEAT).await;
            }
        });
        end.drop_guard()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn beat(&self) {
        self.beat.store(self.now(), Relaxed);
    }

    pub(crate) fn set_appending(&self, appending: bool) {
        self.appending_since.store(if appending { self.now().max(1) } else { 0 }, Relaxed);
    }

    pub(crate) fn set_active(&self, epoch: u64, first: Sequence) {
        self.first.store(first.get(), Relaxed);
        self.epoch.store(epoch, Relaxed);
        self.standby.store(false, Relaxed);
        self.active.store(true, Relaxed);
        telemetry::set(Metric::SequencerActive, 1.0);
        telemetry::set_count(Metric::Epoch, epoch);
    }

    /// Notes whether it would take over now if it were named.
    pub(crate) fn set_standby(&self, standby: bool) {
        self.standby.store(standby, Relaxed);
        telemetry::set(Metric::SequencerActive, 0.0);
    }

    /// Notes what it waits for while it is neither active nor standing by.
    pub(crate) fn set_waits_for(&self, what: &'static str) {
        *self.waits_for.lock() = what;
    }

    pub(crate) fn set_inactive(&self) {
        self.active.store(false, Relaxed);
        self.standby.store(false, Relaxed);
        self.set_appending(false);
        telemetry::set(Metric::SequencerActive, 0.0);
    }

    pub(crate) fn set_committed(&self, sequence: Sequence) {
        self.sequence.store(sequence.get(), Relaxed);
        telemetry::set_count(Metric::JournalSequence, sequence.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_says_why() {
        let status = Status::default();
        assert!(!status.is_ready());
        assert_eq!(status.failing(), ["starting: the database and the queue are not reached yet"]);
        status.set_waits_for("queue: RabbitMQ does not answer");
        assert_eq!(status.failing(), ["queue: RabbitMQ does not answer"]);
        status.set_standby(true);
        assert!(status.is_ready() && status.failing().is_empty());
        status.set_active(1, Sequence::new(1));
        assert!(status.is_ready() && status.failing().is_empty());
    }
}
