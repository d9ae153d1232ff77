//! The way from the follower to the writers of the projections: each has a feed of its own, from when it wants one.
//!
//! Invariant: a feed brings every batch that is followed after it was attached, in order. What waits in it is bounded by
//! commands, not by batches, so that memory is; a full feed makes the follower wait, never the sequencer.

use std::sync::{Arc, Weak};

use journal::Applied;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Commands that may wait in one feed. One takes one to two kilobytes with its effects, which all feeds share.
const COMMANDS_MAX: usize = 32_768;
/// Batches that may wait; idle batches have no commands but a tick.
const BATCHES_MAX: usize = 4_096;

/// Where a follower puts its batches, and from where they are taken.
#[derive(Debug, Default)]
pub struct Feeds {
    attached: Mutex<Vec<Arc<Entrance>>>,
    closed: CancellationToken,
}

/// The follower's end of a feed.
#[derive(Debug)]
struct Entrance {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// A batch that waits, and how much room it takes.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) applied: Arc<Applied>,
    permits: u32,
}

/// The other end: brings every batch that was followed since it was attached. Dropping it detaches it.
#[derive(Debug)]
pub(crate) struct Feed {
    receiver: mpsc::Receiver<Waiting>,
    room: Arc<Semaphore>,
    feeds: Arc<Feeds>,
    entrance: Weak<Entrance>,
}

impl Feeds {
    /// Attaches a feed. It brings every batch after the one that [`crate::Live::sequence`] names from now on, and perhaps
    /// a few before. After [`Self::close`] it has nothing and ends at once.
    pub(crate) fn attach(self: &Arc<Self>) -> Feed {
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let room = Arc::new(Semaphore::new(COMMANDS_MAX));
        let entrance = Arc::new(Entrance { sender, room: Arc::clone(&room) });
        let weak = Arc::downgrade(&entrance);
        let mut attached = self.attached.lock();
        // Under the lock, so that none is attached behind the back of who closes.
        if !self.closed.is_cancelled() {
            attached.push(entrance);
        }
        Feed { receiver, room, feeds: Arc::clone(self), entrance: weak }
    }

    /// Hands a batch to every feed; waits while too much waits in one of them.
    pub(crate) async fn send(&self, applied: &Arc<Applied>) {
        let attached = self.attached.lock().clone();
        for entrance in attached {
            entrance.send(Arc::clone(applied)).await;
        }
    }

    /// Ends every feed: it brings what is in it, and that is all.
    pub(crate) fn close(&self) {
        let mut attached = self.attached.lock();
        self.closed.cancel();
        attached.clear();
    }

    /// Waits until no feed will bring anything new any more.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Tells whether no feed will bring anything new any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

impl Entrance {
    async fn send(&self, applied: Arc<Applied>) {
        let commands = applied.batch.entries.len().min(COMMANDS_MAX);
        let permits = u32::try_from(commands).unwrap_or(u32::MAX);
        // A feed that was dropped meanwhile has closed both.
        if let Ok(room) = self.room.acquire_many(permits).await {
            room.forget();
            let _ = self.sender.send(Waiting { applied, permits }).await;
        }
    }
}

impl Feed {
    /// Waits for batches and adds them, at most `max`, to those that are waiting already; 0: the feed has ended. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self, waiting: &mut Vec<Waiting>, max: usize) -> usize {
        self.receiver.recv_many(waiting, max).await
    }

    /// Gives the room of batches that were written to others.
    pub(crate) fn release(&self, written: impl Iterator<Item = Waiting>) {
        self.room.add_permits(written.map(|waiting| waiting.permits as usize).sum());
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The follower may be waiting for room at this very moment.
        self.room.close();
        let mut attached = self.feeds.attached.lock();
        attached.retain(|entrance| !std::ptr::eq(Arc::as_ptr(entrance), self.entrance.as_ptr()));
    }
}

#[cfg(test)]
mod tests {
    use journal::Batch;
    use units::{Hash32, Sequence, Time};

    use super::*;

    fn batch(sequence: u64) -> Arc<Applied> {
        let entry = journal::Entry {
            command: engine::internal_command(engine::Action::Tick),
            event: engine::Event::Done,
        };
        let (sequence, time) = (Sequence::new(sequence), Time::from_micros(sequence));
        let entries = vec![entry; COMMANDS_MAX];
        let batch =
            Batch { sequence, time, incarnation: 1, epoch: 1, rules: journal::RULES, entries };
        Arc::new(Applied { batch, hash: Hash32::default(), effects: engine::Effects::default() })
    }

    #[tokio::test]
    async fn a_full_feed_makes_the_follower_wait_until_it_is_read_or_dropped() {
        let feeds = Arc::new(Feeds::default());
        let mut feed = feeds.attach();
        feeds.send(&batch(1)).await;
        let sending = |number| {
            let feeds = Arc::clone(&feeds);
            tokio::spawn(async move { feeds.send(&batch(number)).await })
        };
        let second = sending(2);
        let mut waiting = Vec::new();
        assert_eq!(feed.next(&mut waiting, 9).await, 1, "there is room for one only");
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        feed.release(waiting.drain(..));
        second.await.expect("it does not panic");
        assert_eq!(feed.next(&mut waiting, 9).await, 1);
        assert_eq!(waiting[0].applied.batch.sequence, Sequence::new(2));
        let third = sending(3);
        tokio::task::yield_now().await;
        drop(feed);
        third.await.expect("nobody is waited for who is gone");
        feeds.send(&batch(4)).await;
    }

    #[tokio::test]
    async fn a_closed_feed_brings_what_is_in_it() {
        let feeds = Arc::new(Feeds::default());
        let mut feed = feeds.attach();
        feeds.send(&batch(1)).await;
        feeds.close();
        feeds.closed().await;
        assert!(feeds.is_closed());
        feeds.send(&batch(2)).await;
        let mut waiting = Vec::new();
        assert_eq!(feed.next(&mut waiting, 9).await, 1);
        assert_eq!(feed.next(&mut waiting, 9).await, 0);
        assert_eq!(feeds.attach().next(&mut waiting, 9).await, 0, "too late");
    }
}
