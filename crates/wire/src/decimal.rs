//! Exact decimals: text ↔ whole ticks, lots and ledger units.
//!
//! Invariant: a text is taken only if it says exactly a whole number of steps, and what is printed is read back
//! as the same number. A price's decimals are those of its market's tick, a quantity's those of its lot; an amount
//! has at least its asset's transfer precision, and more digits where it has more.

use engine::{AssetConfig, MarketConfig};
use units::{Amount, PriceTicks, QuantityLots, SignedAmount};

mod error;
mod text;

pub use error::DecimalError;
pub use text::{LENGTH_MAX, Scaled};

/// Parses a price: quote asset per one whole unit of the base asset, on the market's tick.
///
/// # Errors
///
/// [`DecimalError`], which names the rule and the nearest prices that would pass.
pub fn parse_price(
    market: &MarketConfig,
    quote: &AssetConfig,
    text: &str,
) -> Result<PriceTicks, DecimalError> {
    let grid = price_grid(market, quote);
    let ticks = u64::try_from(grid.parse(text)?).expect("the grid ends at the greatest price");
    Ok(PriceTicks::new(ticks).expect("the grid begins at one tick"))
}

/// Parses an order's quantity: whole units of the base asset, on the market's lot, above zero and at most the
/// market's maximum.
///
/// # Errors
///
/// [`DecimalError`], which names the rule and the nearest quantities that would pass.
pub fn parse_quantity(
    market: &MarketConfig,
    base: &AssetConfig,
    text: &str,
) -> Result<QuantityLots, DecimalError> {
    let steps_max = u128::from(market.quantity_max.get()).max(1);
    let grid = Grid { steps_max, ..quantity_grid(market, base) };
    let lots = u64::try_from(grid.parse(text)?).expect("the grid ends at the greatest quantity");
    Ok(QuantityLots::new(lots))
}

/// Parses an amount of an asset, above zero, to its ledger scale.
///
/// # Errors
///
/// [`DecimalError`], which names the rule and the nearest amounts that would pass.
pub fn parse_amount(asset: &AssetConfig, text: &str) -> Result<Amount, DecimalError> {
    let grid =
        Grid { step: 1, scale: asset.scale, decimals: 0, steps_max: Amount::COMMAND_MAX.get() };
    grid.parse(text).map(Amount::new)
}

/// Parses an amount to deposit, withdraw or transfer: above zero, to the asset's transfer precision.
///
/// # Errors
///
/// [`DecimalError`], which names the rule and the nearest amounts that would pass.
pub fn parse_transfer_amount(asset: &AssetConfig, text: &str) -> Result<Amount, DecimalError> {
    let step = asset.transfer_step().get();
    let steps_max = Amount::COMMAND_MAX.get() / step;
    let grid = Grid { step, scale: asset.scale, decimals: asset.transfer_scale, steps_max };
    Ok(Amount::new(grid.parse(text)? * step))
}

/// Prints a price with the decimals of its market's tick.
#[must_use]
pub fn format_price(market: &MarketConfig, quote: &AssetConfig, price: PriceTicks) -> String {
    price_grid(market, quote).format(u128::from(price.get()))
}

/// Prints a quantity with the decimals of its market's lot.
#[must_use]
pub fn format_quantity(
    market: &MarketConfig,
    base: &AssetConfig,
    quantity: QuantityLots,
) -> String {
    quantity_grid(market, base).format(u128::from(quantity.get()))
}

/// Prints an amount with its asset's transfer precision, and with more decimals where it has more.
#[must_use]
pub fn format_amount(asset: &AssetConfig, amount: Amount) -> String {
    let scaled = Scaled { units: amount.get(), scale: asset.scale };
    scaled.to_text(asset.transfer_scale)
}

/// Prints a change of a balance, with a `-` where it is one.
#[must_use]
pub fn format_signed_amount(asset: &AssetConfig, amount: SignedAmount) -> String {
    let text = format_amount(asset, Amount::new(amount.unsigned_abs()));
    if amount < 0 { format!("-{text}") } else { text }
}

/// Prints a price × quantity: an amount of the quote asset.
#[must_use]
pub fn format_notional(quote: &AssetConfig, notional: Amount) -> String {
    format_amount(quote, notional)
}

