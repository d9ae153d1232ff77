//! The market that a file is replayed in: its tick and lot come from the file's own numbers.
//!
//! Invariant: one lot at one tick costs a whole number of quote units, so nothing is rounded.

use anyhow::{Context, bail};
use engine::{AssetConfig, MarketConfig};
use units::{Amount, AssetId, PriceTicks, QuantityLots, RatePpm};

use super::decimal::{Column, Decimal, Step, power_of_ten};

/// The symbol of the asset that is traded.
pub(crate) const BASE: &str = "RPLB";
/// The symbol of the asset that it is priced in.
pub(crate) const QUOTE: &str = "RPLQ";

/// The most decimals that the core lets an asset have.
const ASSET_SCALE_MAX: u8 = 24;

/// What the first pass over a file has found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// Prices.
    pub prices: Column,
    /// Quantities.
    pub quantities: Column,
    /// Amounts of the quote asset.
    pub funds: Column,
    /// Lines that are fed or compared.
    pub commands: u64,
}

/// The market's grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// The step of prices.
    pub tick: Step,
    /// The step of quantities.
    pub lot: Step,
    quote_scale: u8,
}

impl Grid {
    /// Derives the grid from a survey; `tick` and `lot` override it.
    ///
    /// # Errors
    ///
    /// A tick or lot of zero, or numbers that span more than 64 bits or 30 decimals can hold.
    pub(crate) fn new(
        survey: &Survey,
        tick: Option<Decimal>,
        lot: Option<Decimal>,
    ) -> anyhow::Result<Self> {
        let step = |column: &Column, given: Option<Decimal>, name: &str| match given {
            Some(size) => column.step_of(size).with_context(|| format!("the {name} is zero")),
            None => column.step().with_context(|| {
                format!("the file's numbers span more than 64 bits of any {name}; give --{name}")
            }),
        };
        let tick = step(&survey.prices, tick, "tick")?;
        let lot = step(&survey.quantities, lot, "lot")?;
        let funds = survey.funds.step().map_or(0, |step| step.size().scale());
        let quote_scale = (tick.parts().1 + lot.parts().1).max(funds);
        let grid = Self { tick, lot, quote_scale };
        grid.quote_units_per_tick_lot()?;
        grid.base_units_per_lot()?;
        Ok(grid)
    }

    /// Counts a price in ticks; `None` where it is off the grid.
    pub(crate) fn price(&self, price: Decimal) -> Option<PriceTicks> {
        self.tick.count(price).and_then(PriceTicks::new)
    }

    /// Counts a quantity in lots; `None` where it is off the grid.
    pub(crate) fn quantity(&self, quantity: Decimal) -> Option<QuantityLots> {
        self.lot.count(quantity).map(QuantityLots::new)
    }

    /// Counts an amount of the quote asset in ledger units; `None` where it is too large.
    pub(crate) fn funds(&self, funds: Decimal) -> Option<Amount> {
        funds.units_at(self.quote_scale).map(Amount::new)
    }

    /// Writes a price in the form of the file.
    pub(crate) fn price_text(&self, price: PriceTicks) -> String {
        self.tick.text(u128::from(price.get()))
    }

    /// Writes a quantity in the form of the file.
    pub(crate) fn quantity_text(&self, quantity: QuantityLots) -> String {
        self.lot.text(u128::from(quantity.get()))
    }

    /// Writes an amount of the quote asset as a plain decimal.
    pub(crate) fn funds_text(&self, amount: Amount) -> String {
        Decimal::new(amount.get(), self.quote_scale).to_string()
    }

    fn quote_units_per_tick_lot(&self) -> anyhow::Result<u64> {
        let ((tick, tick_scale), (lot, lot_scale)) = (self.tick.parts(), self.lot.parts());
        let lift = power_of_ten(self.quote_scale - tick_scale - lot_scale);
        let units = lift.and_then(|lift| tick.checked_mul(lot)?.checked_mul(lift));
        units.and_then(|units| u64::try_from(units).ok()).context("the tick × lot is too large")
    }

    fn base_units_per_lot(&self) -> anyhow::Result<u64> {
        u64::try_from(self.lot.parts().0).context("the lot is too large")
    }

    /// Checks that the assets can have the scales that decimals at the edge need.
    ///
    /// # Errors
    ///
    /// One of them is too fine.
    pub(crate) fn check_edge(&self) -> anyhow::Result<()> {
        let finest = self.quote_scale.max(self.lot.parts().1);
        if finest > ASSET_SCALE_MAX {
            bail!(
                "a tick of {} and a lot of {} need an asset with {finest} decimals; \
                 the server takes at most {ASSET_SCALE_MAX}",
                self.tick.size(),
                self.lot.size()
            );
        }
        Ok(())
    }

