//! Journal time.

use core::fmt;

/// A moment of journal time, in whole microseconds since 1970-01-01 00:00:00 UTC.
///
/// The core never reads a clock: time comes with the batch and never decreases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The beginning of time: before every journal.
    pub const ZERO: Self = Self(0);
    /// Later than every journal.
    pub const MAX: Self = Self(u64::MAX);

    /// Wraps microseconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Returns the whole seconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns the moment `micros` later, or the last one there is.
    #[must_use]
    #[inline]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns the microseconds from `earlier` to here, zero if `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
