//! Orders come, stand, change and go.

use ledger::AccountIndex;
use units::{Amount, CommandId, MarketId, PriceTicks, QuantityLots};

use super::Evolver;
use super::settle::{TakerOrder, Traded};
use super::trading::Trading;
use crate::command::{Action, CancelReason, Command, NewOrder, TimeInForce};
use crate::event::{Ending, PlacedOrder};
use crate::observe::{Observer, OrderStatus};
use crate::state::{ClientEntry, Extra, Market, Order, info_mut};

impl<O: Observer> Evolver<'_, O> {
    /// Applies a new order of the account whose rate it has counted for. Returns where it stands if it stays open.
    #[inline]
    pub(super) fn order_placed(
        &mut self,
        command: &Command,
        placed: &PlacedOrder,
        account: Option<AccountIndex>,
    ) -> Option<(MarketId, u32)> {
        let Action::PlaceOrder(new) = &command.action else {
            panic!("only a new order is placed");
        };
        let state = &mut *self.state;
        state.arrivals = state.arrivals.checked_add(1).expect("arrivals fit 64 bits");
        let arrival = state.arrivals;
        if !state.remembered.is_empty()
            && let Some((_, expires_at)) = state.remembered.remove(&command.id)
        {
            state.remembered_expiries.remove(&(expires_at, command.id));
        }
        if let Some(client_order_id) = &new.client_order_id {
            state.client_ids.insert(ClientEntry {
                account: new.account,
                client_order_id: client_order_id.clone(),
                order: command.id,
                body_hash: command.body_hash,
            });
        }
        let account = account.expect("an order's account is open");
        let arrived = Arrived { id: command.id, account, arrival };
        let slot = self.trading(new.market).place(arrived, new, placed)?;
        Some((new.market, slot))
    }

    #[inline]
    pub(super) fn cancel_order(&mut self, market: MarketId, id: CommandId, reason: CancelReason) {
        let at = self.state.take_order_id(id);
        self.trading(market).close(named(market, at), reason);
    }

    pub(super) fn reduce_order(&mut self, market: MarketId, id: CommandId, quantity: QuantityLots) {
        let slot = self.slot_of(market, id);
        self.trading(market).reduce(slot, quantity);
    }

    pub(super) fn replace_order(
        &mut self,
        market: MarketId,
        id: CommandId,
        quantity: QuantityLots,
        placed: &PlacedOrder,
    ) {
        let slot = self.slot_of(market, id);
        self.reference = id;
        self.trading(market).replace(slot, quantity, placed);
    }

    pub(super) fn trigger_stop(&mut self, market: MarketId, id: CommandId, placed: &PlacedOrder) {
        let slot = self.slot_of(market, id);
        self.reference = id;
        self.trading(market).trigger(slot, placed);
    }

    fn slot_of(&self, market: MarketId, order: CommandId) -> u32 {
        named(market, self.state.find_order(order).map(|(found, slot)| (found.id, slot)))
    }
}

/// The slot of an order that an event names, where it must be.
fn named(market: MarketId, at: Option<(MarketId, u32)>) -> u32 {
    let (found, slot) = at.expect("an event names an open order");
    assert_eq!(found, market, "an order is in the market that the event names");
    slot
}

/// What a new order is beside what was asked and what was decided.
#[derive(Clone, Copy)]
struct Arrived {
    id: CommandId,
    account: AccountIndex,
    /// Its place in the order of all arrivals.
    arrival: u64,
}

