//! The parts of an exchange in one process, started and stopped in the right order: sequencer, follower, projections,
//! snapshots.
//!
//! Invariant: they are stopped in the order of the order's way, so that what was decided is followed, projected and in the
//! last snapshot.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use follower::{FollowError, Follower, Hold, Live};
use processor::{Genesis, ProcessorError, Status};
use queue::{CommandConsumer, CommandPublisher as _, InProcessFanOut, InProcessQueue};
use store::{Db, DbConfig};
use telemetry::Metric;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Messages that the in-process queue holds; one is at most a kilobyte, and mostly a tenth of it.
const QUEUE_MESSAGES_MAX: usize = 65_536;
/// Rows that the fan-out keeps for a follower that is slow.
const FAN_OUT_ROWS_MAX: usize = 256;
/// How long following the last rows, projecting them and the last snapshot may each take at shutdown.
const STOP_MAX: Duration = Duration::from_secs(8);

/// How an exchange is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What an empty journal is born with.
    pub genesis: Genesis,
    /// Whether it is run for real.
    pub production: bool,
    /// Commands that one batch takes at most.
    pub batch_commands_max: usize,
    /// Commands between two snapshots.
    pub snapshot_commands: u64,
    /// Whether projections are written.
    pub projections: bool,
}

/// A running exchange without its server.
pub struct Exchange {
    /// The followed state.
    pub live: Arc<Live>,
    /// The queue of commands.
    pub queue: InProcessQueue,
    db: Db,
    status: Arc<Status>,
    sequencer: oneshot::Receiver<Result<(), ProcessorError>>,
    sequencer_stop: CancellationToken,
    follower: JoinHandle<Result<(), FollowError>>,
    follower_stop: CancellationToken,
    projections: Option<JoinHandle<()>>,
    projections_stop: CancellationToken,
    snapshots: JoinHandle<()>,
    ended: bool,
}

impl Exchange {
    /// Starts the parts on a database whose schema is ours.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub async fn start(db: Db, settings: Settings, status: Arc<Status>) -> anyhow::Result<Self> {
        let queue = InProcessQueue::new(QUEUE_MESSAGES_MAX);
        let fan_out = InProcessFanOut::new(FAN_OUT_ROWS_MAX);
        // It listens before the snapshot is read, so that nothing falls between the two.
        let subscriber = Box::new(fan_out.subscriber());
        let sequencer_stop = CancellationToken::new();
        tokio::spawn(measure_queue(queue.clone(), sequencer_stop.clone()));
        let sequencer = start_sequencer(
            &db,
            &settings,
            &queue,
            fan_out,
            Arc::clone(&status),
            sequencer_stop.clone(),
        )?;

