//! Step 7 of the order's way: the writers of the projections.
//!
//! Invariant: a part's batches are written in order and without gaps, each with its progress in the same transaction. A
//! writer that does not know what came between its progress and its feed reads it from the journal, with a state of its
//! own; the follower is not stopped for that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use journal::Applied;
use parking_lot::Mutex;
use store::projections::{Filled, Part, Projector, Source};
use store::{Db, StoreError};
use telemetry::Metric;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trace::{Micros, ProjectionRecord, Recorder};
use units::{Sequence, Time};

use crate::feeds::{Feed, Feeds, Waiting};
use crate::live::Live;
use crate::recover::{FollowError, load_snapshot};
use crate::volume;

/// Batches that one transaction writes at most.
const BATCHES_AT_ONCE: usize = 1_024;
/// Commands after which a transaction takes no more batches: larger ones gain nothing.
const COMMANDS_AT_ONCE: usize = 4_096;
/// How much longer than a write a writer then pauses, so that more comes together: a transaction of a few rows costs PostgreSQL
/// and the disk nearly what one of many does, many changes of one balance are one row, and the sequencer needs both. What
/// somebody waits for is written at once.
const PAUSE_FACTOR: u32 = 3;
/// The shortest such pause.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Rows before the followed state from which on a feed is attached: few enough to be read before the feed is full.
const NEAR: u64 = 256;
/// The first pause before what has failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest one.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What all writers of one process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) live: Arc<Live>,
    pub(crate) feeds: Arc<Feeds>,
    /// Where each part stands that this process writes, in the order of [`Part::ALL`].
    standings: Arc<Mutex<[Option<Sequence>; 3]>>,
    /// The journal time of each, once a row was written.
    times: Arc<Mutex<[Option<Time>; 3]>>,
    recorder: Arc<Recorder>,
}

impl Shared {
    pub(crate) fn new(db: Db, live: Arc<Live>, feeds: Arc<Feeds>, recorder: Arc<Recorder>) -> Self {
        let (standings, times) = (Arc::default(), Arc::default());
        Self { db, live, feeds, standings, times, recorder }
    }

    /// Notes that this process does not write a part any more. Its worker was told to stop before.
    pub(crate) fn forget(&self, part: Part) {
        let mut standings = self.standings.lock();
        standings[part as usize] = None;
        self.show(*standings);
        // Whoever writes it now says how far it is.
        self.times.lock()[part as usize] = None;
        telemetry::set_labelled(Metric::ProjectionLag, &[part.name()], 0.0);
    }

    /// Shows how far each part is behind. Called often, so that one that nobody gets written says so too.
    pub(crate) fn show_lag(&self) {
        let (head, now) = self.live.read(|state| (state.sequence(), state.time()));
        let (standings, times) = (*self.standings.lock(), *self.times.lock());
        for part in Part::ALL {
            let (Some(standing), Some(time)) = (standings[part as usize], times[part as usize])
            else {
                continue;
            };
            let micros = if standing >= head { 0 } else { now.micros_since(time) };
            let lag = Duration::from_micros(micros).as_secs_f64();
            telemetry::set_labelled(Metric::ProjectionLag, &[part.name()], lag);
        }
    }

    /// Tells whoever waits for the projections where the slowest part is, if this process writes them all.
    fn show(&self, standings: [Option<Sequence>; 3]) {
        let all: Option<Vec<Sequence>> = standings.into_iter().collect();
        let slowest = all.and_then(|all| all.into_iter().min());
        self.live.mark_projected(slowest.unwrap_or(Sequence::new(0)));
    }
}

/// A part, and who is to write it.
#[derive(Clone)]
struct Task {
    shared: Shared,
    part: Part,
    stop: CancellationToken,
}

impl Task {
    /// Notes that the part has rows up to this one, of which so many were written now.
    fn written(&self, sequence: Sequence, rows: u64) {
        let mut standings = self.shared.standings.lock();
        // Under the lock: what somebody else writes from now on is not noted again.
        if self.stop.is_cancelled() {
            return;
        }
        standings[self.part as usize] = Some(sequence);
        self.shared.show(*standings);
        drop(standings);
        let labels = [self.part.name()];
        telemetry::set_count_labelled(Metric::ProjectionSequence, &labels, sequence.get());
        telemetry::add_labelled(Metric::ProjectionRows, &labels, rows);
    }

