//! What market data is begun with and reads back: trades and candles of the projections.
//!
//! Invariant: every question is about one market and walks the primary key; pages are bounded by their caller.

use engine::Side;
use tokio_postgres::Row;
use units::{Amount, MarketId, PriceTicks, QuantityLots, Sequence, Time};

use crate::numbers::{to_i64, to_u64};
use crate::{Db, Numeric, StoreError, Timestamp};

/// A trade as everyone sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeRow {
    /// Its id in its market.
    pub trade_id: u64,
    /// Journal time.
    pub time: Time,
    /// The price.
    pub price: PriceTicks,
    /// How much of the base asset.
    pub quantity: QuantityLots,
    /// The price × quantity, in ledger units of the quote asset.
    pub notional: Amount,
    /// Which side the taker was on.
    pub taker_side: Side,
}

/// What consecutive trades of one stretch of time come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeSum {
    /// The beginning of the stretch.
    pub time: Time,
    /// The first trade's id.
    pub first_trade: u64,
    /// The last trade's id.
    pub last_trade: u64,
    /// The first price.
    pub open: PriceTicks,
    /// The highest price.
    pub high: PriceTicks,
    /// The lowest price.
    pub low: PriceTicks,
    /// The last price.
    pub close: PriceTicks,
    /// The quantity, in lots.
    pub lots: u128,
    /// Σ price × quantity, in ledger units of the quote asset.
    pub notional: u128,
    /// How many trades.
    pub trades: u64,
}

/// The lengths of candles that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredInterval {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
}

impl StoredInterval {
    /// Returns the length in minutes.
    #[must_use]
    pub const fn minutes(self) -> u64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }

    const fn seconds(self) -> i32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

/// How finely trades are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// By the second.
    Second,
    /// By the moment: the trades of one journal row.
    Moment,
}

impl Grain {
    const fn field(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Moment => "microseconds",
        }
    }
}

fn price(number: Numeric) -> Result<PriceTicks, StoreError> {
    let ticks = u64::try_from(number.magnitude).ok().filter(|_| !number.negative);
    ticks
        .and_then(PriceTicks::new)
        .ok_or_else(|| StoreError::Corrupt("a price is out of its range".to_owned()))
}

fn sum(row: &Row) -> Result<TradeSum, StoreError> {
    Ok(TradeSum {
        time: row.get::<_, Timestamp>(0).0,
        first_trade: to_u64(row.get(1))?,
        last_trade: to_u64(row.get(2))?,
        open: price(row.get(3))?,
        high: price(row.get(4))?,
        low: price(row.get(5))?,
        close: price(row.get(6))?,
        lots: row.get::<_, Numeric>(7).magnitude,
        notional: row.get::<_, Numeric>(8).magnitude,
        trades: to_u64(row.get(9))?,
    })
}

fn trade(row: &Row) -> Result<TradeRow, StoreError> {
    let quantity = u64::try_from(row.get::<_, Numeric>(3).magnitude)
        .map_err(|_| StoreError::Corrupt("a quantity is out of its range".to_owned()))?;
    let side: &str = row.get(5);
    Ok(TradeRow {
        trade_id: to_u64(row.get(0))?,
        time: row.get::<_, Timestamp>(1).0,
        price: price(row.get(2))?,
        quantity: QuantityLots::new(quantity),
        notional: Amount::new(row.get::<_, Numeric>(4).magnitude),
        taker_side: if side == "buy" { Side::Buy } else { Side::Sell },
    })
}

/// Returns a market's trades before `before` and up to the journal row `until`, newest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn trades_before(
    db: &Db,
    market: MarketId,
    before: u64,
    until: Sequence,
    rows_max: usize,
) -> Result<Vec<TradeRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT trade_id, time, price_ticks, quantity_lots, notional, taker_side FROM trades \
             WHERE market_id = $1 AND trade_id < $2 AND sequence <= $3 ORDER BY trade_id DESC LIMIT $4",
        )
        .await?;
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    // Ids and rows beyond 63 bits are not given yet: all there is comes before them.
    let limit = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows = client
        .query(&text, &[&i32::from(market.get()), &limit(before), &limit(until.get()), &rows_max])
        .await?;
    rows.iter().map(trade).collect()
}

