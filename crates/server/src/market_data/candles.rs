//! Candles: the minutes of a market's trades, and every longer interval made from them.
//!
//! Invariant: a candle covers `[open, close)` in UTC by journal time, and from a market's first trade on there is
//! one for every interval: where nothing traded it carries the last close, with volume 0.

use std::collections::VecDeque;

use units::PriceTicks;
use wire::enums::Interval;

use super::tally::Tally;

/// Minutes that are kept in memory: a day and an hour. Older ones are read from the projected candles, which are
/// never that far behind.
pub const MINUTES_MAX: u64 = 25 * 60;

/// Microseconds in a minute.
pub const MINUTE_MICROS: u64 = 60_000_000;

/// A minute in which something traded: minutes since 1970, and the trades.
pub type Minute = (u64, Tally);

/// The latest minutes of one market.
#[derive(Debug, Default)]
pub struct Minutes {
    /// Every minute from this one on is known here.
    known_from: u64,
    minutes: VecDeque<Minute>,
    /// The last price before the first minute here.
    carry: Option<PriceTicks>,
}

/// One candle, in the core's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candle {
    /// Its first minute.
    pub minute: u64,
    /// The first price.
    pub open: PriceTicks,
    /// The highest.
    pub high: PriceTicks,
    /// The lowest.
    pub low: PriceTicks,
    /// The last.
    pub close: PriceTicks,
    /// The quantity, in lots.
    pub lots: u128,
    /// Σ price × quantity, in ledger units of the quote asset.
    pub notional: u128,
    /// How many trades.
    pub trades: u64,
}

impl Minutes {
    /// Begins with what is stored: all minutes from `known_from` on, oldest first, and the last price before it.
    #[must_use]
    pub fn new(known_from: u64, minutes: Vec<Minute>, carry: Option<PriceTicks>) -> Self {
        Self { known_from, minutes: minutes.into(), carry }
    }

    /// Adds trades of a minute, later than all before them.
    pub fn push(&mut self, minute: u64, tally: &Tally) {
        match self.minutes.back_mut() {
            Some((last, sum)) if *last == minute => sum.append(tally),
            _ => self.minutes.push_back((minute, *tally)),
        }
    }

    /// Lets go what is too old at `minute`.
    pub fn advance(&mut self, minute: u64) {
        let first = minute.saturating_sub(MINUTES_MAX);
        self.known_from = self.known_from.max(first);
        while self.minutes.front().is_some_and(|(minute, _)| *minute < first) {
            self.carry = self.minutes.pop_front().map(|(_, tally)| tally.close).or(self.carry);
        }
    }

    /// Returns the first minute that is known here; earlier ones must be read from the projection.
    #[must_use]
    pub fn known_from(&self) -> u64 {
        self.known_from
    }

    /// Returns the minutes from `from` up to `until`, that one excluded.
    pub fn range(&self, from: u64, until: u64) -> impl Iterator<Item = Minute> + '_ {
        let begin = self.minutes.partition_point(|(minute, _)| *minute < from);
        self.minutes.iter().skip(begin).take_while(move |(minute, _)| *minute < until).copied()
    }

    /// Returns the last price before `minute`, as far as it is known here.
    #[must_use]
    pub fn close_before(&self, minute: u64) -> Option<PriceTicks> {
        let end = self.minutes.partition_point(|(known, _)| *known < minute);
        match end.checked_sub(1) {
            Some(last) => self.minutes.get(last).map(|(_, tally)| tally.close),
            None if minute >= self.known_from => self.carry,
            None => None,
        }
    }
}

/// Returns the minute that begins the interval which `minute` lies in. Intervals begin at multiples of their length
/// since 1970, which makes hours and days those of UTC.
#[must_use]
pub fn bucket(minute: u64, interval: Interval) -> u64 {
    minute - minute % interval.minutes()
}

/// Makes candles without holes from the minutes of `[from, until)`, oldest first; both are the first minutes
/// of an interval. `carry` is the last price before; without one, candles begin with the first trade.
#[must_use]
pub fn assemble(
    minutes: impl IntoIterator<Item = Minute>,
    interval: Interval,
    from: u64,
    until: u64,
    carry: Option<PriceTicks>,
) -> Vec<Candle> {
    let mut candles: Vec<Candle> = Vec::new();
    let mut minutes = minutes.into_iter().peekable();
    let mut last = carry;
    let mut begin = from;
    while begin < until {
        let end = begin + interval.minutes();
        let mut sum: Option<Tally> = None;
        while let Some((_, tally)) = minutes.next_if(|(minute, _)| *minute < end) {
            match &mut sum {
                Some(sum) => sum.append(&tally),
                None => sum = Some(tally),
            }
        }
        candles.extend(candle(begin, sum, last));
        last = sum.map(|sum| sum.close).or(last);
        begin = end;
    }
    candles
}

