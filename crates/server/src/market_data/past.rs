//! Reading back what has been traded: at the start, and what the statistics' window is about to let go.

use store::market_data::{self, Grain, TradeSum};
use store::{Db, StoreError};
use units::{MarketId, Sequence, Time};

use super::candles::{MINUTE_MICROS, MINUTES_MAX};
use super::market::{Past, RECENT_MAX};
use super::tally::Tally;
use super::window::{Slot, Wanted};

/// Reads a market's past up to a journal row that is in the projections. `now` is that row's time.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub(super) async fn read(
    db: &Db,
    market: MarketId,
    until: Sequence,
    now: Time,
) -> Result<Past, StoreError> {
    let known_from = (now.micros() / MINUTE_MICROS).saturating_sub(MINUTES_MAX);
    let begin = Time::from_micros(known_from * MINUTE_MICROS);
    let before = Time::from_micros(begin.micros().saturating_sub(1));
    let carry = market_data::close_before(db, market, begin).await?;
    let seconds = match market_data::first_trade_after(db, market, before).await? {
        None => Vec::new(),
        Some(first) => {
            let ids = (first, u64::MAX);
            market_data::trade_sums(db, market, ids, until, Grain::Second).await?
        }
    };
    let recent = market_data::trades_before(db, market, u64::MAX, until, RECENT_MAX).await?;
    Ok(Past {
        seconds: seconds.iter().map(slot).collect(),
        known_from,
        carry,
        recent: recent.into_iter().rev().collect(),
    })
}

/// Reads back the trades that a window wants, by the moment.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub(super) async fn moments(
    db: &Db,
    market: MarketId,
    wanted: Wanted,
    until: Sequence,
) -> Result<Vec<Slot>, StoreError> {
    let ids = (wanted.first_trade, wanted.last_trade);
    let sums = market_data::trade_sums(db, market, ids, until, Grain::Moment).await?;
    Ok(sums.iter().map(slot).collect())
}

/// Says a stored sum as a tally.
pub(super) fn tally(sum: &TradeSum) -> Tally {
    Tally {
        first_trade: sum.first_trade,
        last_trade: sum.last_trade,
        open: sum.open,
        high: sum.high,
        low: sum.low,
        close: sum.close,
        lots: sum.lots,
        notional: sum.notional,
        trades: sum.trades,
    }
}

fn slot(sum: &TradeSum) -> Slot {
    (sum.time, tally(sum))
}
