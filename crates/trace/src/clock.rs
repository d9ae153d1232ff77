//! The clock that stages are measured with: the machine's monotonic one, which all processes of one boot share.
//!
//! Invariant: two times are compared only where both are of one boot. What else crosses processes is estimated, and says so.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Microseconds of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Micros(pub u64);

impl Micros {
    /// Returns the time now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000)
    }

    /// Returns the microseconds since `earlier`; 0 where that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(u32::MAX)
    }

    /// Returns the time so many microseconds later.
    #[must_use]
    pub fn plus(self, micros: u32) -> Self {
        Self(self.0.saturating_add(u64::from(micros)))
    }
}

/// Where a process' times are from: which boot of which machine, and where its wall clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Names the boot whose monotonic clock it is.
    pub boot: u64,
    /// Wall clock less monotonic clock, in microseconds since 1970: for showing, never for measuring.
    pub wall: i64,
}

impl Origin {
    /// Returns this process' origin, with the wall clock as it stands now.
    #[must_use]
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        let monotonic = i64::try_from(Micros::now().0).unwrap_or(i64::MAX);
        Self { boot: *BOOT, wall: wall.saturating_sub(monotonic) }
    }

    /// Returns a time in microseconds since 1970.
    #[must_use]
    pub fn wall(self, at: Micros) -> u64 {
        let at = i64::try_from(at.0).unwrap_or(i64::MAX);
        u64::try_from(self.wall.saturating_add(at)).unwrap_or(0)
    }
}

/// The system's id of this boot, hashed; where it has none, a number that no other process has.
static BOOT: LazyLock<u64> =
    LazyLock::new(|| match std::fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) => first_eight(&Sha256::digest(id)),
        Err(_) => rand::random(),
    });

pub(crate) fn first_eight(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_is_never_negative() {
        let (first, second) = (Micros::now(), Micros::now());
        assert!(second >= first);
        assert_eq!(first.since(first.plus(7)), 0);
        assert_eq!(first.plus(7).since(first), 7);
    }

    #[test]
    fn one_boot_has_one_name_and_the_wall_clock_is_todays() {
        let (a, b) = (Origin::now(), Origin::now());
        assert_eq!(a.boot, b.boot);
        let year_2020 = 1_577_836_800_000_000;
        assert!(a.wall(Micros::now()) > year_2020);
    }
}