        let follower = Follower::load(db.clone(), subscriber).await?;
        let live = follower.live();
        let (follower_stop, projections_stop) =
            (CancellationToken::new(), CancellationToken::new());
        let projections = settings.projections.then(|| {
            tokio::spawn(follower::share_projections(
                db.clone(),
                Arc::clone(&live),
                follower.feeds(),
                Hold::All,
                projections_stop.clone(),
            ))
        });
        let snapshots = follower::take_snapshots(
            db.clone(),
            Arc::clone(&live),
            settings.snapshot_commands,
            follower_stop.clone(),
        );
        Ok(Self {
            live,
            queue,
            db,
            status,
            sequencer,
            sequencer_stop,
            follower: tokio::spawn(follower.run(follower_stop.clone())),
            follower_stop,
            projections,
            projections_stop,
            snapshots: tokio::spawn(snapshots),
            ended: false,
        })
    }

    /// Waits until the sequencer is active and the followed state has its first row, and with it the time.
    ///
    /// # Errors
    ///
    /// The sequencer or the follower has ended instead.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(reason) = self.live.stopped() {
                anyhow::bail!("the journal cannot be followed: {reason}");
            }
            let first = self.status.first_row();
            if self.status.is_active() && self.live.has_caught_up() && self.live.sequence() >= first
            {
                return Ok(());
            }
            tokio::select! {
                failed = self.failed() => return Err(failed),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }

    /// Waits until the sequencer has ended although nobody told it to, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        if self.ended {
            return std::future::pending().await;
        }
        let ended = (&mut self.sequencer).await;
        self.ended = true;
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("the sequencer has ended"),
            Ok(Err(error)) => error.into(),
            Err(_) => anyhow::anyhow!("the sequencer has panicked: the log has the cause"),
        }
    }

    /// Stops the parts, each after the one that feeds it.
    pub async fn stop(mut self) {
        self.sequencer_stop.cancel();
        if !self.ended && tokio::time::timeout(STOP_MAX, &mut self.sequencer).await.is_err() {
            tracing::warn!("the sequencer did not stop in time");
        }
        self.follow_the_last_rows().await;
        self.follower_stop.cancel();
        // The follower takes the feeds with it, and the writers end when they have written what was in them.
        if tokio::time::timeout(STOP_MAX, &mut self.follower).await.is_err() {
            self.follower.abort();
            let _ = (&mut self.follower).await;
        }
        if let Some(mut projections) = self.projections.take()
            && tokio::time::timeout(STOP_MAX, &mut projections).await.is_err()
        {
            tracing::warn!(
                "the projections were not written to the end; they go on from there at the next start"
            );
            self.projections_stop.cancel();
            let _ = projections.await;
        }
        self.snapshots.abort();
        if self.live.stopped().is_none() {
            let snapshot = follower::final_snapshot(&self.db, Arc::clone(&self.live));
            match tokio::time::timeout(STOP_MAX, snapshot).await {
                Ok(Ok(sequence)) => {
                    tracing::info!(sequence = sequence.get(), "took the last snapshot")
                }
                Ok(Err(error)) => tracing::warn!(reason = %error, "no last snapshot was taken"),
                Err(_) => tracing::warn!("no last snapshot was taken: it took too long"),
            }
        }
    }

    async fn follow_the_last_rows(&self) {
        let head = tokio::time::timeout(STOP_MAX, store::journal::head(&self.db)).await;
        if let Ok(Ok(Some((sequence, _, _)))) = head {
            self.live.wait_for(sequence, STOP_MAX).await;
        }
    }
}

/// Shows how many commands wait.
async fn measure_queue(queue: InProcessQueue, stop: CancellationToken) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    while !stop.is_cancelled() {
        interval.tick().await;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let depth = queue.depth().unwrap_or(0) as f64;
        telemetry::set_labelled(Metric::QueueMessages, &[queue::ORDERS], depth);
    }
}

/// Starts the sequencer on a thread of its own, with a runtime and a connection of its own: however busy the server is,
/// a decided batch does not wait behind requests.
fn start_sequencer(
    db: &Db,
    settings: &Settings,
    queue: &InProcessQueue,
    fan_out: InProcessFanOut,
    status: Arc<Status>,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<Result<(), ProcessorError>>> {
    let (sender, receiver) = oneshot::channel();
    let database = DbConfig {
        application_name: "kx-payment-processor".to_owned(),
        pool_max: 2,
        ..db.config().clone()
    };
    let config = processor::Config {
        owner: format!("pid {}", std::process::id()),
        commands_max: settings.batch_commands_max,
        genesis: settings.genesis.clone(),
        production: settings.production,
    };
    let queue = queue.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot make the sequencer's runtime")?;
    let run = move || {
        let consumer = move || Box::new(queue.consumer()) as Box<dyn CommandConsumer>;
        let ended = runtime.block_on(async move {
            processor::run(Db::lazy(database), config, consumer, Arc::new(fan_out), status, stop)
                .await
        });
        // Nobody may be waiting any more.
        let _ = sender.send(ended);
    };
    thread::Builder::new()
        .name("sequencer".to_owned())
        .spawn(run)
        .context("cannot start the sequencer's thread")?;
    Ok(receiver)
}
