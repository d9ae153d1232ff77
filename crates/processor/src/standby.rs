//! What a sequencer does while it is not active.

use std::time::{Duration, Instant};

use store::Db;
use tokio_util::sync::CancellationToken;

use crate::status::Status;

/// How long a deposed sequencer, or one whose database is away, waits before it looks again.
pub(crate) const STANDBY_LOOK: Duration = Duration::from_millis(500);
/// How long the journal must stand still before a deposed sequencer claims it again: an active one ticks every second.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// Waits, or until `shutdown`.
pub(crate) async fn pause(duration: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(duration) => {}
    }
}

/// Stands by until the journal has stood still for so long that whoever claimed it must be gone.
pub(crate) async fn wait_for_silence(db: &Db, status: &Status, shutdown: &CancellationToken) {
    let mut last = None;
    let mut since = Instant::now();
    while !shutdown.is_cancelled() && since.elapsed() < SILENCE_MIN {
        status.beat();
        match store::journal::head(db).await {
            Ok(head) if head != last => (last, since) = (head, Instant::now()),
            Ok(_) => {}
            // A database that is away says nothing of the other's silence.
            Err(_) => since = Instant::now(),
        }
        pause(STANDBY_LOOK, shutdown).await;
    }
}
