//! A sequencer's turns: it waits in standby until the queue names it, takes the journal over, is active, and stands by
//! again when it is deposed, or when its queue or its database is away.

use std::sync::Arc;
use std::time::Instant;

use follower::Live;
use queue::{BatchPublisher, CommandSource};
use store::Db;
use telemetry::Metric;
use tokio_util::sync::CancellationToken;
use trace::Recorder;

use crate::batch::Decide;
use crate::error::ProcessorError;
use crate::genesis::Genesis;
use crate::sequencer::Sequencer;
use crate::standby::{self, STANDBY_LOOK, pause};
use crate::status::Status;
use crate::takeover::take_over;

/// How a sequencer runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is, for the `epoch` table and the log.
    pub owner: String,
    /// Commands that one batch takes at most.
    pub commands_max: usize,
    /// What an empty journal is born with.
    pub genesis: Genesis,
    /// Whether it is run for real: such a one opens no journal with play money.
    pub production: bool,
    /// How it decides: [`engine::decide`].
    pub decide: Decide,
}

/// What a sequencer works with.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The queue.
    pub source: Arc<dyn CommandSource>,
    /// Where committed rows are told.
    pub fan_out: Arc<dyn BatchPublisher>,
    /// The state that this process follows, to go on from at a takeover; `None`: it is loaded then.
    pub live: Option<Arc<Live>>,
    /// Where the times of commands are noted.
    pub recorder: Arc<Recorder>,
    /// What the outside may know.
    pub status: Arc<Status>,
}

/// Runs the sequencer until `shutdown`.
///
/// # Errors
///
/// [`ProcessorError`] where waiting does not help; the process should end then.
pub async fn run(
    parts: Parts,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), ProcessorError> {
    let mut turns = Turns { parts, config, deposed: false, reload: false, reported: false };
    while !shutdown.is_cancelled() {
        turns.parts.status.beat();
        let ended = turns.turn(&shutdown).await;
        turns.parts.status.set_inactive();
        match ended {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() => turns.stand_by(&error, &shutdown).await,
            Err(error) => {
                tracing::error!(reason = %error, "the sequencer has ended");
                if let ProcessorError::Evolve { commands } = &error
                    && let Err(error) = store::suspects::record(&turns.parts.db, commands).await
                {
                    tracing::error!(reason = %error, "the suspects could not be written");
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

struct Turns {
    parts: Parts,
    config: Config,
    /// Whether another one has claimed the journal since this one did.
    deposed: bool,
    /// Whether the followed state is not the journal's.
    reload: bool,
    /// Whether the log has the reason for standing by.
    reported: bool,
}

impl Turns {
    /// Waits to be named, takes over, and is active as long as that goes well. `Ok`: it was told to stop.
    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<(), ProcessorError> {
        let Parts { db, source, live, status, .. } = &self.parts;
        // Whoever cannot reach the database must not be the one whom the queue names.
        store::journal::head(db).await?;
        let mut consumer = source.consumer().await?;
        status.set_standby(true);
        let named =
            standby::wait_to_be_named(&mut *consumer, db, status, self.deposed, shutdown).await?;
        if !named {
            return Ok(());
        }
        let begun = Instant::now();
        let live = live.as_deref().filter(|_| !self.reload);
        let taken = take_over(db, &self.config, live).await?;
        telemetry::set(Metric::Takeover, begun.elapsed().as_secs_f64());
        (self.deposed, self.reload, self.reported) = (false, false, false);
        let sequencer = Sequencer::new(taken, &self.parts, &self.config, consumer);
        sequencer.run(shutdown).await
    }

    async fn stand_by(&mut self, error: &ProcessorError, shutdown: &CancellationToken) {
        if !self.reported {
            tracing::warn!(reason = %error, "the sequencer stands by");
            self.reported = true;
        }
        let status = &self.parts.status;
        status.set_waits_for(error.waits_for());
        let replaced = match error {
            ProcessorError::Deposed => true,
            ProcessorError::Queue(_) => standby::is_replaced(&self.parts.db, status).await,
            _ => false,
        };
        if replaced && !self.deposed {
            self.deposed = true;
            telemetry::add(Metric::Deposed, 1);
        }
        if let ProcessorError::DoesNotFollow(_) = error {
            self.reload = true;
        }
        pause(STANDBY_LOOK, shutdown).await;
    }
}
