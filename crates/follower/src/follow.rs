//! The loop that follows the journal.
//!
//! Step 5 of the order's way brings a row as a hint; the journal in PostgreSQL is the truth. What the hint does not bring
//! is read from there: four times a second while somebody waits, else once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use journal::{Applied, Row};
use queue::{BatchSubscriber, Hint, Told};
use store::{Db, StoreError};
use telemetry::Metric;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use trace::{BatchTiming, Micros, Origin};

use crate::feeds::Feeds;
use crate::live::Live;
use crate::recover::{FollowError, HEAD, ROWS_AT_ONCE, load_snapshot, read_next, recover};

/// How often the head is read while a command is waited for.
const POLL_WAITING: Duration = Duration::from_millis(250);
/// How often it is read otherwise.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// How long after its commit a row may be told, in microseconds, so that polling would not have been sooner.
const MICROS_FRESH: u32 = 100_000;

/// Follows the journal into a [`Live`].
pub struct Follower {
    live: Arc<Live>,
    db: Db,
    subscriber: Box<dyn BatchSubscriber>,
    feeds: Arc<Feeds>,
    database_was_up: bool,
}

impl Follower {
    /// Loads the newest good snapshot and makes a follower that goes on from there. The subscriber must have been made
    /// before, so that nothing falls between the two.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub async fn load(db: Db, subscriber: Box<dyn BatchSubscriber>) -> Result<Self, FollowError> {
        let recovered = load_snapshot(&db, HEAD).await?;
        let live = Live::new(recovered.state, recovered.hash);
        Ok(Self { live, db, subscriber, feeds: Arc::default(), database_was_up: true })
    }

    /// Returns the followed state.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Returns where the writers of the projections get what is followed. It ends with the follower.
    #[must_use]
    pub fn feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.feeds)
    }

    /// Follows until `shutdown`. A database that does not answer is waited for. When a row cannot be followed, this
    /// says so in the [`Live`], which is not ready from then on, and returns the reason.
    ///
    /// # Errors
    ///
    /// [`FollowError`] other than that the database is away.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), FollowError> {
        let result = self.follow(&shutdown).await;
        if let Err(error) = &result {
            self.live.stop(error.to_string());
            telemetry::set(Metric::FollowerStopped, 1.0);
            tracing::error!(reason = %error, "following has stopped: this process is not ready any more");
        }
        result
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), FollowError> {
        self.read_journal().await?;
        let mut polled = Instant::now();
        loop {
            let pause = if self.live.waiting() > 0 { POLL_WAITING } else { POLL_IDLE };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                hint = self.subscriber.next() => match hint {
                    Ok(Hint::Row(told)) => {
                        let is_fresh = is_fresh(&told);
                        // While rows are told as they are committed, the journal has nothing to add, and its rows have
                        // no times. A database that did not answer is asked all the same: nothing else says that it does.
                        if self.take_hint(told).await? && is_fresh && self.database_was_up {
                            polled = Instant::now();
                        }
                    }
                    Ok(Hint::Gap) => self.read_journal().await?,
                    // The fan-out is a hint: without it, the journal is read as often as somebody waits for it.
                    Err(_) => sleep_until(Instant::now() + POLL_WAITING).await,
                },
                () = sleep_until(polled + pause) => {
                    self.read_journal().await?;
                    polled = Instant::now();
                }
            }
        }
    }

    /// Follows a row that was told; tells whether it was the next.
    async fn take_hint(&mut self, told: Told) -> Result<bool, FollowError> {
        let Told { row, timing } = told;
        let last = self.live.sequence();
        if row.sequence <= last {
            return Ok(false);
        }
        if row.sequence > last.next() {
            telemetry::add(Metric::FollowerGaps, 1);
            self.read_journal().await?;
            return Ok(false);
        }
        if row.previous_hash != self.live.hash() {
            self.reload().await?;
            return Ok(false);
        }
        self.apply(&row, timing).await?;
        self.live.mark_at_head();
        Ok(true)
    }

    /// Follows what stands in PostgreSQL, to the head.
    async fn read_journal(&mut self) -> Result<(), FollowError> {
        loop {
            let last = self.live.sequence();
            let rows = match store::journal::rows_after(&self.db, last, ROWS_AT_ONCE).await {
                Ok(rows) => rows,
                // A journal with a hole is no journal.
                Err(error @ StoreError::Corrupt(_)) => return Err(error.into()),
                Err(error) => {
                    self.note_database(false, &error.to_string());
                    // A state that falls behind says so itself.
                    return Ok(());
                }
            };
            self.note_database(true, "");
            let full = rows.len() >= ROWS_AT_ONCE;
            for row in &rows {
                if row.previous_hash != self.live.hash() && row.format == journal::FORMAT {
                    return self.reload().await;
                }
                self.apply(row, None).await?;
            }
            if !full {
                self.live.mark_at_head();
                return Ok(());
            }
        }
    }

    async fn apply(
        &mut self,
        row: &Row,
        timing: Option<Arc<BatchTiming>>,
    ) -> Result<(), FollowError> {
        let sequence = row.sequence;
        let batch = read_next(self.live.sequence(), self.live.hash(), row)?;
        let live = &self.live;
        let applied = catch_unwind(AssertUnwindSafe(|| live.apply(batch, row.hash, timing)))
            .map_err(|_| FollowError::Apply(sequence))?;
        record(&applied);
        telemetry::set(Metric::FollowerBehind, self.live.behind().as_secs_f64());
        self.feeds.send(&applied).await;
        Ok(())
    }

    /// Loads the state anew: the journal is another than the one that was followed (it was restored).
    async fn reload(&mut self) -> Result<(), FollowError> {
        tracing::warn!(
            sequence = self.live.sequence().get(),
            "the journal is not the one that was followed: reloading"
        );
        telemetry::add(Metric::FollowerRestarts, 1);
        let recovered = recover(&self.db, HEAD, |_| ()).await?;
        self.live.replace(recovered.state, recovered.hash);
        self.live.mark_at_head();
        Ok(())
    }

    fn note_database(&mut self, up: bool, reason: &str) {
        telemetry::set(Metric::DatabaseUp, if up { 1.0 } else { 0.0 });
        // Not only with each row: where none comes, it is what tells.
        telemetry::set(Metric::FollowerBehind, self.live.behind().as_secs_f64());
        if up != self.database_was_up {
            if up {
                tracing::info!("the journal can be read again");
            } else {
                tracing::warn!(reason, "the journal cannot be read; trying again");
            }
            self.database_was_up = up;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feeds.close();
    }
}

/// Tells whether a row is told as soon as polling would bring it. Where that is not known, it is.
fn is_fresh(told: &Told) -> bool {
    let Some(timing) = &told.timing else { return true };
    let since = Micros::now().since(timing.begun.plus(timing.committed));
    timing.origin.boot != Origin::now().boot || since < MICROS_FRESH
}

fn record(applied: &Applied) {
    telemetry::set_count(Metric::FollowerSequence, applied.batch.sequence.get());
}
