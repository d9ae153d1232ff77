//! A market's visible book as followed: levels, what changed in a journal row, and the checksum.
//!
//! Invariant: applying every [`Diff`] to a snapshot, each beginning with the update after the last, gives the book
//! that this one is, and both have the same checksum.

use std::collections::BTreeMap;

use engine::{DepthLevel, LevelChange, Side};
use units::{PriceTicks, QuantityLots};
use wire::render::MarketWords;
use wire::{body, checksum};

/// Both sides of one market's visible book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    bids: BTreeMap<PriceTicks, QuantityLots>,
    asks: BTreeMap<PriceTicks, QuantityLots>,
    update_id: u64,
}

/// What one journal row changed in a book: each level at most once, as it stands after the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The first change's update id: one more than the last of the diff before.
    pub first_update_id: u64,
    /// The last change's update id.
    pub last_update_id: u64,
    /// Changed bids, highest first; zero: gone.
    pub bids: Vec<(PriceTicks, QuantityLots)>,
    /// Changed asks, lowest first; zero: gone.
    pub asks: Vec<(PriceTicks, QuantityLots)>,
}

/// A change that does not follow the last one: the follower has lost something and must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("book update {found} came where {expected} had to follow")]
pub struct Gap {
    /// What had to come.
    pub expected: u64,
    /// What came.
    pub found: u64,
}

impl Depth {
    /// Begins with the levels of the followed state.
    #[must_use]
    pub fn new(
        update_id: u64,
        bids: impl Iterator<Item = DepthLevel>,
        asks: impl Iterator<Item = DepthLevel>,
    ) -> Self {
        let level = |level: DepthLevel| (level.price, level.quantity);
        Self { bids: bids.map(level).collect(), asks: asks.map(level).collect(), update_id }
    }

    /// Returns the last change's update id.
    #[must_use]
    pub fn update_id(&self) -> u64 {
        self.update_id
    }

    /// Applies the changes of one journal row; `None` where there are none.
    ///
    /// # Errors
    ///
    /// [`Gap`] when an update id is not the one after the last; what came before it has been applied.
    pub fn apply(&mut self, changes: &[LevelChange]) -> Result<Option<Diff>, Gap> {
        let before = self.update_id;
        let mut bids = BTreeMap::new();
        let mut asks = BTreeMap::new();
        for change in changes {
            let expected = self.update_id + 1;
            if change.update_id != expected {
                return Err(Gap { expected, found: change.update_id });
            }
            self.update_id = expected;
            let (levels, changed) = match change.side {
                Side::Buy => (&mut self.bids, &mut bids),
                Side::Sell => (&mut self.asks, &mut asks),
            };
            if change.quantity.is_zero() {
                levels.remove(&change.price);
            } else {
                levels.insert(change.price, change.quantity);
            }
            changed.insert(change.price, change.quantity);
        }
        let changed = self.update_id != before;
        Ok(changed.then(|| Diff {
            first_update_id: before + 1,
            last_update_id: self.update_id,
            bids: bids.into_iter().rev().collect(),
            asks: asks.into_iter().collect(),
        }))
    }

    /// Returns the bids, highest first.
    pub fn bids(&self) -> impl Iterator<Item = (PriceTicks, QuantityLots)> {
        self.bids.iter().rev().map(|(price, quantity)| (*price, *quantity))
    }

    /// Returns the asks, lowest first.
    pub fn asks(&self) -> impl Iterator<Item = (PriceTicks, QuantityLots)> {
        self.asks.iter().map(|(price, quantity)| (*price, *quantity))
    }

    /// Returns the checksum of the best ten levels of each side.
    #[must_use]
    pub fn checksum(&self, words: &MarketWords<'_>) -> u32 {
        let bids = levels(words, self.bids().take(checksum::LEVELS));
        let asks = levels(words, self.asks().take(checksum::LEVELS));
        checksum_of(&bids, &asks)
    }

