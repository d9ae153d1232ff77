//! The prices of one side, in order.

use std::collections::BTreeMap;
use std::ops::Bound;

use units::PriceTicks;

use crate::side::Side;

/// How many places [`Ladder::near`] begins with: more than there are prices near the touch, which most orders come for.
const NEAR_MIN: usize = 256;

/// The levels of one side by price, with the best one at hand.
#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    levels: BTreeMap<PriceTicks, u32>,
    best: Option<(PriceTicks, u32)>,
    /// Levels by their price modulo the length, a power of two that is never less than their number. A part of `levels`,
    /// found without a walk down the tree.
    near: Vec<Near>,
}

/// The place that some prices share.
#[derive(Clone, Copy, Debug, Default)]
struct Near {
    /// The one that came last of the prices here that have levels, as long as it has.
    price: Option<PriceTicks>,
    level: u32,
    /// How many prices here have levels.
    levels: u32,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), best: None, near: vec![Near::default(); NEAR_MIN] }
    }
}

impl Ladder {
    #[inline]
    pub(crate) fn best(&self) -> Option<u32> {
        self.best.map(|(_, level)| level)
    }

    #[inline]
    pub(crate) fn get(&self, price: PriceTicks) -> Option<u32> {
        let near = self.near(price);
        if near.price == Some(price) {
            Some(near.level)
        } else if near.levels == 0 {
            None
        } else {
            self.levels.get(&price).copied()
        }
    }

    /// Finds a level without a walk down the tree; `None` does not say that there is none.
    #[inline]
    pub(crate) fn get_near(&self, price: PriceTicks) -> Option<u32> {
        let near = self.near(price);
        (near.price == Some(price)).then_some(near.level)
    }

    #[inline]
    pub(crate) fn insert(&mut self, side: Side, price: PriceTicks, level: u32) {
        self.levels.insert(price, level);
        self.near_mut(price).add(price, level);
        if self.levels.len() > self.near.len() {
            self.grow();
        }
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
        self.near_mut(price).remove(price);
        if self.best.is_some_and(|(best, _)| best == price) {
            let next = match side {
                Side::Buy => self.levels.last_key_value(),
                Side::Sell => self.levels.first_key_value(),
            };
            self.best = next.map(|(&price, &level)| (price, level));
        }
    }

    /// Returns the levels, best first. The tree is not walked before the second one is asked for.
    #[inline]
    pub(crate) fn iter(&self, side: Side) -> impl Iterator<Item = u32> + '_ {
        let behind = self.best.into_iter().flat_map(move |(best, _)| self.behind(side, best));
        self.best().into_iter().chain(behind)
    }

    /// Returns the levels behind a price, best first.
    fn behind(&self, side: Side, price: PriceTicks) -> impl Iterator<Item = u32> + '_ {
        let range = match side {
            Side::Buy => (Bound::Unbounded, Bound::Excluded(price)),
            Side::Sell => (Bound::Excluded(price), Bound::Unbounded),
        };
        let mut levels = self.levels.range(range).map(|(_, &level)| level);
        core::iter::from_fn(move || match side {
            Side::Buy => levels.next_back(),
            Side::Sell => levels.next(),
        })
    }

    #[inline]
    fn near(&self, price: PriceTicks) -> &Near {
        self.near.get(self.place(price)).expect("places are counted modulo their number")
    }

    #[inline]
    fn near_mut(&mut self, price: PriceTicks) -> &mut Near {
        let place = self.place(price);
        self.near.get_mut(place).expect("places are counted modulo their number")
    }

    /// The place of a price among the near ones.
    #[inline]
    fn place(&self, price: PriceTicks) -> usize {
        let low = price.get() & u64::from(u32::MAX);
        let low = usize::try_from(low).expect("this runs on machines of 32 bits or more");
        low & self.near.len().wrapping_sub(1)
    }

    /// Gives the near ones eight times as many places: it is seldom done, and leaves little behind.
    #[cold]
    fn grow(&mut self) {
        self.near = vec![Near::default(); self.near.len().saturating_mul(8)];
        let levels = core::mem::take(&mut self.levels);
        for (&price, &level) in &levels {
            self.near_mut(price).add(price, level);
        }
        self.levels = levels;
    }
}

impl Near {
    #[inline]
    fn add(&mut self, price: PriceTicks, level: u32) {
        let levels = self.levels.checked_add(1).expect("levels fit 32 bits");
        *self = Self { price: Some(price), level, levels };
    }

    #[inline]
    fn remove(&mut self, price: PriceTicks) {
        self.price = self.price.filter(|&known| known != price);
        self.levels = self.levels.checked_sub(1).expect("a place counts its levels");
    }
}
