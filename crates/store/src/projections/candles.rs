//! Candles from trades: `[open, close)` in UTC by journal time. Only those with trades are rows; the others carry the
//! last close and are filled on read.

use std::collections::BTreeMap;

use engine::{Side, Trade};
use units::Time;

use crate::Numeric;

/// The lengths that are stored, in seconds: every usual interval is made of whole ones of these.
pub(super) const INTERVALS: [u32; 3] = [60, 3_600, 86_400];

/// What one write adds to one candle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candle {
    pub(super) open: u64,
    pub(super) high: u64,
    pub(super) low: u64,
    pub(super) close: u64,
    pub(super) lots: u128,
    pub(super) notional: u128,
    pub(super) taker_buy_lots: u128,
    pub(super) taker_buy_notional: u128,
    pub(super) trades: i64,
    pub(super) first_trade: u64,
    pub(super) last_trade: u64,
}

/// The candles that one write touches, by market, interval and opening second.
pub(super) type Candles = BTreeMap<(u16, u32, u64), Candle>;

/// Adds a trade to its candle of every length.
pub(super) fn add(candles: &mut Candles, trade: &Trade) {
    let (price, lots) = (trade.price.get(), u128::from(trade.quantity.get()));
    let (notional, id) = (trade.notional.get(), trade.trade_id.get());
    let bought = trade.taker_side == Side::Buy;
    for interval in INTERVALS {
        let seconds = trade.time.seconds();
        let open = seconds - seconds % u64::from(interval);
        let candle = candles.entry((trade.market.get(), interval, open)).or_insert(Candle {
            open: price,
            high: price,
            low: price,
            close: price,
            lots: 0,
            notional: 0,
            taker_buy_lots: 0,
            taker_buy_notional: 0,
            trades: 0,
            first_trade: id,
            last_trade: id,
        });
        candle.high = candle.high.max(price);
        candle.low = candle.low.min(price);
        candle.close = price;
        candle.lots += lots;
        candle.notional += notional;
        if bought {
            candle.taker_buy_lots += lots;
            candle.taker_buy_notional += notional;
        }
        candle.trades += 1;
        candle.last_trade = id;
    }
}

/// The opening second as journal time.
pub(super) fn open_time(second: u64) -> Time {
    Time::from_micros(second.saturating_mul(1_000_000))
}

/// Two columns of one number: lots or a notional.
pub(super) fn numeric(number: u128) -> Numeric {
    Numeric::from(number)
}
