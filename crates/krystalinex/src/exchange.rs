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
use queue::CommandPublisher;
use server::Mode;
use store::{Db, DbConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trace::Recorder;

use crate::config::Config;
use crate::markets::Markets;
use crate::transport::Transport;

/// How long following the last rows, projecting them and the last snapshot may each take at shutdown.
const STOP_MAX: Duration = Duration::from_secs(8);

/// How an exchange is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this process is among its like.
    pub owner: String,
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
    /// Where the times of commands and projections are noted.
    pub recorder: Arc<Recorder>,
}

impl Settings {
    /// What the configuration says. An empty journal gets new random numbers, and its play money outside production.
    #[must_use]
    pub fn new(config: &Config, markets: &Markets, recorder: &Arc<Recorder>) -> Self {
        let production = config.mode == Mode::Production;
        let settings = engine::Settings {
            incarnation: rand::random(),
            salt: rand::random(),
            sandbox: !production,
        };
        let Markets { limits, assets, markets } = markets.clone();
        Self {
            owner: host_name(),
            genesis: Genesis { settings, limits, assets, markets },
            production,
            batch_commands_max: config.batch_commands_max,
            snapshot_commands: config.snapshot_commands,
            projections: true,
            recorder: Arc::clone(recorder),
        }
    }
}

/// The host's name, as the system has it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A running exchange without its server.
pub struct Exchange {
    /// The followed state.
    pub live: Arc<Live>,
    /// The way to the sequencer, here or elsewhere.
    pub publisher: Arc<dyn CommandPublisher>,
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
    pub async fn start(
        db: Db,
        settings: Settings,
        transport: Transport,
        status: Arc<Status>,
    ) -> anyhow::Result<Self> {
        // It listens before the snapshot is read, so that nothing falls between the two.
        let subscriber = transport.subscriber();
        let sequencer_stop = CancellationToken::new();
        // Alone, it takes over at once, while the state is still being loaded for everybody else; a standby goes on from
        // the state that it has followed.
        let mut sequencer = None;
        if !transport.is_shared() {
            let parts = parts(&db, &transport, None, &status, &settings.recorder);
            sequencer = Some(start_sequencer(parts, &settings, sequencer_stop.clone())?);
        }

        let follower = Follower::load(db.clone(), subscriber).await?;
        let live = follower.live();
        let (follower_stop, projections_stop) =
            (CancellationToken::new(), CancellationToken::new());
        let hold = match transport.is_shared() {
            false => Hold::All,
            true => Hold::Leases {
                holder: format!("{} {:016x}", settings.owner, rand::random::<u64>()),
            },
        };
        let projections = settings.projections.then(|| {
            tokio::spawn(follower::share_projections(
                db.clone(),
                Arc::clone(&live),
                follower.feeds(),
                hold,
                Arc::clone(&settings.recorder),
                projections_stop.clone(),
            ))
        });
        let sequencer = match sequencer {
            Some(sequencer) => sequencer,
            None => {
                let parts =
                    parts(&db, &transport, Some(Arc::clone(&live)), &status, &settings.recorder);
                start_sequencer(parts, &settings, sequencer_stop.clone())?
            }
        };
        let snapshots = follower::take_snapshots(
            db.clone(),
            Arc::clone(&live),
            settings.snapshot_commands,
            follower_stop.clone(),
        );
        let audit = processor::audit(db.clone(), Arc::clone(&live), follower_stop.clone());
        tokio::spawn(audit);
        Ok(Self {
            live,
            publisher: transport.publisher,
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

    /// Waits until the sequencer is active, here or elsewhere, and the followed state has its first row, and with it the
    /// time.
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
            let decides = self.status.is_active() && self.live.sequence() >= first;
            // Somebody else decides then.
            let stands_by = self.status.is_standby() && self.live.incarnation() != 0;
            if self.live.has_caught_up() && (decides || stands_by) {
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

/// What the sequencer works with: connections of its own, so that a decided batch does not wait behind requests.
fn parts(
    db: &Db,
    transport: &Transport,
    live: Option<Arc<Live>>,
    status: &Arc<Status>,
    recorder: &Arc<Recorder>,
) -> processor::Parts {
    let database = DbConfig {
        application_name: "kx-payment-processor".to_owned(),
        pool_max: 2,
        ..db.config().clone()
    };
    processor::Parts {
        db: Db::lazy(database),
        source: Arc::clone(&transport.source),
        fan_out: Arc::clone(&transport.rows),
        live,
        recorder: Arc::clone(recorder),
        status: Arc::clone(status),
    }
}

/// Starts the sequencer on a thread of its own, with a runtime of its own, however busy the server is.
fn start_sequencer(
    parts: processor::Parts,
    settings: &Settings,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<Result<(), ProcessorError>>> {
    let (sender, receiver) = oneshot::channel();
    let config = processor::Config {
        owner: format!("{} pid {}", settings.owner, std::process::id()),
        commands_max: settings.batch_commands_max,
        genesis: settings.genesis.clone(),
        production: settings.production,
        decide: engine::decide,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot make the sequencer's runtime")?;
    let run = move || {
        let ended = runtime.block_on(processor::run(parts, config, stop));
        // Nobody may be waiting any more.
        let _ = sender.send(ended);
    };
    thread::Builder::new()
        .name("sequencer".to_owned())
        .spawn(run)
        .context("cannot start the sequencer's thread")?;
    Ok(receiver)
}
