//! The price-time-priority order book of one market.
//!
//! Invariants: within a level, orders stand in the order in which they came (or came back, for a refreshed
//! iceberg); a level exists only while an order stands in it; a level's quantity is the sum of its orders'
//! visible quantities. The book knows keys, owners and visible quantities. What an order is beside that, and
//! who may trade with whom, is the engine's business.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::indexing_slicing
    )
)]

mod ladder;
mod level;
mod side;

use units::{PriceTicks, QuantityLots};

use crate::ladder::Ladder;
use crate::level::{Level, NONE, Node};
pub use crate::side::Side;

/// An order's key in the book: its slot in the market's table of orders. Given by the caller, dense.
pub type Key = u32;

/// An order as the book sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its key.
    pub key: Key,
    /// Its owner, as the caller numbers them.
    pub owner: u32,
    /// Its visible quantity.
    pub visible: QuantityLots,
}

/// One price level as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelView {
    /// Which side of the book.
    pub side: Side,
    /// The price.
    pub price: PriceTicks,
    /// The sum of the visible quantities, in lots.
    pub quantity: QuantityLots,
    /// How many orders.
    pub orders: u32,
}

/// The order book of one market.
#[derive(Clone, Debug, Default)]
pub struct Book {
    nodes: Vec<Node>,
    levels: Vec<Level>,
    free_levels: Vec<u32>,
    bids: Ladder,
    asks: Ladder,
}

impl Book {
    /// Returns an empty book.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an order at the back of its price's queue and returns the level after it.
    ///
    /// # Panics
    ///
    /// When the key is in use, or the visible quantity is zero.
    #[inline(always)]
    pub fn insert(
        &mut self,
        key: Key,
        side: Side,
        price: PriceTicks,
        visible: QuantityLots,
        owner: u32,
    ) -> LevelView {
        assert!(!visible.is_zero(), "an order in the book shows something");
        let index = to_usize(key);
        if index >= self.nodes.len() {
            self.nodes.resize(index.saturating_add(1), Node::VACANT);
        }
        let level = self.level_at(side, price);
        assert!(self.node(key).level == NONE, "a key stands in the book once");
        self.append(key, visible, level, owner)
    }

    /// Takes an order out and returns its level after it (with no orders left, the level is gone).
    ///
    /// # Panics
    ///
    /// When the key does not stand in the book.
    #[inline]
    pub fn remove(&mut self, key: Key) -> LevelView {
        self.take(key).expect("only what stands in the book is removed")
    }

    /// Takes an order out as [`Book::remove`] does; `None` where the key does not stand in the book.
    #[inline(always)]
    pub fn take(&mut self, key: Key) -> Option<LevelView> {
        let place = self.nodes.get_mut(to_usize(key)).filter(|node| node.level != NONE)?;
        let node = core::mem::replace(place, Node::VACANT);
        let view = self.unlink(key, node);
        if view.orders == 0 {
            self.ladder_mut(view.side).remove(view.side, view.price);
            self.free_levels.push(node.level);
        }
        Some(view)
    }

    /// Takes `by` off an order's visible quantity, keeping its place, and returns its level after it.
    ///
    /// # Panics
    ///
    /// When nothing visible would be left: such an order is removed or refreshed instead.
    #[inline]
    pub fn reduce(&mut self, key: Key, by: QuantityLots) -> LevelView {
        let node = self.node_mut(key);
        let left = node.visible.checked_sub(by.get()).expect("a reduction stays within the order");
        assert!(left > 0, "an order in the book shows something");
        node.visible = left;
        let level = node.level;
        let level = self.level_mut(level);
        level.quantity = level.quantity.checked_sub(by.get()).expect("a level sums its orders");
        level.view()
    }

    /// Sends an order to the back of its level with a new visible quantity (an iceberg's next slice) and returns
    /// the level after it.
    ///
    /// # Panics
    ///
    /// When the key does not stand in the book, or the new quantity is zero.
    #[inline]
    pub fn refresh(&mut self, key: Key, visible: QuantityLots) -> LevelView {
        assert!(!visible.is_zero(), "an order in the book shows something");
        let node = *self.node(key);
        self.unlink(key, node);
        self.append(key, visible, node.level, node.owner)
    }

    /// Returns the best price of a side.
    #[must_use]
    #[inline]
    pub fn best(&self, side: Side) -> Option<PriceTicks> {
        self.ladder(side).best().map(|level| self.level(level).price)
    }

    /// Returns the order at the head of a side: the next one to trade.
    #[must_use]
    #[inline]
    pub fn head(&self, side: Side) -> Option<Resting> {
        let level = self.level(self.ladder(side).best()?);
        Some(self.resting(level.head))
    }

    /// Tells whether an order of this quantity can stand at this price: a level's quantity fits 64 bits.
    ///
    /// Orders below 2^32 lots always can: 2^31 of them sum to less than 2^63. Greater ones may
    /// fill the other half of the range.
    #[must_use]
    #[inline]
    pub fn has_room(&self, side: Side, price: PriceTicks, quantity: QuantityLots) -> bool {
        const SMALL: u64 = 1 << 32;
        const HALF: u64 = 1 << 63;
        if quantity.get() < SMALL {
            return true;
        }
        let level = self.ladder(side).get(price).map_or(0, |level| self.level(level).quantity);
        level.checked_add(quantity.get()).is_some_and(|total| total <= HALF)
    }

