//! The prices of one side, in order.

use std::collections::BTreeMap;

use units::PriceTicks;

use crate::side::Side;

/// The levels of one side by price, with the best one at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ladder {
    levels: BTreeMap<PriceTicks, u32>,
    best: Option<(PriceTicks, u32)>,
}

impl Ladder {
    #[inline]
    pub(crate) fn best(&self) -> Option<u32> {
        self.best.map(|(_, level)| level)
    }

    #[inline]
    pub(crate) fn get(&self, price: PriceTicks) -> Option<u32> {
        match self.best {
            Some((best, level)) if best == price => Some(level),
            _ => self.levels.get(&price).copied(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, side: Side, price: PriceTicks, level: u32) {
        self.levels.insert(price, level);
        let better = |best| match side {
            Side::Buy => price > best,
            Side::Sell => price < best,
        };
        if self.best.is_none_or(|(best, _)| better(best)) {
            self.best = Some((price, level));
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, side: Side, price: PriceTicks) {
        self.levels.remove(&price);
        if self.best.is_some_and(|(best, _)| best == price) {
            let next = match side {
                Side::Buy => self.levels.last_key_value(),
                Side::Sell => self.levels.first_key_value(),
            };
            self.best = next.map(|(&price, &level)| (price, level));
        }
    }

    /// Returns the levels, best first.
    #[inline]
    pub(crate) fn iter(&self, side: Side) -> impl Iterator<Item = u32> + '_ {
        let mut levels = self.levels.values().copied();
        core::iter::from_fn(move || match side {
            Side::Buy => levels.next_back(),
            Side::Sell => levels.next(),
        })
    }
}
