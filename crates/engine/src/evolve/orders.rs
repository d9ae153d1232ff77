//! Orders come, stand, change and go.

use book::{LevelView, Side};
use units::{Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots};

use super::Evolver;
use super::settle::TakerOrder;
use crate::command::{Action, CancelReason, Command, NewOrder, TimeInForce};
use crate::event::{Ending, PlacedOrder};
use crate::observe::{LevelChange, Observer, OrderStatus};
use crate::state::{ClientEntry, Extra, Order};

impl<O: Observer> Evolver<'_, O> {
    pub(super) fn order_placed(&mut self, command: &Command, placed: &PlacedOrder) {
        let Action::PlaceOrder(new) = &command.action else {
            panic!("only a new order is placed");
        };
        let mut order = self.new_order(command, new, placed);
        let (id, account, pays) = (new.market, order.account, self.pays(new.market, new.side));
        if let Some((_, expires_at)) = self.state.remembered.remove(&command.id) {
            self.state.remembered_expiries.remove(&(expires_at, command.id));
        }
        if let Some(client_order_id) = new.client_order_id.clone() {
            self.state.client_ids.insert(ClientEntry {
                account: new.account,
                client_order_id,
                order: command.id,
                body_hash: command.body_hash,
            });
        }
        let market = self.state.market_mut(id);
        assert_eq!(placed.order_id, market.last_order_id.next(), "order ids have no gaps");
        market.last_order_id = placed.order_id;
        self.hold(account, pays, placed.hold);

        let traded = self.take_steps(id, taker(&order), &placed.steps);
        order.filled = traded.filled;
        order.filled_notional = traded.notional;
        let held = placed.hold.checked_sub(traded.spent).expect("fills are paid from the hold");
        let traded_any = !traded.filled.is_zero();
        let (client, side) = (order.client_order_id.clone(), order.side);
        match placed.ending {
            Ending::Rests | Ending::Waits => {
                let status = order.status();
                let needed = order.hold(&self.state.market_of(id).config);
                self.release_surplus(account, pays, held, needed);
                let slot = self.insert(id, order);
                self.tell_open_order(id, slot, status);
            }
            Ending::Filled | Ending::Cancelled(_) => {
                self.release_surplus(account, pays, held, Amount::ZERO);
                if let Some(client_order_id) = client {
                    let now = self.state.time;
                    self.state.client_ids.close(new.account, client_order_id, now);
                }
                let (status, reason) = closed(placed.ending);
                self.tell_order(id, &order, status, reason);
            }
        }
        if !placed.hold.is_zero() {
            self.tell_balance(account, pays);
        }
        if traded_any {
            let receives = self.pays(id, side.opposite());
            self.tell_balance(account, receives);
        }
    }

    pub(super) fn cancel_order(&mut self, market: MarketId, id: CommandId, reason: CancelReason) {
        let slot = self.slot_of(market, id);
        self.close(market, slot, reason);
    }

    pub(super) fn reduce_order(&mut self, market: MarketId, id: CommandId, quantity: QuantityLots) {
        let slot = self.slot_of(market, id);
        let found = self.state.market_mut(market);
        let order = found.orders.get_mut(slot);
        let before = order.hold(&found.config);
        assert!(order.filled < quantity && quantity < order.quantity, "a reduction leaves a rest");
        order.quantity = quantity;
        let after = order.hold(&found.config);
        let (account, side, remaining, waits) =
            (order.account, order.side, order.remaining(), order.waits());
        if !waits {
            let visible = found.book.visible(slot);
            // An iceberg gives up what is hidden first.
            if let Some(over) = visible.checked_sub(remaining).filter(|over| !over.is_zero()) {
                let level = found.book.reduce(slot, over);
                self.tell_level(market, level);
            }
        }
        let pays = self.pays(market, side);
        self.release_surplus(account, pays, before, after);
        let status = self.state.market_of(market).orders.get(slot).status();
        self.tell_open_order(market, slot, status);
        self.tell_balance(account, pays);
    }

    pub(super) fn replace_order(
        &mut self,
        market: MarketId,
        id: CommandId,
        quantity: QuantityLots,
        placed: &PlacedOrder,
    ) {
        let slot = self.slot_of(market, id);
        let found = self.state.market_mut(market);
        let order = found.orders.get_mut(slot);
        let (account, side) = (order.account, order.side);
        let before = order.hold(&found.config);
        order.quantity = quantity;
        order.price = placed.limit.expect("an open order has a limit");
        if !order.waits() {
            let level = found.book.remove(slot);
            self.tell_level(market, level);
        }
        let pays = self.pays(market, side);
        match placed.hold.checked_sub(before) {
            Some(more) => self.hold(account, pays, more),
            None => self.release_surplus(account, pays, before, placed.hold),
        }
        self.reference = id;
        self.go_on(market, slot, placed);
    }

    pub(super) fn trigger_stop(&mut self, market: MarketId, id: CommandId, placed: &PlacedOrder) {
        let slot = self.slot_of(market, id);
        let found = self.state.market_mut(market);
        found.remove_stop(slot);
        let order = found.orders.get_mut(slot);
        order.extra.as_mut().expect("a stop has a trigger").waits = false;
        assert_eq!(
            order.hold(&found.config),
            placed.hold,
            "a stop is held for when it is accepted"
        );
        self.reference = id;
        self.go_on(market, slot, placed);
    }

    /// Takes an order that is open, but stands nowhere now, through its steps to its new place or its end.
    fn go_on(&mut self, market: MarketId, slot: u32, placed: &PlacedOrder) {
        let order = self.state.market_of(market).orders.get(slot);
        let (taker, account) = (taker(order), order.account);
        let traded = self.take_steps(market, taker, &placed.steps);
        let found = self.state.market_mut(market);
        let order = found.orders.get_mut(slot);
        let filled = order.filled.checked_add(traded.filled);
        order.filled = filled.expect("fills fit the order");
        let notional = order.filled_notional.checked_add(traded.notional);
        order.filled_notional = notional.expect("an order's notional fits");
        let held = placed.hold.checked_sub(traded.spent).expect("fills are paid from the hold");
        let pays = self.pays(market, taker.side);
        match placed.ending {
            Ending::Rests | Ending::Waits => {
                let found = self.state.market_of(market);
                let order = found.orders.get(slot);
                let (needed, status) = (order.hold(&found.config), order.status());
                self.release_surplus(account, pays, held, needed);
                if placed.ending == Ending::Rests {
                    self.stand(market, slot);
                }
                self.tell_open_order(market, slot, status);
            }
            Ending::Filled | Ending::Cancelled(_) => {
                self.release_surplus(account, pays, held, Amount::ZERO);
                let (status, reason) = closed(placed.ending);
                self.remove(market, slot, status, reason);
            }
        }
        self.tell_balance(account, pays);
        if !traded.filled.is_zero() {
            let receives = self.pays(market, taker.side.opposite());
            self.tell_balance(account, receives);
        }
    }

    /// Ends an open order before it is filled, and releases its hold.
    pub(super) fn close(&mut self, market: MarketId, slot: u32, reason: CancelReason) {
        let found = self.state.market_of(market);
        let order = found.orders.get(slot);
        let (account, side, hold) = (order.account, order.side, order.hold(&found.config));
        self.remove(market, slot, Order::closed_status(reason), Some(reason));
        let pays = self.pays(market, side);
        self.state.ledger.release_hold(account, pays, hold);
        self.tell_balance(account, pays);
    }

    /// Takes an order out of every place that knows it, and tells how it ended.
    pub(super) fn remove(
        &mut self,
        id: MarketId,
        slot: u32,
        status: OrderStatus,
        reason: Option<CancelReason>,
    ) {
        let market = self.state.market_mut(id);
        if market.book.contains(slot) {
            let level = market.book.remove(slot);
            self.tell_level(id, level);
        } else if market.orders.get(slot).waits() {
            market.remove_stop(slot);
        }
        self.state.unlink_own(id, slot);
        let order = self.state.market_mut(id).orders.remove(slot);
        self.state.order_ids.remove(order.id, (id, slot));
        if let TimeInForce::Gtd(end) = order.extra().time_in_force {
            self.state.expiries.remove(&(end, order.arrival));
        }
        if let Some(client_order_id) = order.client_order_id.clone() {
            let (account, now) = (self.state.ledger.id(order.account), self.state.time);
            self.state.client_ids.close(account, client_order_id, now);
        }
        self.tell_order(id, &order, status, reason);
    }

    /// Makes a new order stand, in the book or among the waiting stops.
    fn insert(&mut self, id: MarketId, order: Order) -> u32 {
        let (order_id, arrival, waits) = (order.id, order.arrival, order.waits());
        let time_in_force = order.extra().time_in_force;
        let slot = self.state.market_mut(id).orders.insert(order);
        if waits {
            self.state.market_mut(id).insert_stop(slot);
        } else {
            self.stand(id, slot);
        }
        self.state.link_own(id, slot);
        self.state.insert_order_id(order_id, (id, slot));
        if let TimeInForce::Gtd(end) = time_in_force {
            self.state.expiries.insert((end, arrival), (id, slot));
        }
        slot
    }

    /// Puts an order at the back of its price's queue.
    fn stand(&mut self, id: MarketId, slot: u32) {
        let market = self.state.market_mut(id);
        let order = market.orders.get(slot);
        let remaining = order.remaining();
        let visible = order.extra().display.map_or(remaining, |display| display.min(remaining));
        let (side, price, owner) = (order.side, order.price, order.account.get());
        let level = market.book.insert(slot, side, price, visible, owner);
        self.tell_level(id, level);
    }

    fn new_order(&mut self, command: &Command, new: &NewOrder, placed: &PlacedOrder) -> Order {
        let state = &mut *self.state;
        state.arrivals = state.arrivals.checked_add(1).expect("arrivals fit 64 bits");
        let account = state.ledger.find(new.account).expect("an order's account is open");
        let extra = Extra {
            time_in_force: new.time_in_force,
            display: new.display,
            trigger: new.trigger,
            waits: placed.ending == Ending::Waits,
            quote_amount: new.quote_amount,
        };
        Order {
            id: command.id,
            filled_notional: Amount::ZERO,
            order_id: placed.order_id,
            // A market order without a band never stands, so this price is never seen.
            price: placed.limit.unwrap_or(PriceTicks::MIN),
            quantity: new.quantity,
            filled: QuantityLots::ZERO,
            created_at: state.time,
            created_in: state.sequence,
            arrival: state.arrivals,
            client_order_id: new.client_order_id.clone(),
            extra: (extra != Extra::PLAIN).then(|| Box::new(extra)),
            account,
            own_place: 0,
            side: new.side,
            order_type: new.order_type,
            self_trade_prevention: new.self_trade_prevention,
            post_only: new.post_only,
        }
    }

    fn hold(&mut self, account: ledger::AccountIndex, asset: AssetId, amount: Amount) {
        let held = self.state.ledger.place_hold(account, asset, amount);
        held.expect("an accepted order's hold is available");
    }

    fn release_surplus(
        &mut self,
        account: ledger::AccountIndex,
        asset: AssetId,
        held: Amount,
        needed: Amount,
    ) {
        let surplus = held.checked_sub(needed).expect("what is held covers what is needed");
        self.state.ledger.release_hold(account, asset, surplus);
    }

    fn slot_of(&self, market: MarketId, order: CommandId) -> u32 {
        let (found, slot) = self.state.find_order(order).expect("an event names an open order");
        assert_eq!(found.id, market, "an order is in the market that the event names");
        slot
    }

    fn pays(&self, market: MarketId, side: Side) -> AssetId {
        let config = &self.state.market_of(market).config;
        match side {
            Side::Buy => config.quote,
            Side::Sell => config.base,
        }
    }

    pub(super) fn tell_level(&mut self, id: MarketId, level: LevelView) {
        let market = self.state.market_mut(id);
        market.update_id = market.update_id.checked_add(1).expect("update ids fit 64 bits");
        self.observer.level(&LevelChange {
            market: id,
            side: level.side,
            price: level.price,
            quantity: level.quantity,
            update_id: market.update_id,
        });
    }

    pub(super) fn tell_open_order(&mut self, market: MarketId, slot: u32, status: OrderStatus) {
        let account = self.state.market_of(market).orders.get(slot).account;
        let account_sequence = self.state.ledger.count_change(account);
        if !O::FOLLOWS {
            return;
        }
        let order = self.state.market_of(market).orders.get(slot);
        let mut view = order.view(market, self.state.ledger.id(order.account), status);
        (view.account_sequence, view.updated_at) = (account_sequence, self.state.time);
        self.observer.order(&view);
    }

    fn tell_order(
        &mut self,
        market: MarketId,
        order: &Order,
        status: OrderStatus,
        reason: Option<CancelReason>,
    ) {
        let account_sequence = self.state.ledger.count_change(order.account);
        if !O::FOLLOWS {
            return;
        }
        let mut view = order.view(market, self.state.ledger.id(order.account), status);
        (view.account_sequence, view.updated_at) = (account_sequence, self.state.time);
        view.reason = reason;
        self.observer.order(&view);
    }
}

fn taker(order: &Order) -> TakerOrder {
    TakerOrder { id: order.id, order_id: order.order_id, account: order.account, side: order.side }
}

/// The status and the reason of an order that has ended.
fn closed(ending: Ending) -> (OrderStatus, Option<CancelReason>) {
    match ending {
        Ending::Cancelled(reason) => (Order::closed_status(reason), Some(reason)),
        Ending::Filled | Ending::Rests | Ending::Waits => (OrderStatus::Filled, None),
    }
}
