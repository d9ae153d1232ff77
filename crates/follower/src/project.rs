//! Step 7 of the order's way: the writer of the projections.
//!
//! Invariant: batches are written in order and without gaps, each with its progress in the same transaction. What waits is
//! bounded by commands, not by batches, so that memory is; a full feed makes the follower wait, never the sequencer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::Applied;
use store::StoreError;
use telemetry::Metric;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use units::Sequence;

use crate::live::Live;

/// Commands that may wait to be projected. One takes one to two kilobytes with its effects.
const COMMANDS_MAX: usize = 32_768;
/// Batches that may wait; idle batches have no commands but a tick.
const BATCHES_MAX: usize = 4_096;
/// Batches that one transaction writes at most.
const BATCHES_AT_ONCE: usize = 1_024;
/// Commands after which a transaction takes no more batches: larger ones gain nothing.
const COMMANDS_AT_ONCE: usize = 4_096;
/// The longest pause before a failed write is tried again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Writes projections.
pub trait ProjectionSink: Send {
    /// Writes batches that follow what was written before, with their progress, in one transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is written then.
    fn write(
        &mut self,
        batches: &[Arc<Applied>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl ProjectionSink for store::projections::Projector {
    async fn write(&mut self, batches: &[Arc<Applied>]) -> Result<(), StoreError> {
        Self::write(self, batches).await.map(|_| ())
    }
}

/// Where a follower puts its batches.
pub struct ProjectionFeed {
    sender: mpsc::Sender<(Arc<Applied>, u32)>,
    room: Arc<Semaphore>,
}

/// Writes what a [`ProjectionFeed`] brings.
pub struct ProjectionWriter<P> {
    projector: P,
    receiver: mpsc::Receiver<(Arc<Applied>, u32)>,
    room: Arc<Semaphore>,
    progress: Sequence,
}

/// Makes a feed and its writer; `progress` is how far the projections are.
#[must_use]
pub fn projection_writer<P: ProjectionSink>(
    projector: P,
    progress: Sequence,
) -> (ProjectionFeed, ProjectionWriter<P>) {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    let room = Arc::new(Semaphore::new(COMMANDS_MAX));
    let feed = ProjectionFeed { sender, room: Arc::clone(&room) };
    (feed, ProjectionWriter { projector, receiver, room, progress })
}

impl ProjectionFeed {
    /// Hands over a batch; waits while too much waits already.
    pub(crate) async fn send(&self, applied: Arc<Applied>) {
        let commands = applied.batch.entries.len().min(COMMANDS_MAX);
        let permits = u32::try_from(commands).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.acquire_many(permits).await {
            room.forget();
        }
        // A writer that is gone has been told to stop, and the follower is about to be.
        let _ = self.sender.send((applied, permits)).await;
    }
}

impl<P: ProjectionSink> ProjectionWriter<P> {
    /// Writes until the feed ends or `shutdown`; then what is waiting is written first.
    pub async fn run(mut self, live: Arc<Live>, shutdown: CancellationToken) {
        live.mark_projected(self.progress);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.receiver.recv_many(&mut waiting, BATCHES_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                }
                () = shutdown.cancelled() => return,
            }
            while !waiting.is_empty() {
                let count = take(&waiting);
                let batches: Vec<Arc<Applied>> =
                    waiting.iter().take(count).map(|(applied, _)| Arc::clone(applied)).collect();
                if !self.write(&live, &batches, &shutdown).await {
                    return;
                }
                let permits = waiting.drain(..count).map(|(_, permits)| permits as usize).sum();
                self.room.add_permits(permits);
            }
        }
    }

    /// Writes until it succeeds; `false` when told to stop before that.
    async fn write(
        &mut self,
        live: &Live,
        batches: &[Arc<Applied>],
        shutdown: &CancellationToken,
    ) -> bool {
        // What the projections have already needs no writing: the follower began at a snapshot before them.
        let first_new = batches.partition_point(|applied| applied.batch.sequence <= self.progress);
        let batches = &batches[first_new..];
        let Some(last) = batches.last() else {
            return true;
        };
        let mut pause = Duration::from_millis(50);
        loop {
            let begun = Instant::now();
            match self.projector.write(batches).await {
                Ok(()) => {
                    self.progress = last.batch.sequence;
                    telemetry::observe(Metric::ProjectionDuration, begun.elapsed());
                    telemetry::add(
                        Metric::ProjectionRows,
                        u64::try_from(batches.len()).unwrap_or(0),
                    );
                    self.record(live, last);
                    live.mark_projected(self.progress);
                    return true;
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(reason = %error, "the projections cannot be written; trying again");
                }
                Err(error) => {
                    tracing::error!(reason = %error, "the projections cannot be written; trying again");
                    pause = RETRY_MAX;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn record(&self, live: &Live, last: &Applied) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float, and 2^53 rows are not reached"
        )]
        let sequence = self.progress.get() as f64;
        telemetry::set(Metric::ProjectionSequence, sequence);
        let lag =
            Duration::from_micros(live.read(engine::State::time).micros_since(last.batch.time));
        telemetry::set(Metric::ProjectionLag, lag.as_secs_f64());
    }
}

/// Returns how many of the waiting batches one transaction takes: at least one.
fn take(waiting: &[(Arc<Applied>, u32)]) -> usize {
    let mut commands = 0;
    let count = waiting.iter().take_while(|(applied, _)| {
        let fits = commands < COMMANDS_AT_ONCE;
        commands += applied.batch.entries.len();
        fits
    });
    count.count().max(1)
}