/// Returns the id of a market's first trade after a moment; `None` where there is none.
///
/// Trade ids and times rise together, so the place is found by halving, along the primary key.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn first_trade_after(
    db: &Db,
    market: MarketId,
    time: Time,
) -> Result<Option<u64>, StoreError> {
    let client = db.get().await?;
    let market = i32::from(market.get());
    let ends = client
        .prepare_cached("SELECT min(trade_id), max(trade_id) FROM trades WHERE market_id = $1")
        .await?;
    let row = client.query_one(&ends, &[&market]).await?;
    let (Some(mut low), Some(high)) = (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1))
    else {
        return Ok(None);
    };
    let at = client
        .prepare_cached(
            "SELECT trade_id, time FROM trades WHERE market_id = $1 AND trade_id >= $2 \
             ORDER BY trade_id LIMIT 1",
        )
        .await?;
    let mut end = high + 1;
    // All before `low` are at `time` or earlier, all from `end` on are later.
    while low < end {
        let middle = low + (end - low) / 2;
        let found = client.query_opt(&at, &[&market, &middle]).await?;
        match found {
            Some(row) if row.get::<_, Timestamp>(1).0 <= time => low = row.get::<_, i64>(0) + 1,
            _ => end = middle,
        }
    }
    if low > high { Ok(None) } else { Ok(Some(to_u64(low)?)) }
}

/// Returns what a market's trades of the ids `first` to `last`, up to the journal row `until`, come to, oldest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn trade_sums(
    db: &Db,
    market: MarketId,
    (first, last): (u64, u64),
    until: Sequence,
    grain: Grain,
) -> Result<Vec<TradeSum>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT g.begun, g.first, g.last, a.price_ticks, g.high, g.low, z.price_ticks, g.lots, g.notional, \
                 g.trades \
             FROM (SELECT date_trunc($5, time) AS begun, min(trade_id) AS first, max(trade_id) AS last, \
                     max(price_ticks) AS high, min(price_ticks) AS low, sum(quantity_lots) AS lots, \
                     sum(notional) AS notional, count(*) AS trades \
                 FROM trades WHERE market_id = $1 AND trade_id BETWEEN $2 AND $3 AND sequence <= $4 \
                 GROUP BY 1) g \
             JOIN trades a ON a.market_id = $1 AND a.trade_id = g.first \
             JOIN trades z ON z.market_id = $1 AND z.trade_id = g.last \
             ORDER BY g.first",
        )
        .await?;
    let limit = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let market = i32::from(market.get());
    let rows = client
        .query(
            &text,
            &[&market, &to_i64(first)?, &limit(last), &limit(until.get()), &grain.field()],
        )
        .await?;
    rows.iter().map(sum).collect()
}

/// Returns a market's stored candles that begin in `[from, until)`, oldest first: those in which something traded.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn candles(
    db: &Db,
    market: MarketId,
    interval: StoredInterval,
    from: Time,
    until: Time,
) -> Result<Vec<TradeSum>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT open_time, first_trade_id, last_trade_id, open_ticks, high_ticks, low_ticks, close_ticks, \
                 volume_lots, volume_notional, trades \
             FROM market_candles WHERE market_id = $1 AND interval_seconds = $2 \
                 AND open_time >= $3 AND open_time < $4 ORDER BY open_time",
        )
        .await?;
    let market = i32::from(market.get());
    let rows = client
        .query(&text, &[&market, &interval.seconds(), &Timestamp(from), &Timestamp(until)])
        .await?;
    rows.iter().map(sum).collect()
}

/// Returns a market's last price before a whole minute; `None` where it had not traded.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn close_before(
    db: &Db,
    market: MarketId,
    minute: Time,
) -> Result<Option<PriceTicks>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT close_ticks FROM market_candles WHERE market_id = $1 AND interval_seconds = 60 \
             AND open_time < $2 ORDER BY open_time DESC LIMIT 1",
        )
        .await?;
    let row = client.query_opt(&text, &[&i32::from(market.get()), &Timestamp(minute)]).await?;
    row.map(|row| price(row.get(0))).transpose()
}
