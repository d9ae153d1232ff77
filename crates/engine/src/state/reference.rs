//! A market's reference price: what the band and the halt are measured from.

use std::collections::VecDeque;

use units::{PPM, PriceTicks, QuantityLots, RatePpm, Time};

use crate::config::MarketConfig;

/// How far back the reference looks, in seconds of journal time.
const WINDOW_SECONDS: u64 = 300;

/// One second of a market's trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TradeSecond {
    pub(crate) second: u64,
    pub(crate) tick_lots: u128,
    pub(crate) lots: u128,
    pub(crate) reference_before: Option<PriceTicks>,
}

/// The trades of the last five minutes, by the second, and their sums.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    seconds: VecDeque<TradeSecond>,
    tick_lots: u128,
    lots: u128,
}

impl Reference {
    /// The volume-weighted price of the window's trades, rounded down to whole ticks; `None` without trades.
    #[inline]
    pub(crate) fn vwap(&self) -> Option<PriceTicks> {
        // Most sums fit 64 bits, where a division takes a fraction of the time.
        let ticks = match (u64::try_from(self.tick_lots), u64::try_from(self.lots)) {
            (Ok(tick_lots), Ok(lots)) => tick_lots.checked_div(lots)?,
            _ => {
                let ticks = self.tick_lots.checked_div(self.lots)?;
                u64::try_from(ticks).expect("a mean price is no higher than the highest")
            }
        };
        PriceTicks::new(ticks)
    }

    /// The window's price, else the last trade's, else the configured one.
    #[inline]
    pub(crate) fn price(
        &self,
        last: Option<PriceTicks>,
        config: &MarketConfig,
    ) -> Option<PriceTicks> {
        self.vwap().or(last).or(config.initial_price)
    }

    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        time: Time,
        price: PriceTicks,
        quantity: QuantityLots,
        before: Option<PriceTicks>,
    ) {
        let lots = u128::from(quantity.get());
        let tick_lots =
            u128::from(price.get()).checked_mul(lots).expect("64 × 64 bits fit 128 bits");
        let second = time.seconds();
        let add = |to: &mut u128, by: u128| {
            *to = to.checked_add(by).expect("five minutes of trades fit 128 bits");
        };
        match self.seconds.back_mut() {
            Some(last) if last.second == second => {
                add(&mut last.tick_lots, tick_lots);
                add(&mut last.lots, lots);
            }
            _ => self.seconds.push_back(TradeSecond {
                second,
                tick_lots,
                lots,
                reference_before: before,
            }),
        }
        add(&mut self.tick_lots, tick_lots);
        add(&mut self.lots, lots);
    }

    /// Forgets what is older than the window, and tells whether there was something.
    pub(crate) fn forget(&mut self, now: Time) -> bool {
        let before = self.seconds.len();
        let first = now.seconds().saturating_sub(WINDOW_SECONDS);
        while self.seconds.front().is_some_and(|entry| entry.second < first) {
            let old = self.seconds.pop_front().expect("the front was just seen");
            self.tick_lots =
                self.tick_lots.checked_sub(old.tick_lots).expect("sums hold their parts");
            self.lots = self.lots.checked_sub(old.lots).expect("sums hold their parts");
        }
        self.seconds.len() < before
    }

    /// Whether the reference has moved by more than `limit` within the window.
    pub(crate) fn moved_beyond(&self, now: Option<PriceTicks>, limit: RatePpm) -> bool {
        let before = self.seconds.front().and_then(|entry| entry.reference_before);
        let (Some(before), Some(now)) = (before, now) else { return false };
        let moved = u128::from(before.get().abs_diff(now.get()));
        let allowed = u128::from(before.get()).saturating_mul(u128::from(limit.get()));
        moved.saturating_mul(u128::from(PPM)) > allowed
    }

    /// Measures moves from `now` on: what was before a halt does not halt the market again.
    pub(crate) fn rebase(&mut self, now: Option<PriceTicks>) {
        for second in &mut self.seconds {
            second.reference_before = now;
        }
    }

    pub(crate) fn seconds(&self) -> impl Iterator<Item = &TradeSecond> {
        self.seconds.iter()
    }

    pub(crate) fn restore(&mut self, entry: TradeSecond) {
        self.tick_lots = self.tick_lots.saturating_add(entry.tick_lots);
        self.lots = self.lots.saturating_add(entry.lots);
        self.seconds.push_back(entry);
    }
}

/// The prices within `band` of the reference, both included: rounded towards the reference.
pub(crate) fn band(reference: PriceTicks, band: RatePpm) -> (PriceTicks, PriceTicks) {
    let ppm = u128::from(PPM);
    let price = u128::from(reference.get());
    let low_ppm = ppm.saturating_sub(u128::from(band.get()));
    let high_ppm = ppm.saturating_add(u128::from(band.get()));
    let low = price.saturating_mul(low_ppm).div_ceil(ppm);
    let high = price.saturating_mul(high_ppm).checked_div(ppm).expect("a million is not zero");
    let clamp = |ticks: u128| u64::try_from(ticks).unwrap_or(u64::MAX);
    (
        PriceTicks::new(clamp(low)).unwrap_or(PriceTicks::MIN),
        PriceTicks::new(clamp(high)).unwrap_or(PriceTicks::MIN),
    )
}
