//! What a stretch of a market's trades comes to: of one journal row, of a second, of a minute, of a day.

use engine::Trade;
use units::PriceTicks;

/// The sum of one or more consecutive trades of one market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
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

impl Tally {
    /// Returns the tally of one trade.
    #[must_use]
    pub fn of(trade: &Trade) -> Self {
        Self {
            first_trade: trade.trade_id.get(),
            last_trade: trade.trade_id.get(),
            open: trade.price,
            high: trade.price,
            low: trade.price,
            close: trade.price,
            lots: u128::from(trade.quantity.get()),
            notional: trade.notional.get(),
            trades: 1,
        }
    }

    /// Adds what came after.
    ///
    /// # Panics
    ///
    /// When a sum passes 128 bits, which 2^28 trades of the greatest notional each do not reach.
    pub fn append(&mut self, later: &Self) {
        self.last_trade = later.last_trade;
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.lots = self.lots.checked_add(later.lots).expect("a day's lots fit 128 bits");
        self.notional =
            self.notional.checked_add(later.notional).expect("a day's notional fits 128 bits");
        self.trades += later.trades;
    }
}
