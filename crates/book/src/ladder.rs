//! The prices of one side, in order.

use std::collections::BTreeMap;
use std::ops::Bound;

use units::PriceTicks;

use crate::side::Side;

/// How many prices each have a place of their own in [`Ladder::near`]: those near the touch, which most orders come for.
const NEAR: usize = 256;

/// The levels of one side by price, with the best one at hand.
#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    levels: BTreeMap<PriceTicks, u32>,
    best: Option<(PriceTicks, u32)>,
    /// Levels by their price modulo the length, of those that share a place the one that came last: a part of `levels`,
    /// found without a walk down the tree.
    near: Box<[Option<(PriceTicks, u32)>; NEAR]>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), best: None, near: Box::new([None; NEAR]) }
    }
}

impl Ladder {
    #[inline]
    pub(crate) fn best(&self) -> Option<u32> {
        self.best.map(|(_, level)| level)
    }

    #[inline]
    pub(crate) fn get(&self, price: PriceTicks) -> Option<u32> {
        match self.near.get(near(price)) {
            Some(&Some((known, level))) if known == price => Some(level),
            _ => self.levels.get(&price).copied(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, side: Side, price: PriceTicks, level: u32) {
        self.levels.insert(price, level);
        *self.near_mut(price) = Some((price, level));
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
        let near = self.near_mut(price);
        *near = near.filter(|&(known, _)| known != price);
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
    fn near_mut(&mut self, price: PriceTicks) -> &mut Option<(PriceTicks, u32)> {
        self.near.get_mut(near(price)).expect("places are counted modulo their number")
    }
}

/// The place of a price among the near ones.
#[inline]
fn near(price: PriceTicks) -> usize {
    let [place, ..] = price.get().to_le_bytes();
    usize::from(place)
}
