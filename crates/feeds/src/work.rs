//! What a source's task works with: its place on the board, and the times that it keeps.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use breaker::Rules;
use parking_lot::Mutex;
use rand::Rng as _;

use crate::binance::Quote;
use crate::board::{Board, Moment, Taken};

/// The times that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// What a source has said is used for so long. A stream that says nothing of use for so long is given up.
    pub stale: Duration,
    /// How often a source is asked over HTTP.
    pub poll: Duration,
    /// How long making a connection may take.
    pub connect_max: Duration,
    /// How long an answer over HTTP may take, connection included.
    pub answer_max: Duration,
    /// How long after the first failure a connection is tried again; doubled with each further one.
    pub retry_min: Duration,
    /// How long at most.
    pub retry_max: Duration,
    /// How often our own markets and everybody's health are looked at.
    pub look: Duration,
    /// The breaker around each source.
    pub breaker: Rules,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stale: Duration::from_secs(30),
            poll: Duration::from_secs(10),
            connect_max: Duration::from_secs(10),
            answer_max: Duration::from_secs(10),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            look: Duration::from_secs(1),
            breaker: Rules {
                calls_max: 10,
                bad_max: 5,
                slow: Duration::from_secs(5),
                // A stream stays connected after a good probe: there is no second one for a day.
                probes: 1,
                open: Duration::from_secs(30),
                open_max: Duration::from_secs(300),
            },
        }
    }
}

/// The board, and the clocks.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) board: Mutex<Board>,
    begun: Instant,
}

impl Shared {
    pub(crate) fn new(board: Board) -> Self {
        Self { board: Mutex::new(board), begun: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Moment { run: self.begun.elapsed(), wall_ms }
    }
}

/// One source's work.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timing: Timing,
    /// Its place on the board.
    pub(crate) feed: usize,
}

impl Work {
    pub(crate) fn wanted(&self) -> Vec<String> {
        self.shared.board.lock().wanted(self.feed)
    }

    pub(crate) fn connected(&self) {
        self.shared.board.lock().set_connected(self.feed, Ok(()));
    }

    pub(crate) fn failed(&self, why: &'static str) {
        self.shared.board.lock().set_connected(self.feed, Err(why));
    }

    pub(crate) fn trouble(&self, why: &'static str) {
        self.shared.board.lock().set_trouble(self.feed, why);
    }

    pub(crate) fn take(&self, quote: &Quote) -> Taken {
        let now = self.shared.now();
        self.shared.board.lock().take(self.feed, quote, now)
    }
}

/// Returns how long to wait after so many failures: doubled with each, up to the limit, and never the same for all.
pub(crate) fn backoff(timing: &Timing, failures: u32) -> Duration {
    let doubled = timing.retry_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(doubled.min(timing.retry_max))
}

/// Returns a time between the given one and a quarter more, so that many servers do not come at once.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let quarter = u64::try_from(wait.as_micros() / 4).unwrap_or(u64::MAX);
    wait + Duration::from_micros(rand::rng().random_range(0..=quarter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_differ() {
        let timing = Timing::default();
        for (failures, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (7, 60), (u32::MAX, 60)] {
            let wait = backoff(&timing, failures);
            let least = Duration::from_secs(seconds);
            assert!(wait >= least && wait <= least + least / 4, "{failures}: {wait:?}");
        }
        let first = backoff(&timing, 9);
        assert!((0..100).any(|_| backoff(&timing, 9) != first));
    }
}