/// Prints a quantity of the base asset that may exceed what one order can have, such as a day's volume in lots.
///
/// `None` where it does not fit 128 bits of ledger units, which 2^64 trades of any quantity do.
#[must_use]
pub fn format_volume(market: &MarketConfig, base: &AssetConfig, lots: u128) -> Option<String> {
    let units = lots.checked_mul(u128::from(market.base_units_per_lot))?;
    let decimals = quantity_grid(market, base).decimals;
    Some(Scaled { units, scale: base.scale }.to_text(decimals))
}

/// Prints `notional / quantity`, the average price of what was filled, rounded down to the quote asset's
/// ledger scale; `None` for no quantity.
///
/// For display only: an average has no exact decimal in general, and nothing is ever computed from it.
#[must_use]
pub fn format_average_price(
    market: &MarketConfig,
    base: &AssetConfig,
    quote: &AssetConfig,
    notional: Amount,
    lots: u128,
) -> Option<String> {
    let base_units = lots.checked_mul(u128::from(market.base_units_per_lot))?;
    let whole = 10_u128.checked_pow(u32::from(base.scale))?;
    let units = text::mul_div(notional.get(), whole, base_units)?;
    Some(Scaled { units, scale: quote.scale }.to_text(price_grid(market, quote).decimals))
}

/// Returns the market's tick size as a decimal.
#[must_use]
pub fn tick_size(market: &MarketConfig, quote: &AssetConfig) -> String {
    price_grid(market, quote).format(1)
}

/// Returns the market's lot size as a decimal.
#[must_use]
pub fn lot_size(market: &MarketConfig, base: &AssetConfig) -> String {
    quantity_grid(market, base).format(1)
}

/// Prints a rate in parts per million as a fraction of one: 1,000 ppm is `0.001`.
#[must_use]
pub fn format_rate(rate: units::RatePpm) -> String {
    Scaled { units: u128::from(rate.get()), scale: 6 }.to_text(0)
}

/// The values that may be said: whole numbers of steps, from one to `steps_max`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// One step in ledger units.
    step: u128,
    /// Decimals of one ledger unit.
    scale: u8,
    /// Decimals to print at least.
    decimals: u8,
    /// The greatest number of steps.
    steps_max: u128,
}

fn price_grid(market: &MarketConfig, quote: &AssetConfig) -> Grid {
    grid(market.tick_size.get(), quote.scale)
}

fn quantity_grid(market: &MarketConfig, base: &AssetConfig) -> Grid {
    grid(u128::from(market.base_units_per_lot), base.scale)
}

fn grid(step: u128, scale: u8) -> Grid {
    let step = step.max(1);
    let mut decimals = scale;
    let mut rest = step;
    while decimals > 0 && rest.is_multiple_of(10) {
        rest /= 10;
        decimals -= 1;
    }
    Grid { step, scale, decimals, steps_max: u128::from(u64::MAX).min(text::UNITS_MAX / step) }
}

impl Grid {
    fn format(&self, steps: u128) -> String {
        // Saturates only beyond `steps_max`, where there is no price or quantity that was read.
        let units = steps.saturating_mul(self.step);
        Scaled { units, scale: self.scale }.to_text(self.decimals)
    }

    /// Returns the number of steps that the text says, from 1 to `steps_max`.
    fn parse(&self, text: &str) -> Result<u128, DecimalError> {
        let too_large = || DecimalError::TooLarge { max: self.format(self.steps_max) };
        let parsed = text::parse(text).map_err(|error| match error {
            text::Refused::Malformed(rule) => DecimalError::Malformed { rule },
            text::Refused::Negative => DecimalError::Negative { min: self.format(1) },
            text::Refused::TooManyDigits => DecimalError::TooManyDigits,
        })?;
        if parsed.units == 0 {
            return Err(DecimalError::Zero { min: self.format(1) });
        }
        let (units, cut) = parsed.rescale(self.scale).ok_or_else(too_large)?;
        let steps = units / self.step;
        if steps > self.steps_max {
            return Err(too_large());
        }
        if cut || !units.is_multiple_of(self.step) {
            return Err(DecimalError::OffGrid {
                step: self.format(1),
                below: (steps > 0).then(|| self.format(steps)),
                above: (steps < self.steps_max).then(|| self.format(steps + 1)),
            });
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests;
