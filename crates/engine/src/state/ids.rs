//! Open orders by their ids.

use hashbrown::HashTable;
use units::{CommandId, MarketId, mix_wide};

/// Where each open order stands: 8 bytes an order, for the id itself is read from the order.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderIds {
    table: HashTable<(MarketId, u32)>,
    salt: u64,
}

impl OrderIds {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    #[inline]
    pub(crate) fn get(
        &self,
        id: CommandId,
        id_of: impl Fn(MarketId, u32) -> CommandId,
    ) -> Option<(MarketId, u32)> {
        let hash = mix_wide(id.get(), self.salt);
        self.table.find(hash, |&(market, slot)| id_of(market, slot) == id).copied()
    }

    #[inline]
    pub(crate) fn insert(
        &mut self,
        id: CommandId,
        at: (MarketId, u32),
        id_of: impl Fn(MarketId, u32) -> CommandId,
    ) {
        let salt = self.salt;
        self.table.insert_unique(mix_wide(id.get(), salt), at, |&(market, slot)| {
            mix_wide(id_of(market, slot).get(), salt)
        });
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: CommandId, at: (MarketId, u32)) {
        let hash = mix_wide(id.get(), self.salt);
        let entry = self.table.find_entry(hash, |&other| other == at);
        entry.expect("an open order is found by its id").remove();
    }

    /// Finds and removes in one.
    #[inline]
    pub(crate) fn take(
        &mut self,
        id: CommandId,
        id_of: impl Fn(MarketId, u32) -> CommandId,
    ) -> Option<(MarketId, u32)> {
        let hash = mix_wide(id.get(), self.salt);
        let entry = self.table.find_entry(hash, |&(market, slot)| id_of(market, slot) == id);
        Some(entry.ok()?.remove().0)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}
