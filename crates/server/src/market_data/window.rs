//! The statistics of the last 24 hours, exact by trade, in bounded memory.
//!
//! Invariant: the sums are those of the trades `t` with `now - 24 h < t ≤ now`, trade by trade. Trades are kept as
//! one [`Tally`] per second: at most 86,401 of them, whatever the rate. Only the second that the window's start
//! cuts through must be known finer; it is read back from the stored trades shortly before (see
//! [`Window::wants`]), as one tally per moment: trades of one moment come from one journal row and leave together.

use std::collections::VecDeque;

use units::{PriceTicks, Time};

use super::tally::Tally;

const SECOND: u64 = 1_000_000;
/// How long before the window's start reaches a second its trades are read back, in seconds.
const AHEAD_SECONDS: u64 = 5;
/// How many seconds are read back at once.
const CHUNK_SECONDS: u64 = 30;

/// The trades of a moment.
pub type Slot = (Time, Tally);

/// The rolling statistics of one market.
#[derive(Debug)]
pub struct Window {
    length_micros: u64,
    /// The earliest trades, moment by moment: all of their seconds that have not left yet.
    slots: VecDeque<Slot>,
    /// The trades after them, by second.
    seconds: VecDeque<(u64, Tally)>,
    /// Of `seconds`: each high that no later second reaches, falling; and each low, rising.
    highs: VecDeque<(u64, PriceTicks)>,
    lows: VecDeque<(u64, PriceTicks)>,
    lots: u128,
    notional: u128,
    trades: u64,
}

/// The seconds whose trades must be read back, by the ids of their first and last trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first trade.
    pub first_trade: u64,
    /// The last trade.
    pub last_trade: u64,
}

/// What was read back does not come to what was counted: the stored trades are not those of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored trades of second {second} do not come to what was counted when they happened")]
pub struct Mismatch {
    /// The second since 1970.
    pub second: u64,
}

impl Window {
    /// The length of the statistics' window: 24 hours.
    pub const DAY_MICROS: u64 = 86_400 * SECOND;

    /// Makes an empty window.
    #[must_use]
    pub fn new(length_micros: u64) -> Self {
        Self {
            length_micros,
            slots: VecDeque::new(),
            seconds: VecDeque::new(),
            highs: VecDeque::new(),
            lows: VecDeque::new(),
            lots: 0,
            notional: 0,
            trades: 0,
        }
    }

    /// Adds trades of one second, later than all before them.
    pub fn push(&mut self, second: u64, tally: &Tally) {
        match self.seconds.back_mut() {
            Some((last, sum)) if *last == second => sum.append(tally),
            _ => self.seconds.push_back((second, *tally)),
        }
        while self.highs.back().is_some_and(|(_, high)| *high <= tally.high) {
            self.highs.pop_back();
        }
        self.highs.push_back((second, tally.high));
        while self.lows.back().is_some_and(|(_, low)| *low >= tally.low) {
            self.lows.pop_back();
        }
        self.lows.push_back((second, tally.low));
        self.lots += tally.lots;
        self.notional += tally.notional;
        self.trades += tally.trades;
    }

    /// Lets go what is 24 hours old at `now`.
    pub fn advance(&mut self, now: Time) {
        let Some(cutoff) = self.cutoff(now) else { return };
        while self.slots.front().is_some_and(|(time, _)| time.micros() <= cutoff) {
            if let Some((_, tally)) = self.slots.pop_front() {
                self.subtract(&tally);
            }
        }
        // A second that was not read back in time leaves when all of it is over.
        while self.seconds.front().is_some_and(|(second, _)| (second + 1) * SECOND <= cutoff + 1) {
            if let Some((_, tally)) = self.seconds.pop_front() {
                self.subtract(&tally);
            }
        }
        self.trim();
    }

    /// Returns the trades that must be read back now, if any: those of the seconds that the window's start reaches
    /// next.
    #[must_use]
    pub fn wants(&self, now: Time) -> Option<Wanted> {
        let next = self.cutoff(now)? / SECOND;
        let (first, tally) = self.seconds.front()?;
        if *first > next + AHEAD_SECONDS {
            return None;
        }
        let until = first + CHUNK_SECONDS;
        let last = self.seconds.iter().take_while(|(second, _)| *second < until).last()?;
        Some(Wanted { first_trade: tally.first_trade, last_trade: last.1.last_trade })
    }

    /// Takes what was read back, moment by moment, for the seconds up to the last of them.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] when a second's moments do not come to its tally; nothing of that second is taken.
    pub fn refine(&mut self, slots: &[Slot]) -> Result<(), Mismatch> {
        let Some((last, _)) = slots.last() else { return Ok(()) };
        while let Some((second, counted)) = self.seconds.front().copied() {
            if second > last.seconds() {
                break;
            }
            let of_second = || slots.iter().filter(|(time, _)| time.seconds() == second);
            let mut moments = of_second().map(|(_, tally)| *tally);
            let sum = moments.next().map(|first| {
                moments.fold(first, |mut sum, tally| {
                    sum.append(&tally);
                    sum
                })
            });
            if sum != Some(counted) {
                return Err(Mismatch { second });
            }
            self.slots.extend(of_second());
            self.seconds.pop_front();
        }
        self.trim();
        Ok(())
    }

    /// Returns what the window comes to; `None` where nothing was traded in it.
    #[must_use]
    pub fn statistics(&self) -> Option<Tally> {
        let slots = self.slots.iter().map(|(_, tally)| tally);
        let first = self.slots.front().map(|(_, tally)| tally);
        let first = first.or_else(|| self.seconds.front().map(|(_, tally)| tally))?;
        let last = self.seconds.back().map(|(_, tally)| tally);
        let last = last.or_else(|| self.slots.back().map(|(_, tally)| tally))?;
        let highs = slots.clone().map(|tally| tally.high);
        let lows = slots.map(|tally| tally.low);
        let high = highs.chain(self.highs.front().map(|(_, high)| *high)).max()?;
        let low = lows.chain(self.lows.front().map(|(_, low)| *low)).min()?;
        Some(Tally {
            first_trade: first.first_trade,
            last_trade: last.last_trade,
            open: first.open,
            high,
            low,
            close: last.close,
            lots: self.lots,
            notional: self.notional,
            trades: self.trades,
        })
    }

    /// The last moment that is outside; `None` before the first day is over.
    fn cutoff(&self, now: Time) -> Option<u64> {
        now.micros().checked_sub(self.length_micros)
    }

    fn subtract(&mut self, tally: &Tally) {
        self.lots -= tally.lots;
        self.notional -= tally.notional;
        self.trades -= tally.trades;
    }

    /// Forgets the extremes of seconds that are not in `seconds` any more.
    fn trim(&mut self) {
        let first = self.seconds.front().map_or(u64::MAX, |(second, _)| *second);
        while self.highs.front().is_some_and(|(second, _)| *second < first) {
            self.highs.pop_front();
        }
        while self.lows.front().is_some_and(|(second, _)| *second < first) {
            self.lows.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
