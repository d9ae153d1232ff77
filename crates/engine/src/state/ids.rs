//! Ids hashed, and open orders by their ids.

use hashbrown::HashTable;
use units::{CommandId, MarketId, mix_wide};

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

/// Where each open order stands: 8 bytes an order, for the id itself is read from the order.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderIds {
    table: HashTable<(MarketId, u32)>,
}

impl OrderIds {
    /// Finds the order with this hash that is the `same`.
    #[inline]
    pub(crate) fn get(
        &self,
        hash: IdHash,
        same: impl Fn(MarketId, u32) -> bool,
    ) -> Option<(MarketId, u32)> {
        self.table.find(hash.0, |&(market, slot)| same(market, slot)).copied()
    }

    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: IdHash,
        at: (MarketId, u32),
        hash_of: impl Fn(MarketId, u32) -> IdHash,
    ) {
        self.table.insert_unique(hash.0, at, |&(market, slot)| hash_of(market, slot).0);
    }

    /// Removes the order with this hash that is the `same`, and returns where it stands.
    #[inline]
    pub(crate) fn remove(
        &mut self,
        hash: IdHash,
        same: impl Fn(MarketId, u32) -> bool,
    ) -> Option<(MarketId, u32)> {
        let entry = self.table.find_entry(hash.0, |&(market, slot)| same(market, slot));
        Some(entry.ok()?.remove().0)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}
