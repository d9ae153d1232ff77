//! Counts what was traded, once for the whole exchange: where the trades are projected, off the order's way.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::Applied;
use telemetry::Metric;
use units::{Amount, MarketId};

use crate::live::Live;

/// Millionths of one.
const MILLION: u128 = 1_000_000;

/// Counts the notional of these rows' trades, by market.
pub(crate) fn count(live: &Live, batches: &[Arc<Applied>]) {
    let mut sums: BTreeMap<MarketId, u128> = BTreeMap::new();
    for (_, trade) in batches.iter().flat_map(|applied| &applied.effects.trades) {
        let sum = sums.entry(trade.market).or_default();
        *sum = sum.saturating_add(trade.notional.get());
    }
    for (id, sum) in sums {
        let counted = live.read(|state| {
            let config = state.market(id)?.config;
            let scale = state.assets().get(usize::from(config.quote.get()))?.scale;
            Some((config.symbol.clone(), millionths(Amount::new(sum), scale)))
        });
        if let Some((symbol, millionths)) = counted {
            telemetry::add_labelled(Metric::TradeVolume, &[&symbol], millionths);
        }
    }
}

/// Turns ledger units with so many decimals into millionths of one, to the nearest.
fn millionths(amount: Amount, scale: u8) -> u64 {
    let unit = 10_u128.saturating_pow(u32::from(scale));
    let (whole, rest) = (amount.get() / unit, amount.get() % unit);
    let rest = if unit > MILLION {
        let step = unit / MILLION;
        (rest + step / 2) / step
    } else {
        rest * (MILLION / unit)
    };
    u64::try_from(whole.saturating_mul(MILLION).saturating_add(rest)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_units_become_millionths() {
        assert_eq!(millionths(Amount::new(12_345), 2), 123_450_000);
        assert_eq!(millionths(Amount::new(1), 0), 1_000_000);
        assert_eq!(millionths(Amount::new(1_500_000_000_000_000_000), 18), 1_500_000);
        assert_eq!(millionths(Amount::new(1_499_999), 12), 1, "to the nearest");
        assert_eq!(millionths(Amount::new(1_500_000), 12), 2, "to the nearest");
    }
}
