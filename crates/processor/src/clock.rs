//! Journal time: the wall clock once, at takeover, and the monotonic clock from there on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use units::Time;

/// How far the wall clock may be off PostgreSQL's for a takeover.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(5);

/// The sequencer's clock. Never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Time,
    since: Instant,
}

impl Clock {
    /// Begins at the wall clock's time, or at the journal's last time where that is later.
    pub(crate) fn start(wall: Duration, journal: Time) -> Self {
        let micros = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        Self { base: Time::from_micros(micros).max(journal), since: Instant::now() }
    }

    /// Returns journal time now.
    pub(crate) fn now(&self) -> Time {
        self.base.plus_micros(u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// Reads the wall clock, as the time since 1970.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_time_never_goes_back_behind_the_journal() {
        let later = Time::from_micros(5_000_000);
        assert!(Clock::start(Duration::from_secs(1), later).now() >= later);
        assert!(Clock::start(Duration::from_secs(9), later).now() >= Time::from_micros(9_000_000));
    }
}
