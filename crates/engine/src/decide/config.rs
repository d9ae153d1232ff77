//! Assets and markets.

use units::{Amount, MarketId, PPM};

use crate::config::{AssetConfig, MarketConfig};
use crate::event::Event;
use crate::reject::Reject;
use crate::state::{Market, State};

/// The most assets, and the most markets, that can be defined.
const DEFINITIONS_MAX: usize = 1_000;

/// The most decimals of an asset.
const SCALE_MAX: u8 = 24;

pub(super) fn define_asset(state: &State, asset: &AssetConfig) -> Result<Event, Reject> {
    let length = (2..=10).contains(&asset.symbol.len());
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let scales = asset.scale <= SCALE_MAX && asset.transfer_scale <= asset.scale;
    if !length || !asset.symbol.bytes().all(plain) || !scales {
        return Err(Reject::AssetInvalid);
    }
    match state.assets().iter().find(|known| known.symbol == asset.symbol) {
        // What an amount of one means never changes.
        Some(known) if known.scale != asset.scale => Err(Reject::AssetInvalid),
        None if state.assets().len() >= DEFINITIONS_MAX => Err(Reject::TooMany),
        _ => Ok(Event::Done),
    }
}

pub(super) fn define_market(state: &State, market: &MarketConfig) -> Result<Event, Reject> {
    let asset = |id: units::AssetId| state.assets().get(usize::from(id.get()));
    let base = asset(market.base).ok_or(Reject::AssetUnknown)?;
    asset(market.quote).ok_or(Reject::AssetUnknown)?;
    if market.base == market.quote || !grid_is_whole(market, base) || !rates_fit(market) {
        return Err(Reject::MarketInvalid);
    }
    let named = (3..=21).contains(&market.symbol.len()) && !market.quantity_max.is_zero();
    if !named || market.notional_min > Amount::COMMAND_MAX {
        return Err(Reject::MarketInvalid);
    }
    match state.markets.iter().find(|known| known.config.symbol == market.symbol) {
        Some(known) if !can_become(known, market) => Err(Reject::MarketInvalid),
        None if state.markets.len() >= DEFINITIONS_MAX => Err(Reject::TooMany),
        _ => Ok(Event::Done),
    }
}

pub(super) fn known_market(state: &State, market: MarketId) -> Result<Event, Reject> {
    state.find_market(market).ok_or(Reject::MarketUnknown).map(|_| Event::Done)
}

/// One lot at a price of one tick costs a whole number of quote units:
/// `tick_size × base_units_per_lot = quote_units_per_tick_lot × 10^base scale`, and none is zero.
fn grid_is_whole(market: &MarketConfig, base: &AssetConfig) -> bool {
    let whole = 10_u128.checked_pow(u32::from(base.scale));
    let left = market.tick_size.get().checked_mul(u128::from(market.base_units_per_lot));
    let unit = u128::from(market.quote_units_per_tick_lot);
    let right = whole.and_then(|whole| whole.checked_mul(unit));
    left.is_some_and(|left| left > 0) && left == right
}

fn rates_fit(market: &MarketConfig) -> bool {
    let below_one = |ppm: units::RatePpm| ppm.get() < PPM;
    below_one(market.maker_fee) && below_one(market.taker_fee) && market.band.is_none_or(below_one)
}

/// A market that has orders or trades keeps its assets and its grid, so that nothing is ever off it.
fn can_become(known: &Market, market: &MarketConfig) -> bool {
    let was = &known.config;
    let assets = (was.base, was.quote) == (market.base, market.quote);
    let grid = (was.base_units_per_lot, was.quote_units_per_tick_lot)
        == (market.base_units_per_lot, market.quote_units_per_tick_lot);
    let untouched = known.last_order_id.get() == 0;
    assets && (grid || untouched)
}
