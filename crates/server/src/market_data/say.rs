//! The market data's numbers as bodies of the API.

use bytes::Bytes;
use engine::{AssetConfig, MarketConfig, State};
use store::market_data::TradeRow;
use units::{MarketId, PriceTicks, Time};
use wire::enums::Interval;
use wire::render::MarketWords;
use wire::{body, decimal};

use super::candles::{Candle, MINUTE_MICROS};

/// A market's rules and its assets', as they were when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The market's id.
    pub id: MarketId,
    /// The market's rules.
    pub market: MarketConfig,
    /// The asset that is traded.
    pub base: AssetConfig,
    /// The asset that it is priced in.
    pub quote: AssetConfig,
}

impl Rules {
    /// Reads them; `None` where there is no such market.
    #[must_use]
    pub fn of(state: &State, id: MarketId) -> Option<Self> {
        let words = MarketWords::of(state, id)?;
        Some(Self {
            id,
            market: words.market.clone(),
            base: words.base.clone(),
            quote: words.quote.clone(),
        })
    }

    /// Returns what says prices and quantities.
    #[must_use]
    pub fn words(&self) -> MarketWords<'_> {
        MarketWords { market: &self.market, base: &self.base, quote: &self.quote }
    }
}

/// Takes what everybody may see of a trade.
pub(super) fn trade_row(trade: &engine::Trade) -> TradeRow {
    TradeRow {
        trade_id: trade.trade_id.get(),
        time: trade.time,
        price: trade.price,
        quantity: trade.quantity,
        notional: trade.notional,
        taker_side: trade.taker_side,
    }
}

/// Says a trade of a market as everyone sees it.
#[must_use]
pub fn say_trade(rules: &Rules, row: &TradeRow) -> body::Trade {
    let words = rules.words();
    body::Trade {
        trade_id: row.trade_id,
        market: rules.market.symbol.to_string(),
        price: words.price(row.price),
        quantity: words.quantity(row.quantity),
        notional: words.notional(row.notional),
        taker_side: row.taker_side.into(),
        time: row.time.into(),
    }
}

/// Says a candle of a market at a moment.
#[must_use]
pub fn say_candle(rules: &Rules, candle: &Candle, interval: Interval, now: Time) -> body::Candle {
    let words = rules.words();
    let begin = Time::from_micros(candle.minute * MINUTE_MICROS);
    let end = begin.plus_micros(interval.minutes() * MINUTE_MICROS);
    body::Candle {
        open_time: begin.into(),
        close_time: end.into(),
        open: words.price(candle.open),
        high: words.price(candle.high),
        low: words.price(candle.low),
        close: words.price(candle.close),
        volume: volume(&words, candle.lots),
        quote_volume: words.notional(units::Amount::new(candle.notional)),
        trades: candle.trades,
        closed: now >= end,
    }
}

/// Writes an answer.
pub(super) fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("answers are plain values with text keys").into()
}

/// A sum of lots as a quantity. What does not fit 128 bits of ledger units is not traded in a day.
pub(super) fn volume(words: &MarketWords<'_>, lots: u128) -> String {
    decimal::format_volume(words.market, words.base, lots).unwrap_or_default()
}

/// The change of a price, with its sign.
pub(super) fn change(words: &MarketWords<'_>, from: PriceTicks, to: PriceTicks) -> String {
    let Some(difference) = PriceTicks::new(from.get().abs_diff(to.get())) else {
        return words.notional(units::Amount::ZERO);
    };
    let text = words.price(difference);
    if to < from { format!("-{text}") } else { text }
}

/// `(to - from) / from` in percent, two decimals, cut toward zero.
pub(super) fn percent(from: PriceTicks, to: PriceTicks) -> String {
    let difference = u128::from(from.get().abs_diff(to.get()));
    let hundredths = difference * 10_000 / u128::from(from.get());
    let sign = if to < from && hundredths > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_cut_toward_zero() {
        let percent = |from, to| {
            percent(
                PriceTicks::new(from).expect("above zero"),
                PriceTicks::new(to).expect("above zero"),
            )
        };
        assert_eq!(percent(100, 105), "5.00");
        assert_eq!(percent(100, 99), "-1.00");
        assert_eq!(percent(30_000, 29_999), "0.00");
        assert_eq!(percent(1, u64::MAX), "1844674407370955161400.00");
        assert_eq!(percent(3, 2), "-33.33");
    }
}
