//! Snapshots, by a follower of its own, at a committed batch.
//!
//! A state of millions of records takes seconds to write, and the live state cannot stand still that long. So the writer
//! loads the newest snapshot, follows the journal to its head, writes a new one, and forgets the state: it costs
//! nothing while nothing happens, and proves each time that the snapshot before can be recovered from. It does so on a
//! thread of its own that gives way to those who answer orders, and stalls none of them.
//! At shutdown, when nothing moves any more, the live state itself is written.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine::State;
use journal::Snapshot;
use store::snapshots::Writer;
use store::{Db, DbConfig};
use telemetry::Metric;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use units::{Hash32, Sequence};

use crate::live::Live;
use crate::recover::{FollowError, HEAD, recover};

/// How often it is looked whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(5);
/// Snapshots that are kept: the newest, and those that stand in for it should it be bad.
const KEEP: u32 = 3;
/// Chunks of at most a megabyte that wait for the database.
const CHUNKS_MAX: usize = 4;
/// How far the writer's thread stands behind others in the line for a processor (`nice`): it still gets a tenth of what
/// one of them gets, in which it follows the journal faster than that grows.
const NICE: i32 = 10;
/// Rows after which a snapshot is due, however few commands are in them: some hours of ticks.
const ROWS_MAX: u64 = 20_000;

/// Takes a snapshot whenever `commands_max` commands, or [`ROWS_MAX`] rows, were committed since the last, until
/// `shutdown`. Of several processes that do this, one takes it.
pub async fn take_snapshots(
    db: Db,
    live: Arc<Live>,
    commands_max: u64,
    shutdown: CancellationToken,
) {
    let mut batches = live.subscribe();
    let mut commands = 0_u64;
    let mut rows = 0_u64;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            batch = batches.recv() => match batch {
                Ok(applied) => {
                    rows += 1;
                    commands += u64::try_from(applied.batch.entries.len()).unwrap_or(0);
                }
                // Some were missed: at least as many as the channel has, of unknown size. Look soon.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                    rows += missed;
                    commands += missed * 100;
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            _ = look.tick() => {
                if commands < commands_max && rows < ROWS_MAX {
                    continue;
                }
                match take(&db, commands_max, &shutdown).await {
                    Ok(Some(since)) => (rows, commands) = since,
                    // Whether it comes about is seen the next time.
                    Ok(None) => {}
                    Err(error) => tracing::warn!(reason = %error, "no snapshot was taken; trying again"),
                }
            }
        }
    }
}

/// Takes a snapshot, unless somebody else has just taken one. Returns how many rows and commands were committed since the
/// newest one; `None`: somebody else is taking one now, or it was to shut down first.
async fn take(
    db: &Db,
    commands_max: u64,
    shutdown: &CancellationToken,
) -> Result<Option<(u64, u64)>, FollowError> {
    let Some(_turn) = store::snapshots::try_turn(db).await? else { return Ok(None) };
    let (rows, commands) = store::snapshots::journal_since(db).await?;
    if commands < commands_max && rows < ROWS_MAX {
        return Ok(Some((rows, commands)));
    }
    let Some(sequence) = apart(db, shutdown.clone()).await? else { return Ok(None) };
    tracing::info!(sequence = sequence.get(), "took a snapshot");
    Ok(Some((0, 0)))
}

/// Has [`cold`] done on a thread of its own, with a runtime and connections of its own; `None`: it was to shut down first.
async fn apart(db: &Db, shutdown: CancellationToken) -> Result<Option<Sequence>, FollowError> {
    let config =
        DbConfig { application_name: "kx-snapshot".to_owned(), pool_max: 1, ..db.config().clone() };
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        // The threads that it starts take its place in the line with them. Where it keeps the usual one, all else works.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a snapshot is written at the usual priority");
        }
        let written = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                let db = Db::lazy(config);
                shutdown.run_until_cancelled(cold(&db)).await
            }),
            Err(_) => Some(Err(FollowError::Snapshot)),
        };
        // Nobody waits any more at shutdown.
        let _ = sender.send(written);
    };
    let thread = thread::Builder::new().name("snapshot".to_owned()).spawn(work);
    thread.map_err(|_| FollowError::Snapshot)?;
    receiver.await.map_err(|_| FollowError::Snapshot)?.transpose()
}

/// Loads the newest snapshot, follows the journal to its head, and writes a new one.
async fn cold(db: &Db) -> Result<Sequence, FollowError> {
    let begun = Instant::now();
    let recovered = recover(db, HEAD, |_| ()).await?;
    if recovered.state.sequence() > recovered.snapshot {
        let (send, chunks) = mpsc::channel(CHUNKS_MAX);
        let hash = recovered.hash;
        let writing = tokio::task::spawn_blocking(move || write(&recovered.state, hash, &send));
        save(db, writing, chunks).await?;
        telemetry::observe(Metric::SnapshotDuration, begun.elapsed());
    }
    Ok(store::snapshots::newest_at_or_before(db, HEAD)
        .await?
        .map_or(Sequence::new(0), |newest| newest.snapshot.sequence))
}

/// Writes the live state, when nothing moves any more: at shutdown, after the follower has ended. Returns the row it
/// stands on; nothing is written where there is a snapshot of it already.
///
/// # Errors
///
/// [`FollowError::Store`]; [`FollowError::Chain`] where the state is none of this journal's.
pub async fn final_snapshot(db: &Db, live: Arc<Live>) -> Result<Sequence, FollowError> {
    let sequence = live.sequence();
    let newest = store::snapshots::newest_at_or_before(db, HEAD).await?;
    if sequence == Sequence::new(0)
        || newest.is_some_and(|newest| newest.snapshot.sequence >= sequence)
    {
        return Ok(sequence);
    }
    let hash = live.hash();
    // A database that was restored under this process has another row there, or none: a snapshot of what this process
    // knows would be one of another history.
    let row = store::journal::row(db, sequence).await?;
    if row.is_none_or(|row| row.hash != hash) {
        let what = "the state at shutdown is none of this journal's";
        return Err(FollowError::Chain { last: sequence, found: sequence, what });
    }
    let (send, chunks) = mpsc::channel(CHUNKS_MAX);
    let writing = tokio::task::spawn_blocking(move || live.read(|state| write(state, hash, &send)));
    save(db, writing, chunks).await?;
    Ok(sequence)
}

/// Makes the chunks, on a thread that may wait for the database.
fn write(state: &State, journal_hash: Hash32, send: &mpsc::Sender<Vec<u8>>) -> Snapshot {
    // A receiver that is gone has failed and says so itself.
    let state_hash = journal::write_snapshot(state, &mut |chunk| drop(send.blocking_send(chunk)));
    Snapshot {
        sequence: state.sequence(),
        time: state.time(),
        incarnation: state.settings().map_or(0, |settings| settings.incarnation),
        journal_hash,
        state_hash,
        format: journal::FORMAT,
    }
}

async fn save(
    db: &Db,
    writing: JoinHandle<Snapshot>,
    mut chunks: mpsc::Receiver<Vec<u8>>,
) -> Result<(), FollowError> {
    let mut writer = Writer::begin(db).await?;
    while let Some(chunk) = chunks.recv().await {
        writer.push(&chunk).await?;
    }
    let snapshot = writing.await.map_err(|_| FollowError::Snapshot)?;
    writer.finish(&snapshot).await?;
    telemetry::set_count(Metric::SnapshotSequence, snapshot.sequence.get());
    store::snapshots::prune(db, KEEP).await?;
    Ok(())
}