    /// Notes the journal time of the last row that was written.
    fn lag(&self, time: Time) {
        self.shared.times.lock()[self.part as usize] = Some(time);
        let now = self.shared.live.read(engine::State::time);
        let lag = Duration::from_micros(now.micros_since(time)).as_secs_f64();
        telemetry::set_labelled(Metric::ProjectionLag, &[self.part.name()], lag);
    }

    /// Notes when batches with commands from outside were written.
    fn note<'a>(
        &self,
        batches: impl Iterator<Item = &'a Arc<Applied>>,
        begun: Micros,
        micros: u32,
    ) {
        let has_commands = |applied: &&Arc<Applied>| {
            let mut entries = applied.batch.entries.iter();
            entries.any(|entry| entry.command.origin == engine::Origin::Client)
        };
        let mut with_commands = batches.filter(has_commands);
        let Some(first) = with_commands.next() else { return };
        let last = with_commands.last().unwrap_or(first);
        self.shared.recorder.projection(ProjectionRecord {
            part: self.part.name(),
            first: first.batch.sequence.get(),
            last: last.batch.sequence.get(),
            begun,
            micros,
        });
    }
}

/// Writes one part until it is told to stop, or its feed has ended.
pub(crate) struct Worker {
    task: Task,
    projector: Projector,
    /// How far the part is, as far as this worker knows.
    standing: Sequence,
}

/// Why a worker writes no more from its feed.
enum End {
    /// The feed has ended, or it was told to stop.
    Stopped,
    /// What the feed brings does not follow what is written.
    Gap,
}

impl Worker {
    pub(crate) fn new(shared: Shared, part: Part, stop: CancellationToken) -> Self {
        let projector = Projector::new(shared.db.clone(), part);
        Self { task: Task { shared, part, stop }, projector, standing: Sequence::new(0) }
    }

    async fn run(mut self, mut feed: Feed) {
        loop {
            let stop = self.task.stop.clone();
            let ended = tokio::select! {
                biased;
                // A transaction that is dropped in the middle is undone, or done as a whole: the next one asks.
                () = stop.cancelled() => return,
                ended = self.follow(&mut feed) => ended,
            };
            drop(feed);
            match ended {
                End::Stopped => return,
                End::Gap => {}
            }
            tokio::time::sleep(RETRY_MIN).await;
            let feeds = catch_up(&self.task.shared.clone(), std::slice::from_mut(&mut self)).await;
            match feeds.into_iter().next() {
                Some(next) => feed = next,
                None => return,
            }
        }
    }

    /// Writes what the feed brings.
    async fn follow(&mut self, feed: &mut Feed) -> End {
        let mut waiting = Vec::new();
        while feed.next(&mut waiting, BATCHES_AT_ONCE).await > 0 {
            let begun = Instant::now();
            let commands: usize = waiting.iter().map(|each| each.applied.batch.entries.len()).sum();
            while !waiting.is_empty() {
                let count = take(&waiting);
                let batches: Vec<Arc<Applied>> =
                    waiting.iter().take(count).map(|each| Arc::clone(&each.applied)).collect();
                if !self.write(&batches).await {
                    return End::Gap;
                }
                feed.release(waiting.drain(..count));
            }
            // Where so much waits, larger transactions gain nothing.
            if commands < COMMANDS_AT_ONCE {
                let pause = (begun.elapsed() * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.task.shared.live.wanted_beyond(self.standing) => {}
                }
            }
        }
        End::Stopped
    }

    /// Writes until it succeeds; false: it never will.
    async fn write(&mut self, batches: &[Arc<Applied>]) -> bool {
        let mut pause = RETRY_MIN;
        loop {
            let (begun, started) = (Instant::now(), Micros::now());
            match self.projector.write(batches).await {
                Ok(sequence) => {
                    telemetry::observe(Metric::ProjectionDuration, begun.elapsed());
                    self.task.note(batches.iter(), started, Micros::now().since(started));
                    let rows = sequence.get().saturating_sub(self.standing.get());
                    self.standing = sequence;
                    self.task.written(sequence, rows);
                    if self.task.part == Part::MarketData {
                        volume::count(&self.task.shared.live, batches);
                    }
                    if let Some(last) = batches.last() {
                        self.task.lag(last.batch.time);
                    }
                    return true;
                }
                Err(error @ StoreError::Corrupt(_)) => {
                    let part = self.task.part.name();
                    tracing::warn!(part, reason = %error, "the projections are read from the journal");
                    return false;
                }
                Err(error) => pause = wait(&error, pause).await,
            }
        }
    }
}