    /// Returns the two assets, base first. Where the file is finer than an asset can be, the core still counts
    /// exactly; the scale is only what the edge would show.
    pub(crate) fn assets(&self) -> [AssetConfig; 2] {
        let asset = |symbol: &str, scale| AssetConfig {
            symbol: symbol.into(),
            scale,
            transfer_scale: scale,
        };
        let quote_scale = self.quote_scale.min(ASSET_SCALE_MAX);
        [asset(BASE, self.base_scale()), asset(QUOTE, quote_scale)]
    }

    /// The scale of the base asset, or 0 where it cannot have the one of the lot.
    fn base_scale(&self) -> u8 {
        Some(self.lot.parts().1).filter(|&scale| scale <= ASSET_SCALE_MAX).unwrap_or(0)
    }

    /// Returns the market's rules: no fees, no band, no caps.
    ///
    /// # Errors
    ///
    /// None that [`Grid::new`] has not found already.
    pub(crate) fn market(&self, base: AssetId, quote: AssetId) -> anyhow::Result<MarketConfig> {
        // tick_size × base_units_per_lot = quote_units_per_tick_lot × 10^base scale.
        let tick_lot = u128::from(self.quote_units_per_tick_lot()?);
        let tick_size = power_of_ten(self.base_scale())
            .and_then(|whole| (tick_lot / self.lot.parts().0).checked_mul(whole))
            .context("the tick is too large")?;
        Ok(MarketConfig {
            symbol: format!("{BASE}/{QUOTE}").into(),
            base,
            quote,
            base_units_per_lot: self.base_units_per_lot()?,
            quote_units_per_tick_lot: self.quote_units_per_tick_lot()?,
            tick_size: Amount::new(tick_size),
            notional_min: Amount::ZERO,
            quantity_max: QuantityLots::new(u64::MAX),
            maker_fee: RatePpm::new(0),
            taker_fee: RatePpm::new(0),
            band: None,
            halt_move: None,
            initial_price: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(prices: &[&str], quantities: &[&str]) -> Survey {
        let mut survey = Survey::default();
        for (column, texts) in [(&mut survey.prices, prices), (&mut survey.quantities, quantities)]
        {
            for text in texts {
                let written = Decimal::parse(text.as_bytes()).expect("decimal");
                column.add(written).expect("fits");
            }
        }
        survey
    }

    #[test]
    fn a_lot_finer_than_eight_decimals_and_a_price_of_a_billion_have_a_grid() {
        let survey = survey(&["1000000000", "0.01"], &["4900", "0.000000000001"]);
        let grid = Grid::new(&survey, None, None).expect("fits");
        let market = grid.market(AssetId::new(0), AssetId::new(1)).expect("checked");
        assert_eq!(market.quote_units_per_tick_lot, 1);
        let price = grid.price(Decimal::new(1_000_000_000, 0)).expect("on the grid");
        assert_eq!(price.get(), 100_000_000_000);
        let quantity = grid.quantity(Decimal::new(4900, 0)).expect("on the grid");
        // 4.9 × 10^12 of 14 decimals.
        let notional = market.notional(price, quantity).expect("fits");
        assert_eq!(notional.get(), 490_000_000_000_000_000_000_000_000);
        assert_eq!(grid.quantity_text(QuantityLots::new(1)), "0.000000000001");
    }

    #[test]
    fn numbers_finer_than_any_asset_are_still_counted_exactly() {
        let survey = survey(&["0.00000001"], &["0.000000000000000000000000001", "3"]);
        assert!(Grid::new(&survey, None, None).is_err(), "3 × 10^27 lots do not fit 64 bits");
        let survey = self::survey(&["0.00000001"], &["0.000000000000000001", "3"]);
        let grid = Grid::new(&survey, None, None).expect("fits");
        assert!(grid.check_edge().is_err(), "26 decimals are too many for the edge");
        let market = grid.market(AssetId::new(0), AssetId::new(1)).expect("checked");
        assert_eq!(market.quote_units_per_tick_lot, 1);
    }

    #[test]
    fn the_tick_size_times_the_lot_is_a_whole_number_of_quote_units() {
        let survey = survey(&["0.05", "10"], &["0.25", "3"]);
        let (tick, lot) = (Decimal::new(5, 2), Decimal::new(25, 2));
        let grid = Grid::new(&survey, Some(tick), Some(lot)).expect("fits");
        let market = grid.market(AssetId::new(0), AssetId::new(1)).expect("checked");
        let [base, _] = grid.assets();
        let whole = 10_u128.pow(u32::from(base.scale));
        let product = market.tick_size.get() * u128::from(market.base_units_per_lot);
        assert_eq!(product, u128::from(market.quote_units_per_tick_lot) * whole);
        assert_eq!(grid.price(Decimal::new(7, 2)), None, "0.07 is off a grid of 0.05");
    }
}