impl<O: Observer> Trading<'_, O> {
    /// Takes a new order through its steps to its place or its end; returns its slot where it stays open.
    #[inline]
    fn place(&mut self, arrived: Arrived, new: &NewOrder, placed: &PlacedOrder) -> Option<u32> {
        let (account, side, order_id) = (arrived.account, new.side, placed.order_id);
        assert_eq!(order_id, self.market.last_order_id.next(), "order ids have no gaps");
        self.market.last_order_id = order_id;
        let pays = self.market.config.pays(side);
        self.hold(account, pays, placed.hold);

        let taker = TakerOrder { id: arrived.id, order_id, account, side };
        let traded = self.take_steps(taker, &placed.steps);
        let held = placed.hold.checked_sub(traded.spent).expect("fills are paid from the hold");
        // The order, what it pays with, what it gets: no trade is without a hold.
        let (has_held, has_traded) = (!placed.hold.is_zero(), !traded.filled.is_zero());
        let changes = if has_traded { 3 } else { 1_u64.saturating_add(u64::from(has_held)) };
        let account_sequence = self.ledger.count_changes(account, changes);
        let slot = match placed.ending {
            Ending::Rests | Ending::Waits => {
                let order = self.order(arrived, new, placed, &traded);
                let needed = order.hold(&self.market.config);
                self.release_surplus(account, pays, held, needed);
                let slot = self.insert(order);
                self.tell_open_order(slot, account_sequence);
                Some(slot)
            }
            Ending::Filled | Ending::Cancelled(_) => {
                self.release_surplus(account, pays, held, Amount::ZERO);
                if O::FOLLOWS {
                    let order = self.order(arrived, new, placed, &traded);
                    let (status, reason) = closed(placed.ending);
                    let view = self.view(&order, status, reason, account_sequence);
                    self.observer.order(&view);
                }
                if let Some(client_order_id) = &new.client_order_id {
                    self.client_ids.close(new.account, client_order_id.clone(), self.time);
                }
                None
            }
        };
        if has_held {
            self.tell_balance(account, pays, account_sequence.saturating_add(1));
        }
        if has_traded {
            let receives = self.market.config.pays(side.opposite());
            self.tell_balance(account, receives, account_sequence.saturating_add(2));
        }
        slot
    }

    /// Makes a new order as its steps leave it.
    #[inline]
    fn order(
        &self,
        arrived: Arrived,
        new: &NewOrder,
        placed: &PlacedOrder,
        traded: &Traded,
    ) -> Order {
        Order {
            id: arrived.id,
            filled_notional: traded.notional,
            order_id: placed.order_id,
            // A market order without a band never stands, so this price is never seen.
            price: placed.limit.unwrap_or(PriceTicks::MIN),
            quantity: new.quantity,
            filled: traded.filled,
            created_at: self.time,
            created_in: self.sequence,
            arrival: arrived.arrival,
            client_order_id: new.client_order_id.clone(),
            extra: Extra::of(new, placed.ending == Ending::Waits),
            account: arrived.account,
            own_place: 0,
            side: new.side,
            order_type: new.order_type,
            self_trade_prevention: new.self_trade_prevention,
            post_only: new.post_only,
        }
    }

    fn reduce(&mut self, slot: u32, quantity: QuantityLots) {
        let market = &mut *self.market;
        let order = market.orders.get_mut(slot);
        let before = order.hold(&market.config);
        assert!(order.filled < quantity && quantity < order.quantity, "a reduction leaves a rest");
        order.quantity = quantity;
        let after = order.hold(&market.config);
        let (account, pays) = (order.account, market.config.pays(order.side));
        if !order.waits() {
            let (visible, remaining) = (market.book.visible(slot), order.remaining());
            // An iceberg gives up what is hidden first.
            if let Some(over) = visible.checked_sub(remaining).filter(|over| !over.is_zero()) {
                let level = market.book.reduce(slot, over);
                self.tell_level(level);
            }
        }
        self.release_surplus(account, pays, before, after);
        let account_sequence = self.ledger.count_changes(account, 1);
        self.tell_open_order(slot, account_sequence);
        self.count_balance(account, pays);
    }

    fn replace(&mut self, slot: u32, quantity: QuantityLots, placed: &PlacedOrder) {
        let market = &mut *self.market;
        let order = market.orders.get_mut(slot);
        let (account, pays) = (order.account, market.config.pays(order.side));
        let before = order.hold(&market.config);
        order.quantity = quantity;
        order.price = placed.limit.expect("an open order has a limit");
        if !order.waits() {
            let level = market.book.remove(slot);
            self.tell_level(level);
        }
        match placed.hold.checked_sub(before) {
            Some(more) => self.hold(account, pays, more),
            None => self.release_surplus(account, pays, before, placed.hold),
        }
        self.go_on(slot, placed);
    }

    fn trigger(&mut self, slot: u32, placed: &PlacedOrder) {
        let market = &mut *self.market;
        market.remove_stop(slot);
        let order = market.orders.get_mut(slot);
        order.extra.as_mut().expect("a stop has a trigger").waits = false;
        let hold = order.hold(&market.config);
        assert_eq!(hold, placed.hold, "a stop is held for when it is accepted");
        self.go_on(slot, placed);
    }

    /// Takes an order that is open, but stands nowhere now, through its steps to its new place or its end.
    fn go_on(&mut self, slot: u32, placed: &PlacedOrder) {
        let order = self.market.orders.get(slot);
        let (id, order_id, account, side) = (order.id, order.order_id, order.account, order.side);
        let taker = TakerOrder { id, order_id, account, side };
        let traded = self.take_steps(taker, &placed.steps);
        let market = &mut *self.market;
        let order = market.orders.get_mut(slot);
        let filled = order.filled.checked_add(traded.filled);
        order.filled = filled.expect("fills fit the order");
        let notional = order.filled_notional.checked_add(traded.notional);
        order.filled_notional = notional.expect("an order's notional fits");
        let needed = order.hold(&market.config);
        let held = placed.hold.checked_sub(traded.spent).expect("fills are paid from the hold");
        let pays = market.config.pays(side);
        let account_sequence = self.ledger.count_changes(account, 1);
        match placed.ending {
            Ending::Rests | Ending::Waits => {
                self.release_surplus(account, pays, held, needed);
                if placed.ending == Ending::Rests {
                    self.stand(slot);
                }
                self.tell_open_order(slot, account_sequence);
            }
            Ending::Filled | Ending::Cancelled(_) => {
                self.release_surplus(account, pays, held, Amount::ZERO);
                let (status, reason) = closed(placed.ending);
                self.forget_id(id, slot);
                self.remove(slot, status, reason, account_sequence);
            }
        }
        self.count_balance(account, pays);
        if !traded.filled.is_zero() {
            self.count_balance(account, self.market.config.pays(side.opposite()));
        }
    }

    /// Ends an open order, which is not found by its id any more, before it is filled, and releases its hold.
    #[inline]
    pub(super) fn close(&mut self, slot: u32, reason: CancelReason) {
        let Market { orders, config, .. } = &*self.market;
        let order = orders.get(slot);
        let (account, pays, hold) = (order.account, config.pays(order.side), order.hold(config));
        let account_sequence = self.ledger.count_changes(account, 1);
        self.remove(slot, Order::closed_status(reason), Some(reason), account_sequence);
        self.ledger.release_hold(account, pays, hold);
        self.count_balance(account, pays);
    }

    /// Takes an order out of every place that knows it but the table of ids, and tells how it ended.
    #[inline]
    pub(super) fn remove(
        &mut self,
        slot: u32,
        status: OrderStatus,
        reason: Option<CancelReason>,
        account_sequence: u64,
    ) {
        if let Some(level) = self.market.book.take(slot) {
            self.tell_level(level);
        } else if self.market.orders.get(slot).waits() {
            self.market.remove_stop(slot);
        }
        self.tell_order(slot, status, reason, account_sequence);
        let market = &mut *self.market;
        let order = market.orders.get_mut(slot);
        if let TimeInForce::Gtd(end) = order.extra().time_in_force {
            self.expiries.remove(&(end, order.arrival));
        }
        if let Some(client_order_id) = order.client_order_id.take() {
            let account = self.ledger.id(order.account);
            self.client_ids.close(account, client_order_id, self.time);
        }
        let place = order.own_place;
        let own = info_mut(self.accounts, order.account).own_in_mut(market.id);
        if let Some(moved) = own.remove(place, slot) {
            market.orders.get_mut(moved).own_place = place;
        }
        market.orders.remove(slot);
    }

    /// Makes a new order stand, in the book or among the waiting stops.
    #[inline]
    fn insert(&mut self, order: Order) -> u32 {
        let market = &mut *self.market;
        let slot = market.orders.insert(order);
        let order = market.orders.get_mut(slot);
        let own = info_mut(self.accounts, order.account).own_in_mut(market.id);
        order.own_place = own.count();
        own.push(slot);
        if let TimeInForce::Gtd(end) = order.extra().time_in_force {
            self.expiries.insert((end, order.arrival), (market.id, slot));
        }
        if order.waits() {
            market.insert_stop(slot);
        } else {
            self.stand(slot);
        }
        slot
    }

    /// Puts an order at the back of its price's queue.
    #[inline]
    fn stand(&mut self, slot: u32) {
        let Market { book, orders, .. } = &mut *self.market;
        let order = orders.get(slot);
        let remaining = order.remaining();
        let visible = order.extra().display.map_or(remaining, |display| display.min(remaining));
        let level = book.insert(slot, order.side, order.price, visible, order.account.get());
        self.tell_level(level);
    }
}

/// The status and the reason of an order that has ended.
fn closed(ending: Ending) -> (OrderStatus, Option<CancelReason>) {
    match ending {
        Ending::Cancelled(reason) => (Order::closed_status(reason), Some(reason)),
        Ending::Filled | Ending::Rests | Ending::Waits => (OrderStatus::Filled, None),
    }
}