    /// Says the best `depth` levels of each side.
    #[must_use]
    pub fn body(&self, words: &MarketWords<'_>, sequence: u64, depth: usize) -> body::Book {
        // The checksum is of ten levels, however few are asked for.
        let checksum = self.checksum(words);
        body::Book {
            market: words.market.symbol.to_string(),
            sequence,
            last_update_id: self.update_id,
            checksum,
            bids: levels(words, self.bids().take(depth)),
            asks: levels(words, self.asks().take(depth)),
        }
    }
}

/// Says levels as they stand in the messages.
pub fn levels(
    words: &MarketWords<'_>,
    levels: impl IntoIterator<Item = (PriceTicks, QuantityLots)>,
) -> Vec<body::Level> {
    let say = |(price, quantity)| body::Level(words.price(price), words.quantity(quantity));
    levels.into_iter().map(say).collect()
}

/// Returns the checksum of a book as it stands in the messages, as a client computes it.
#[must_use]
pub fn checksum_of(bids: &[body::Level], asks: &[body::Level]) -> u32 {
    fn texts(levels: &[body::Level]) -> impl Iterator<Item = (&str, &str)> {
        levels.iter().map(|level| (level.0.as_str(), level.1.as_str()))
    }
    checksum::book(texts(bids), texts(asks))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use units::MarketId;

    use super::*;

    fn change(update_id: u64, side: Side, price: u64, quantity: u64) -> LevelChange {
        LevelChange {
            market: MarketId::new(0),
            side,
            price: PriceTicks::new(price).expect("prices are above zero"),
            quantity: QuantityLots::new(quantity),
            update_id,
        }
    }

    fn empty() -> Depth {
        Depth::new(0, std::iter::empty(), std::iter::empty())
    }

    /// A client's bids, asks and last update.
    type Client = (BTreeMap<u64, u64>, BTreeMap<u64, u64>, u64);

    /// What a client does with a diff.
    fn follow(book: &mut BTreeMap<u64, u64>, changes: &[(PriceTicks, QuantityLots)]) {
        for (price, quantity) in changes {
            match quantity.get() {
                0 => book.remove(&price.get()),
                quantity => book.insert(price.get(), quantity),
            };
        }
    }

    proptest! {
        #[test]
        fn prop_diffs_on_a_snapshot_give_the_book(
            rows in prop::collection::vec(prop::collection::vec((any::<bool>(), 1_u64..20, 0_u64..4), 0..8), 1..40),
            joined in 0_usize..20,
        ) {
            let mut depth = empty();
            let mut client: Option<Client> = None;
            let mut update_id = 0;
            for (at, row) in rows.iter().enumerate() {
                if at == joined {
                    let side = |levels: Vec<(PriceTicks, QuantityLots)>| {
                        levels.into_iter().map(|(price, quantity)| (price.get(), quantity.get())).collect()
                    };
                    client = Some((side(depth.bids().collect()), side(depth.asks().collect()), depth.update_id()));
                }
                let changes: Vec<LevelChange> = row.iter().map(|&(buy, price, quantity)| {
                    update_id += 1;
                    change(update_id, if buy { Side::Buy } else { Side::Sell }, price, quantity)
                }).collect();
                let diff = depth.apply(&changes).expect("the updates are without gaps");
                prop_assert_eq!(diff.is_none(), changes.is_empty());
                if let (Some((bids, asks, last)), Some(diff)) = (&mut client, diff) {
                    prop_assert_eq!(diff.first_update_id, *last + 1);
                    follow(bids, &diff.bids);
                    follow(asks, &diff.asks);
                    *last = diff.last_update_id;
                }
            }
            if let Some((bids, asks, last)) = client {
                prop_assert_eq!(last, depth.update_id());
                let plain = |(price, quantity): (PriceTicks, QuantityLots)| (price.get(), quantity.get());
                prop_assert!(bids.into_iter().rev().eq(depth.bids().map(plain)));
                prop_assert!(asks.into_iter().eq(depth.asks().map(plain)));
            }
        }
    }

    #[test]
    fn a_lost_update_is_found() {
        let mut depth = empty();
        assert!(depth.apply(&[change(1, Side::Buy, 5, 1)]).is_ok());
        let lost = depth.apply(&[change(3, Side::Buy, 5, 2)]);
        assert_eq!(lost, Err(Gap { expected: 2, found: 3 }));
    }
}
