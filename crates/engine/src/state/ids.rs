//! Ids hashed, and open orders by their ids.

use hashbrown::HashTable;
use units::{CommandId, MarketId, mix_wide};

use super::order::to_usize;

/// What the tables of ids are seeded with: the journal's secret.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Salt(u64);

impl Salt {
    pub(crate) fn new(salt: u64) -> Self {
        Self(salt)
    }

    /// The hash of an id, which all tables of ids go by.
    #[inline]
    pub(crate) fn hash(self, id: CommandId) -> IdHash {
        IdHash(mix_wide(id.get(), self.0))
    }
}

/// An id's hash: worked out once for all the tables that are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHash(u64);

impl IdHash {
    /// Its upper half.
    #[inline]
    pub(crate) fn upper(self) -> u32 {
        u32::try_from(self.0 >> 32_u32).expect("shifted to 32 bits")
    }
}

/// Where each open order stands: 12 bytes an order, for the id itself is read from the order. Half of its hash is here, so
/// that no order is read when the table grows, or when another's is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderIds {
    table: HashTable<OrderPlace>,
}

#[derive(Clone, Copy, Debug)]
struct OrderPlace {
    hash: u32,
    slot: u32,
    market: MarketId,
}

impl OrderPlace {
    #[inline]
    fn of(&self) -> (MarketId, u32) {
        (self.market, self.slot)
    }
}

impl OrderIds {
    /// Finds the order with this hash that is the `same`.
    #[inline]
    pub(crate) fn get(
        &self,
        hash: IdHash,
        same: impl Fn(MarketId, u32) -> bool,
    ) -> Option<(MarketId, u32)> {
        let place = self.table.find(spread(hash.upper()), is(hash, same))?;
        Some(place.of())
    }

    /// Reads what [`OrderIds::get`] and [`OrderIds::insert`] will read and write first, and returns something of it: among the
    /// first places that the table would look at, whatever stands there.
    #[inline]
    pub(crate) fn touch(&self, hash: IdHash) -> u32 {
        let mask = self.table.num_buckets().wrapping_sub(1);
        let home = to_usize(hash.upper());
        let places = (0..4).filter_map(|at| self.table.get_bucket(home.wrapping_add(at) & mask));
        places.map(|place| place.slot).next().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn insert(&mut self, hash: IdHash, (market, slot): (MarketId, u32)) {
        let place = OrderPlace { hash: hash.upper(), slot, market };
        self.table.insert_unique(spread(place.hash), place, |place| spread(place.hash));
    }

    /// Removes the order with this hash that is the `same`, and returns where it stands.
    #[inline]
    pub(crate) fn remove(
        &mut self,
        hash: IdHash,
        same: impl Fn(MarketId, u32) -> bool,
    ) -> Option<(MarketId, u32)> {
        let entry = self.table.find_entry(spread(hash.upper()), is(hash, same));
        Some(entry.ok()?.remove().0.of())
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

/// Tells whether a place has this hash and is the `same`.
#[inline]
fn is(hash: IdHash, same: impl Fn(MarketId, u32) -> bool) -> impl Fn(&OrderPlace) -> bool {
    move |place| place.hash == hash.upper() && same(place.market, place.slot)
}

/// The table goes by the lower bits of a hash and by its uppermost seven: 32 bits are enough for both.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32_u32 | u64::from(hash)
}
