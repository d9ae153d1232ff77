//! One market, taken out of the state together with what its orders touch beside it, while an event of it is applied: each
//! is looked up once.

use std::collections::BTreeMap;

use book::LevelView;
use ledger::{AccountIndex, Ledger};
use units::{Amount, AssetId, CommandId, MarketId, Sequence, Time};

use super::Evolver;
use crate::command::CancelReason;
use crate::observe::{LevelChange, Observer, OrderStatus, OrderView};
use crate::state::{AccountInfo, ClientIds, Market, Order, OrderIds, Salt};

/// A market that is being traded in, and who follows.
pub(super) struct Trading<'a, O> {
    pub(super) market: &'a mut Market,
    pub(super) ledger: &'a mut Ledger,
    pub(super) accounts: &'a mut [AccountInfo],
    pub(super) order_ids: &'a mut OrderIds,
    pub(super) salt: Salt,
    pub(super) client_ids: &'a mut ClientIds,
    pub(super) expiries: &'a mut BTreeMap<(Time, u64), (MarketId, u32)>,
    pub(super) observer: &'a mut O,
    /// What ledger entries refer to: the order that trades.
    pub(super) reference: CommandId,
    pub(super) sequence: Sequence,
    pub(super) time: Time,
}

impl<O: Observer> Evolver<'_, O> {
    /// Takes a market that an event names out of the state.
    #[inline]
    pub(super) fn trading(&mut self, market: MarketId) -> Trading<'_, O> {
        let state = &mut *self.state;
        let market = state.markets.get_mut(usize::from(market.get()));
        Trading {
            market: market.expect("an event names a market that is defined"),
            ledger: &mut state.ledger,
            accounts: &mut state.accounts,
            order_ids: &mut state.order_ids,
            salt: state.salt,
            client_ids: &mut state.client_ids,
            expiries: &mut state.expiries,
            observer: self.observer,
            reference: self.reference,
            sequence: state.sequence,
            time: state.time,
        }
    }
}

impl<O: Observer> Trading<'_, O> {
    #[inline]
    pub(super) fn hold(&mut self, account: AccountIndex, asset: AssetId, amount: Amount) {
        let held = self.ledger.place_hold(account, asset, amount);
        held.expect("an accepted order's hold is available");
    }

    #[inline]
    pub(super) fn release_surplus(
        &mut self,
        account: AccountIndex,
        asset: AssetId,
        held: Amount,
        needed: Amount,
    ) {
        let surplus = held.checked_sub(needed).expect("what is held covers what is needed");
        // Most have none.
        if !surplus.is_zero() {
            self.ledger.release_hold(account, asset, surplus);
        }
    }

    /// Makes an open order not findable by its id any more.
    #[inline]
    pub(super) fn forget_id(&mut self, id: CommandId, slot: u32) {
        let at = (self.market.id, slot);
        let removed =
            self.order_ids.remove(self.salt.hash(id), |market, slot| (market, slot) == at);
        removed.expect("an open order is found by its id");
    }

    /// Tells of a level after a change of it.
    #[inline]
    pub(super) fn tell_level(&mut self, level: LevelView) {
        let market = &mut *self.market;
        market.update_id = market.update_id.checked_add(1).expect("update ids fit 64 bits");
        self.observer.level(&LevelChange {
            market: market.id,
            side: level.side,
            price: level.price,
            quantity: level.quantity,
            update_id: market.update_id,
        });
    }

    /// Counts a change of an account's balance and tells of it.
    #[inline]
    pub(super) fn count_balance(&mut self, account: AccountIndex, asset: AssetId) {
        let account_sequence = self.ledger.count_changes(account, 1);
        self.tell_balance(account, asset, account_sequence);
    }

    /// Tells of an account's balance after a change of it, which has been counted.
    #[inline]
    pub(super) fn tell_balance(
        &mut self,
        account: AccountIndex,
        asset: AssetId,
        account_sequence: u64,
    ) {
        if O::FOLLOWS {
            let balance = self.ledger.balance(account, asset);
            self.observer.balance(self.ledger.id(account), asset, balance, account_sequence);
        }
    }

    /// Tells of an open order after a change of it, which has been counted.
    #[inline]
    pub(super) fn tell_open_order(&mut self, slot: u32, account_sequence: u64) {
        if O::FOLLOWS {
            let status = self.market.orders.get(slot).status();
            self.tell_order(slot, status, None, account_sequence);
        }
    }

    /// Tells of an order that is in the market's table still.
    #[inline]
    pub(super) fn tell_order(
        &mut self,
        slot: u32,
        status: OrderStatus,
        reason: Option<CancelReason>,
        account_sequence: u64,
    ) {
        if O::FOLLOWS {
            let order = self.market.orders.get(slot);
            let view = self.view(order, status, reason, account_sequence);
            self.observer.order(&view);
        }
    }

    pub(super) fn view<'o>(
        &self,
        order: &'o Order,
        status: OrderStatus,
        reason: Option<CancelReason>,
        account_sequence: u64,
    ) -> OrderView<'o> {
        let view = order.view(self.market.id, self.ledger.id(order.account), status);
        OrderView { reason, updated_at: self.time, account_sequence, ..view }
    }
}
