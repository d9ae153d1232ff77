//! What a sequencer does while it is not active.

use std::time::{Duration, Instant};

use queue::CommandConsumer;
use store::Db;
use tokio_util::sync::CancellationToken;
use units::{Hash32, Sequence, Time};

use crate::error::ProcessorError;
use crate::status::Status;

/// How long a sequencer whose queue or database is away waits before it looks again, and how often a standby looks at the
/// journal.
pub(crate) const STANDBY_LOOK: Duration = Duration::from_millis(500);
/// How long the journal stands still before a standby makes the queue name somebody: an active one ticks every second.
const NUDGE_AFTER: Duration = Duration::from_millis(2_000);
/// How long the journal must stand still before one that was deposed claims it again, though it is named: else two that
/// are both named would depose one another for ever.
const SILENCE_MIN: Duration = Duration::from_secs(3);

/// Waits, or until `shutdown`.
pub(crate) async fn pause(duration: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(duration) => {}
    }
}

/// Waits until the queue names this consumer the active one; false when told to stop before that. One that was `deposed`
/// also waits until the journal has stood still for so long that whoever claimed it must be gone.
pub(crate) async fn wait_to_be_named(
    consumer: &mut dyn CommandConsumer,
    db: &Db,
    status: &Status,
    deposed: bool,
    shutdown: &CancellationToken,
) -> Result<bool, ProcessorError> {
    let mut silence = Silence::new();
    let (mut named, mut nudged) = (false, Instant::now());
    // Nobody may be active at all: the first start of an exchange.
    consumer.nudge().await?;
    loop {
        status.beat();
        if named && (!deposed || silence.lasts() >= SILENCE_MIN) {
            return Ok(true);
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            result = consumer.named(), if !named => {
                result?;
                named = true;
            }
            () = tokio::time::sleep(STANDBY_LOOK) => {
                // One that cannot read the journal could not take over either.
                status.set_waits_for("database: the journal cannot be read");
                status.set_standby(silence.look(db).await);
                if !named && silence.lasts() >= NUDGE_AFTER && nudged.elapsed() >= NUDGE_AFTER {
                    consumer.nudge().await?;
                    nudged = Instant::now();
                }
            }
        }
    }
}

/// Tells whether somebody else has claimed the journal since this process did.
pub(crate) async fn is_replaced(db: &Db, status: &Status) -> bool {
    let ours = status.epoch();
    ours > 0 && store::journal::epoch(db).await.is_ok_and(|epoch| epoch != ours)
}

/// How long the journal has stood still.
struct Silence {
    last: Option<(Sequence, Hash32, Time)>,
    since: Instant,
}

impl Silence {
    fn new() -> Self {
        Self { last: None, since: Instant::now() }
    }

    /// Looks at the journal's head; tells whether it could be read.
    async fn look(&mut self, db: &Db) -> bool {
        match store::journal::head(db).await {
            Ok(head) if head == self.last => true,
            Ok(head) => {
                (self.last, self.since) = (head, Instant::now());
                true
            }
            // A database that is away says nothing of the other's silence.
            Err(_) => {
                self.since = Instant::now();
                false
            }
        }
    }

    fn lasts(&self) -> Duration {
        self.since.elapsed()
    }
}
