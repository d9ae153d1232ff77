//! Levels and nodes: the queue at one price as a list through the table of nodes.

use units::{PriceTicks, QuantityLots};

use crate::LevelView;
use crate::side::Side;

/// No node, no level.
pub(crate) const NONE: u32 = u32::MAX;

/// An order in the book. 24 bytes: a sweep reads little else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) visible: u64,
    pub(crate) level: u32,
    pub(crate) owner: u32,
    pub(crate) previous: u32,
    pub(crate) next: u32,
}

impl Node {
    pub(crate) const VACANT: Self =
        Self { visible: 0, level: NONE, owner: NONE, previous: NONE, next: NONE };
}

/// The queue at one price.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    pub(crate) price: PriceTicks,
    pub(crate) quantity: u64,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) orders: u32,
    pub(crate) side: Side,
}

impl Level {
    pub(crate) const fn empty(side: Side, price: PriceTicks) -> Self {
        Self { price, quantity: 0, head: NONE, tail: NONE, orders: 0, side }
    }

    #[inline]
    pub(crate) const fn view(&self) -> LevelView {
        LevelView {
            side: self.side,
            price: self.price,
            quantity: QuantityLots::new(self.quantity),
            orders: self.orders,
        }
    }
}