/// Runs workers that begin together, until all have ended or one has panicked.
pub(crate) async fn run(shared: Shared, mut workers: Vec<Worker>) {
    let feeds = catch_up(&shared, &mut workers).await;
    let mut running = JoinSet::new();
    for (worker, feed) in workers.into_iter().zip(feeds) {
        running.spawn(worker.run(feed));
    }
    while let Some(ended) = running.join_next().await {
        if ended.is_err() {
            tracing::error!(
                "a writer of the projections has panicked; all that began with it begin anew"
            );
            return;
        }
    }
}

/// Brings parts so near to the followed state that feeds take over, and returns these in the order of the workers. None:
/// all of them were told to stop.
async fn catch_up(shared: &Shared, workers: &mut [Worker]) -> Vec<Feed> {
    let stops: Vec<CancellationToken> =
        workers.iter().map(|worker| worker.task.stop.clone()).collect();
    let stopped = async {
        join_all(stops.iter().map(CancellationToken::cancelled)).await;
    };
    let reached = async {
        let mut pause = RETRY_MIN;
        loop {
            match try_catch_up(shared, workers).await {
                Ok(feeds) => return feeds,
                Err(FollowError::Store(error)) => pause = wait(&error, pause).await,
                Err(error) => {
                    tracing::error!(reason = %error, "the projections cannot be written; trying again");
                    tokio::time::sleep(RETRY_MAX).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stopped => Vec::new(),
        feeds = reached => feeds,
    }
}

async fn try_catch_up(shared: &Shared, workers: &mut [Worker]) -> Result<Vec<Feed>, FollowError> {
    let live = &shared.live;
    let mut slowest = Sequence::new(u64::MAX);
    for worker in workers.iter_mut() {
        worker.standing = worker.projector.progress().await?;
        worker.task.written(worker.standing, 0);
        slowest = slowest.min(worker.standing);
    }
    let attach = |count| (0..count).map(|_| shared.feeds.attach()).collect::<Vec<_>>();
    if slowest >= live.sequence() {
        let feeds = attach(workers.len());
        // What was followed before a feed was there, it may not have.
        if slowest >= live.sequence() {
            return Ok(feeds);
        }
    }
    let recovered = load_snapshot(&shared.db, slowest).await?;
    let mut source = Source::new(shared.db.clone(), recovered.state, recovered.hash);
    while source.sequence().get() + NEAR < live.sequence().get() {
        source = fill(workers, source, live.sequence()).await?;
    }
    let feeds = attach(workers.len());
    let source = fill(workers, source, live.sequence()).await?;
    // A large state takes its time to go.
    drop(tokio::task::spawn_blocking(move || drop(source)));
    Ok(feeds)
}

/// Writes the journal's rows up to one from a private state.
async fn fill(
    workers: &mut [Worker],
    source: Source,
    until: Sequence,
) -> Result<Source, StoreError> {
    let (mut tasks, mut projectors): (Vec<_>, Vec<_>) = workers
        .iter_mut()
        .map(|worker| ((worker.task.clone(), &mut worker.standing), &mut worker.projector))
        .unzip();
    let mut show = |Filled { batches, times, progress }: Filled<'_>| {
        for ((task, standing), (begun, micros)) in tasks.iter_mut().zip(times) {
            let new = batches.iter().filter(|applied| applied.batch.sequence > **standing);
            task.note(new, begun, micros);
            let rows = progress.done.get().saturating_sub(standing.get());
            **standing = (**standing).max(progress.done);
            task.written(**standing, rows);
        }
    };
    source.fill(&mut projectors, until, &mut show).await
}

/// Says that a write has failed, waits, and returns how long to wait the next time.
async fn wait(error: &StoreError, pause: Duration) -> Duration {
    let pause = if error.is_transient() {
        tracing::warn!(reason = %error, "the projections cannot be written; trying again");
        pause
    } else {
        tracing::error!(reason = %error, "the projections cannot be written; trying again");
        RETRY_MAX
    };
    tokio::time::sleep(pause).await;
    (pause * 2).min(RETRY_MAX)
}

/// Returns how many of the waiting batches one transaction takes: at least one.
fn take(waiting: &[Waiting]) -> usize {
    let mut commands = 0;
    let count = waiting.iter().take_while(|each| {
        let fits = commands < COMMANDS_AT_ONCE;
        commands += each.applied.batch.entries.len();
        fits
    });
    count.count().max(1)
}
