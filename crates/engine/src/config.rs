//! Assets, markets and limits: state like everything else, changed by journalled commands only.

use book::Side;
use units::{Amount, AssetId, PriceTicks, QuantityLots, RatePpm};

/// An asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetConfig {
    /// The ticker, such as `BTC`: 2 to 10 upper-case letters or digits.
    pub symbol: Box<str>,
    /// Decimals of one ledger unit: an amount of 1 is `10^-scale`.
    pub scale: u8,
    /// Decimals that deposits, withdrawals and transfers may have; at most `scale`.
    pub transfer_scale: u8,
}

impl AssetConfig {
    /// Returns the step of deposits, withdrawals and transfers: `10^(scale - transfer_scale)` ledger units.
    #[must_use]
    pub fn transfer_step(&self) -> Amount {
        let decimals = self.scale.saturating_sub(self.transfer_scale);
        Amount::new(10_u128.checked_pow(u32::from(decimals)).expect("scales are at most 30"))
    }
}

/// A market's rules.
///
/// The grid is exact by construction: one lot at a price of one tick costs a whole number of quote units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketConfig {
    /// The symbol, such as `BTC/USD`.
    pub symbol: Box<str>,
    /// The asset that is traded.
    pub base: AssetId,
    /// The asset that it is priced in.
    pub quote: AssetId,
    /// Ledger units of the base asset in one lot.
    pub base_units_per_lot: u64,
    /// Ledger units of the quote asset that one lot costs at a price of one tick.
    pub quote_units_per_tick_lot: u64,
    /// The tick size, as ledger units of the quote asset per one whole (`10^scale` units) of the base asset.
    /// For display only.
    pub tick_size: Amount,
    /// The least notional of an order, in ledger units of the quote asset.
    pub notional_min: Amount,
    /// The greatest quantity of an order.
    pub quantity_max: QuantityLots,
    /// The maker's fee.
    pub maker_fee: RatePpm,
    /// The taker's fee.
    pub taker_fee: RatePpm,
    /// How far from the reference an order's price may be; `None`: no band.
    pub band: Option<RatePpm>,
    /// A move of the reference within five minutes that halts the market; `None`: never.
    pub halt_move: Option<RatePpm>,
    /// The reference price until the market has traded; `None`: no band until then.
    pub initial_price: Option<PriceTicks>,
}

impl MarketConfig {
    /// Returns the asset that a side pays with.
    #[inline]
    pub(crate) fn pays(&self, side: Side) -> AssetId {
        match side {
            Side::Buy => self.quote,
            Side::Sell => self.base,
        }
    }

    /// Returns `price × quantity` in ledger units of the quote asset; `None` where it exceeds
    /// [`Amount::COMMAND_MAX`].
    #[must_use]
    #[inline]
    pub fn notional(&self, price: PriceTicks, quantity: QuantityLots) -> Option<Amount> {
        // 2^64 × 2^64 fits 128 bits; the unit may take it out.
        let tick_lots = u128::from(price.get()).checked_mul(u128::from(quantity.get()))?;
        let units =
            Amount::new(tick_lots).checked_mul(u128::from(self.quote_units_per_tick_lot))?;
        (units <= Amount::COMMAND_MAX).then_some(units)
    }

    /// Returns `quantity` in ledger units of the base asset; `None` where it exceeds [`Amount::COMMAND_MAX`].
    #[must_use]
    #[inline]
    pub fn base_amount(&self, quantity: QuantityLots) -> Option<Amount> {
        let units = Amount::new(u128::from(quantity.get()))
            .checked_mul(u128::from(self.base_units_per_lot))?;
        (units <= Amount::COMMAND_MAX).then_some(units)
    }
}

/// What a market lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MarketState {
    /// Everything.
    #[default]
    Open,
    /// Cancels only; stops do not trigger.
    CancelOnly,
    /// Cancels, and orders that are post-only; stops do not trigger.
    PostOnly,
    /// Nothing trades; cancels are still taken, so that nobody's funds are shut in.
    Halted,
}

/// The limits of the whole exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open orders that one account may have in one market, stops included.
    pub open_orders_max: u32,
    /// The same for market makers (see [`crate::AccountFlags`]).
    pub maker_open_orders_max: u32,
    /// Order commands (place, amend) that one account may send in one second of journal time; 0: no limit.
    pub orders_per_second_max: u32,
    /// The same for market makers; 0: no limit.
    pub maker_orders_per_second_max: u32,
    /// Steps (fills and self-trade cancels) that one command may cause; what remains of an order that would
    /// cause more is cancelled.
    pub steps_max: u32,
    /// How long outcomes are remembered for repeats, in microseconds of journal time.
    pub dedup_window_micros: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_orders_max: 500,
            maker_open_orders_max: 20_000,
            orders_per_second_max: 500,
            maker_orders_per_second_max: 0,
            steps_max: 10_000,
            dedup_window_micros: 10 * 60 * 1_000_000,
        }
    }
}

/// What a journal is born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A random number that tells this journal from every other, restored ones included.
    pub incarnation: u64,
    /// A random number that seeds the state's hash tables, so that nobody can choose ids that collide.
    pub salt: u64,
    /// Whether deposits of play money are allowed. Fixed at birth.
    pub sandbox: bool,
}
