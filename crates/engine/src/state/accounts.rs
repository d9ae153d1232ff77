//! What the engine keeps of an account beside its balances: flags, rate, and its own open orders.

use ledger::AccountIndex;
use units::{AccountId, MarketId, Time};

use super::order::to_usize;
use super::{AccountFlags, AccountView, State};

/// One account, on one cache line with its list for the first market.
///
/// Invariant: lists are in the order of the markets, for what is decided from them must not depend on which came first.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(crate) struct AccountInfo {
    pub(crate) flags: AccountFlags,
    pub(crate) rate_second: u64,
    pub(crate) rate_count: u32,
    /// Of the market whose id is 0.
    first: OwnOrders,
    others: Box<[OwnOrders]>,
}

/// An account's open orders in one market: their slots in the market's table, in no order. Each order knows its
/// place here, so that neither coming nor going reads more than one other order.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnOrders {
    pub(crate) market: MarketId,
    slots: Vec<u32>,
}

impl OwnOrders {
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("open orders fit 32 bits")
    }

    /// Puts an order, which knows that its place is [`OwnOrders::count`], at the end.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32) {
        self.slots.push(slot);
    }

    /// Takes an order out and returns the one that has its place now.
    #[inline]
    pub(crate) fn remove(&mut self, place: u32, slot: u32) -> Option<u32> {
        let removed = self.slots.swap_remove(to_usize(place));
        assert_eq!(removed, slot, "an order knows its place among its owner's");
        self.slots.get(to_usize(place)).copied()
    }
}

impl AccountInfo {
    /// Order commands counted in the second of `now`.
    #[inline]
    pub(crate) fn commands_in(&self, now: Time) -> u32 {
        if self.rate_second == now.seconds() { self.rate_count } else { 0 }
    }

    #[inline]
    pub(crate) fn count_command(&mut self, now: Time) {
        self.rate_count = self.commands_in(now).saturating_add(1);
        self.rate_second = now.seconds();
    }

    /// Reads what a new order of the account reads first.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        let last = self.first.slots.last();
        self.rate_second.wrapping_add(last.map_or(0, |&slot| u64::from(slot)))
    }

    /// The lists that have orders, in the order of the markets.
    pub(crate) fn own(&self) -> impl Iterator<Item = &OwnOrders> {
        core::iter::once(&self.first).chain(&self.others).filter(|own| own.count() > 0)
    }

    #[inline]
    pub(crate) fn own_in(&self, market: MarketId) -> Option<&OwnOrders> {
        if self.first.market == market {
            return Some(&self.first);
        }
        self.others.get(self.place_of(market).ok()?)
    }

    #[inline]
    pub(crate) fn own_in_mut(&mut self, market: MarketId) -> &mut OwnOrders {
        if self.first.market == market { &mut self.first } else { self.other_mut(market) }
    }

    fn other_mut(&mut self, market: MarketId) -> &mut OwnOrders {
        let at = match self.place_of(market) {
            Ok(at) => at,
            Err(at) => {
                let mut others = core::mem::take(&mut self.others).into_vec();
                others.insert(at, OwnOrders { market, slots: Vec::new() });
                self.others = others.into();
                at
            }
        };
        self.others.get_mut(at).expect("the entry was just found")
    }

    /// Finds a market's list among the others, or where it would be.
    fn place_of(&self, market: MarketId) -> Result<usize, usize> {
        self.others.binary_search_by_key(&market, |own| own.market)
    }
}

/// The same as [`State::info_mut`], where the rest of the state is in use.
#[inline]
pub(crate) fn info_mut(accounts: &mut [AccountInfo], account: AccountIndex) -> &mut AccountInfo {
    accounts.get_mut(to_usize(account.get())).expect("every ledger account has its info")
}

impl State {
    #[inline]
    pub(crate) fn info(&self, account: AccountIndex) -> &AccountInfo {
        self.accounts.get(to_usize(account.get())).expect("every ledger account has its info")
    }

    #[inline]
    pub(crate) fn info_mut(&mut self, account: AccountIndex) -> &mut AccountInfo {
        info_mut(&mut self.accounts, account)
    }

    /// Opens an account in the ledger and beside it.
    pub(crate) fn open_account(&mut self, id: AccountId) -> AccountIndex {
        let index = self.ledger.open(id);
        if to_usize(index.get()) == self.accounts.len() {
            self.accounts.push(AccountInfo::default());
        }
        index
    }

    pub(crate) fn account_indices(&self) -> impl Iterator<Item = AccountIndex> + use<> {
        let count = u32::try_from(self.accounts.len()).expect("accounts fit 32 bits");
        (0..count).map(AccountIndex::new)
    }

    pub(crate) fn account_view(&self, index: AccountIndex) -> AccountView {
        AccountView {
            id: self.ledger.id(index),
            flags: self.info(index).flags,
            account_sequence: self.ledger.sequence(index),
        }
    }

    /// An account's open orders, of one market or all, oldest first within each.
    pub(crate) fn own_orders(
        &self,
        account: AccountIndex,
        market: Option<MarketId>,
    ) -> impl Iterator<Item = (MarketId, u32)> + '_ {
        let lists = self.info(account).own();
        lists.filter(move |own| market.is_none_or(|market| market == own.market)).flat_map(|own| {
            let orders = &self.market_of(own.market).orders;
            let mut slots = own.slots.clone();
            slots.sort_unstable_by_key(|&slot| orders.get(slot).arrival);
            slots.into_iter().map(|slot| (own.market, slot))
        })
    }

    /// Puts an order into its owner's list.
    pub(crate) fn link_own(&mut self, market: MarketId, slot: u32) {
        let account = self.market_of(market).orders.get(slot).account;
        let own = self.info_mut(account).own_in_mut(market);
        let place = own.count();
        own.push(slot);
        self.market_mut(market).orders.get_mut(slot).own_place = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_account_takes_one_cache_line() {
        assert_eq!((size_of::<AccountInfo>(), align_of::<AccountInfo>()), (64, 64));
    }
}