    /// Tells whether a key stands in the book.
    #[must_use]
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.nodes.get(to_usize(key)).is_some_and(|node| node.level != NONE)
    }

    /// Returns the visible quantity of an order in the book.
    ///
    /// # Panics
    ///
    /// When the key does not stand in the book.
    #[must_use]
    #[inline]
    pub fn visible(&self, key: Key) -> QuantityLots {
        let node = self.node(key);
        assert!(node.level != NONE, "only what stands in the book is visible");
        QuantityLots::new(node.visible)
    }

    /// Reads an order's place, its level and its neighbours before they are needed, and returns something of them: nothing
    /// follows from that.
    #[must_use]
    #[inline]
    pub fn touch(&self, key: Key) -> u64 {
        let Some(node) = self.nodes.get(to_usize(key)) else { return 0 };
        let near = |key: u32| self.nodes.get(to_usize(key)).map_or(0, |node| node.visible);
        let level = self.levels.get(to_usize(node.level)).map_or(0, |level| level.quantity);
        level.wrapping_add(near(node.previous)).wrapping_add(near(node.next))
    }

    /// Reads what an order at a price will read first, as [`Book::touch`] does: the level and the last order there.
    #[must_use]
    #[inline]
    pub fn touch_level(&self, side: Side, price: PriceTicks) -> u64 {
        let Some(level) = self.ladder(side).get_near(price) else { return 0 };
        let Some(level) = self.levels.get(to_usize(level)) else { return 0 };
        self.nodes.get(to_usize(level.tail)).map_or(0, |node| node.visible)
    }

    /// Returns the levels of a side, best first.
    #[inline]
    pub fn levels(&self, side: Side) -> impl Iterator<Item = LevelView> + '_ {
        self.ladder(side).iter(side).map(|level| self.level(level).view())
    }

    /// Returns the levels of a side, best first, each with its orders in time priority.
    #[inline]
    pub fn queues(
        &self,
        side: Side,
    ) -> impl Iterator<Item = (PriceTicks, impl Iterator<Item = Resting> + '_)> + '_ {
        self.ladder(side).iter(side).map(|level| {
            let level = self.level(level);
            let first = Some(self.resting(level.head));
            let queue = core::iter::successors(first, |order| {
                let next = self.node(order.key).next;
                (next != NONE).then(|| self.resting(next))
            });
            (level.price, queue)
        })
    }

    /// Finds the level of a price, or makes an empty one.
    #[inline]
    fn level_at(&mut self, side: Side, price: PriceTicks) -> u32 {
        if let Some(level) = self.ladder(side).get(price) {
            return level;
        }
        let fresh = Level::empty(side, price);
        let level = match self.free_levels.pop() {
            Some(level) => {
                *self.level_mut(level) = fresh;
                level
            }
            None => {
                let level = u32::try_from(self.levels.len()).expect("levels fit 32 bits");
                self.levels.push(fresh);
                level
            }
        };
        self.ladder_mut(side).insert(side, price, level);
        level
    }

    #[inline]
    fn append(&mut self, key: Key, visible: QuantityLots, level: u32, owner: u32) -> LevelView {
        let at = self.level_mut(level);
        let previous = core::mem::replace(&mut at.tail, key);
        at.orders = at.orders.checked_add(1).expect("a level's orders fit 32 bits");
        let quantity = at.quantity.checked_add(visible.get());
        at.quantity = quantity.expect("a level's quantity fits 64 bits");
        if previous == NONE {
            at.head = key;
        }
        let view = at.view();
        if previous != NONE {
            self.node_mut(previous).next = key;
        }
        let visible = visible.get();
        *self.node_mut(key) = Node { visible, level, owner, previous, next: NONE };
        view
    }

    #[inline(always)]
    fn unlink(&mut self, key: Key, node: Node) -> LevelView {
        if node.previous != NONE {
            self.node_mut(node.previous).next = node.next;
        }
        if node.next != NONE {
            self.node_mut(node.next).previous = node.previous;
        }
        let level = self.level_mut(node.level);
        if level.head == key {
            level.head = node.next;
        }
        if level.tail == key {
            level.tail = node.previous;
        }
        level.orders = level.orders.checked_sub(1).expect("a level counts its orders");
        level.quantity = level.quantity.checked_sub(node.visible).expect("a level sums its orders");
        level.view()
    }

    #[inline]
    fn resting(&self, key: Key) -> Resting {
        let node = self.node(key);
        Resting { key, owner: node.owner, visible: QuantityLots::new(node.visible) }
    }

    #[inline]
    fn node(&self, key: Key) -> &Node {
        self.nodes.get(to_usize(key)).expect("a key stands in the book")
    }

    #[inline]
    fn node_mut(&mut self, key: Key) -> &mut Node {
        self.nodes.get_mut(to_usize(key)).expect("a key stands in the book")
    }

    #[inline]
    fn level(&self, level: u32) -> &Level {
        self.levels.get(to_usize(level)).expect("a level's number is of this book")
    }

    #[inline]
    fn level_mut(&mut self, level: u32) -> &mut Level {
        self.levels.get_mut(to_usize(level)).expect("a level's number is of this book")
    }

    #[inline]
    fn ladder(&self, side: Side) -> &Ladder {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    #[inline]
    fn ladder_mut(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

#[inline]
fn to_usize(key: u32) -> usize {
    usize::try_from(key).expect("this runs on machines of 32 bits or more")
}

#[cfg(test)]
mod tests;