/// Returns the candle of the interval that begins at `minute`; `None` before a market's first trade.
#[must_use]
pub fn candle(minute: u64, sum: Option<Tally>, carry: Option<PriceTicks>) -> Option<Candle> {
    match (sum, carry) {
        (Some(sum), _) => Some(Candle {
            minute,
            open: sum.open,
            high: sum.high,
            low: sum.low,
            close: sum.close,
            lots: sum.lots,
            notional: sum.notional,
            trades: sum.trades,
        }),
        (None, Some(price)) => Some(Candle {
            minute,
            open: price,
            high: price,
            low: price,
            close: price,
            lots: 0,
            notional: 0,
            trades: 0,
        }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(id: u64, price: u64) -> Tally {
        let price = PriceTicks::new(price).expect("prices are above zero");
        Tally {
            first_trade: id,
            last_trade: id,
            open: price,
            high: price,
            low: price,
            close: price,
            lots: 3,
            notional: 3 * u128::from(price.get()),
            trades: 1,
        }
    }

    fn said(candles: &[Candle]) -> Vec<(u64, u64, u64, u64, u64, u64)> {
        let say = |candle: &Candle| {
            let prices = [candle.open, candle.high, candle.low, candle.close].map(PriceTicks::get);
            (candle.minute, prices[0], prices[1], prices[2], prices[3], candle.trades)
        };
        candles.iter().map(say).collect()
    }

    #[test]
    fn candles_have_no_holes() {
        let minutes = [(61, tally(1, 10)), (61, tally(2, 14)), (63, tally(3, 12))];
        let candles = assemble(minutes, Interval::OneMinute, 60, 65, PriceTicks::new(9));
        assert_eq!(
            said(&candles),
            [
                (60, 9, 9, 9, 9, 0),
                (61, 10, 14, 10, 14, 2),
                (62, 14, 14, 14, 14, 0),
                (63, 12, 12, 12, 12, 1),
                (64, 12, 12, 12, 12, 0)
            ]
        );
        assert_eq!(candles[1].lots, 6);
        assert_eq!(candles[1].notional, 72);
    }

    #[test]
    fn candles_begin_with_the_first_trade() {
        let candles = assemble([(62, tally(1, 10))], Interval::OneMinute, 60, 64, None);
        assert_eq!(said(&candles), [(62, 10, 10, 10, 10, 1), (63, 10, 10, 10, 10, 0)]);
    }

    #[test]
    fn longer_intervals_are_made_of_minutes() {
        let minutes = [(60, tally(1, 10)), (74, tally(2, 8)), (75, tally(3, 20))];
        let candles = assemble(minutes, Interval::FifteenMinutes, 60, 90, None);
        assert_eq!(said(&candles), [(60, 10, 10, 8, 8, 2), (75, 20, 20, 20, 20, 1)]);
        assert_eq!(bucket(89, Interval::FifteenMinutes), 75);
        assert_eq!(bucket(1441, Interval::OneDay), 1440);
    }

    #[test]
    fn minutes_that_are_let_go_leave_their_close() {
        let mut minutes = Minutes::new(0, vec![(5, tally(1, 10))], PriceTicks::new(7));
        minutes.push(6, &tally(2, 11));
        minutes.push(6, &tally(3, 13));
        assert_eq!(minutes.range(0, 7).count(), 2);
        assert_eq!(minutes.close_before(5), PriceTicks::new(7));
        assert_eq!(minutes.close_before(6), PriceTicks::new(10));
        minutes.advance(6 + MINUTES_MAX);
        assert_eq!(minutes.known_from(), 6);
        assert_eq!(minutes.close_before(6), PriceTicks::new(10));
        assert_eq!(minutes.close_before(5), None);
        assert_eq!(minutes.range(0, 100).map(|(minute, _)| minute).collect::<Vec<_>>(), [6]);
    }
}
