//! The bytes of assets, markets, limits and settings.

use engine::{AccountFlags, AssetConfig, Limits, MarketConfig, MarketState, Settings};

use super::{BadBytes, Code, Reader, Writer, fields, variants};

fields!(Settings { incarnation, salt, sandbox });

fields!(Limits {
    open_orders_max,
    maker_open_orders_max,
    orders_per_second_max,
    maker_orders_per_second_max,
    steps_max,
    dedup_window_micros,
});

fields!(AssetConfig { symbol, scale, transfer_scale });

fields!(MarketConfig {
    symbol,
    base,
    quote,
    base_units_per_lot,
    quote_units_per_tick_lot,
    tick_size,
    notional_min,
    quantity_max,
    maker_fee,
    taker_fee,
    band,
    halt_move,
    initial_price,
});

variants!(MarketState, "an unknown market state" {
    0 => Open,
    1 => CancelOnly,
    2 => PostOnly,
    3 => Halted,
});

/// One bit a flag.
impl Code for AccountFlags {
    fn put(&self, w: &mut Writer) {
        let Self { locked, withdrawals_frozen, market_maker, closed } = *self;
        w.u8(u8::from(locked)
            | u8::from(withdrawals_frozen) << 1
            | u8::from(market_maker) << 2
            | u8::from(closed) << 3);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let bits = r.u8()?;
        if bits > 0b1111 {
            return Err(r.bad("an unknown account flag"));
        }
        Ok(Self {
            locked: bits & 1 != 0,
            withdrawals_frozen: bits & 2 != 0,
            market_maker: bits & 4 != 0,
            closed: bits & 8 != 0,
        })
    }
}
