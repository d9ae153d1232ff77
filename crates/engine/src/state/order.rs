//! Orders as the state keeps them, and the table of one market's open orders.

use std::borrow::Cow;

use book::Side;
use ledger::AccountIndex;
use units::{
    AccountId, Amount, CommandId, MarketId, OrderId, PriceTicks, QuantityLots, Sequence, Time,
};

use crate::command::{
    CancelReason, ClientOrderId, NewOrder, OrderType, SelfTradePrevention, TimeInForce,
};
use crate::config::MarketConfig;
use crate::observe::{OrderStatus, OrderView};

/// An open order, on two cache lines. What most orders lack is set apart in [`Extra`].
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Order {
    pub(crate) id: CommandId,
    pub(crate) filled_notional: Amount,
    pub(crate) order_id: OrderId,
    /// The limit that it stands at. For a waiting stop-market order, the limit that it will go to market with.
    pub(crate) price: PriceTicks,
    pub(crate) quantity: QuantityLots,
    pub(crate) filled: QuantityLots,
    pub(crate) created_at: Time,
    pub(crate) created_in: Sequence,
    pub(crate) arrival: u64,
    pub(crate) client_order_id: Option<ClientOrderId>,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) account: AccountIndex,
    /// Its place in the account's list of open orders in this market.
    pub(crate) own_place: u32,
    pub(crate) side: Side,
    pub(crate) order_type: OrderType,
    pub(crate) self_trade_prevention: SelfTradePrevention,
    pub(crate) post_only: bool,
}

/// What only some orders have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) time_in_force: TimeInForce,
    pub(crate) display: Option<QuantityLots>,
    pub(crate) trigger: Option<PriceTicks>,
    pub(crate) waits: bool,
    pub(crate) quote_amount: Option<Amount>,
}

impl Extra {
    /// What an order has that needs no [`Extra`].
    pub(crate) const PLAIN: Self = Self {
        time_in_force: TimeInForce::Gtc,
        display: None,
        trigger: None,
        waits: false,
        quote_amount: None,
    };

    /// What a new order has that needs one; `None` for a plain order.
    #[inline]
    pub(crate) fn of(new: &NewOrder, waits: bool) -> Option<Box<Self>> {
        let extra = Self {
            time_in_force: new.time_in_force,
            display: new.display,
            trigger: new.trigger,
            waits,
            quote_amount: new.quote_amount,
        };
        (extra != Self::PLAIN).then(|| Box::new(extra))
    }
}

impl Order {
    #[inline]
    pub(crate) fn extra(&self) -> &Extra {
        self.extra.as_deref().unwrap_or(&Extra::PLAIN)
    }

    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.extra().waits
    }

    #[inline]
    pub(crate) fn remaining(&self) -> QuantityLots {
        self.quantity.checked_sub(self.filled).expect("an order is filled up to its quantity")
    }

    /// What is held for it: a buyer's price × remaining, a seller's remaining.
    #[inline]
    pub(crate) fn hold(&self, config: &MarketConfig) -> Amount {
        hold(config, self.side, self.price, self.remaining())
    }

    #[inline]
    pub(crate) fn status(&self) -> OrderStatus {
        match (self.filled.is_zero(), self.remaining().is_zero()) {
            (_, true) if !self.quantity.is_zero() => OrderStatus::Filled,
            (true, _) => OrderStatus::Open,
            (false, _) => OrderStatus::PartiallyFilled,
        }
    }

    pub(crate) fn view(
        &self,
        market: MarketId,
        account: AccountId,
        status: OrderStatus,
    ) -> OrderView<'_> {
        let extra = self.extra();
        let priced = matches!(self.order_type, OrderType::Limit | OrderType::StopLimit);
        OrderView {
            id: self.id,
            order_id: self.order_id,
            account,
            market,
            side: self.side,
            order_type: self.order_type,
            time_in_force: extra.time_in_force,
            post_only: self.post_only,
            price: priced.then_some(self.price),
            quantity: self.quantity,
            quote_amount: extra.quote_amount,
            filled: self.filled,
            filled_notional: self.filled_notional,
            trigger: extra.trigger,
            triggered: extra.trigger.is_some() && !extra.waits,
            display: extra.display,
            self_trade_prevention: self.self_trade_prevention,
            client_order_id: self.client_order_id.as_ref().map(Cow::Borrowed),
            status,
            reason: None,
            created_at: self.created_at,
            created_in: self.created_in,
            updated_at: self.created_at,
            account_sequence: 0,
        }
    }

    /// The status that an ending for this reason gives.
    #[inline]
    pub(crate) fn closed_status(reason: CancelReason) -> OrderStatus {
        match reason {
            CancelReason::Expired => OrderStatus::Expired,
            _ => OrderStatus::Cancelled,
        }
    }
}

/// What is held for `quantity` at `price`, in ledger units of what the side pays with.
#[inline]
pub(crate) fn hold(
    config: &MarketConfig,
    side: Side,
    price: PriceTicks,
    quantity: QuantityLots,
) -> Amount {
    let amount = match side {
        Side::Buy => config.notional(price, quantity),
        Side::Sell => config.base_amount(quantity),
    };
    amount.expect("an accepted order's hold is within what one command may move")
}

/// The open orders of one market. A freed slot is used again; nothing depends on slot numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    slots: Vec<Option<Order>>,
    free: Vec<u32>,
}

impl Orders {
    #[inline(always)]
    pub(crate) fn insert(&mut self, order: Order) -> u32 {
        if let Some(slot) = self.free.pop() {
            let place = self.slots.get_mut(to_usize(slot)).filter(|place| place.is_none());
            *place.expect("a free slot holds no order") = Some(order);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("open orders fit 32 bits");
        self.slots.push(Some(order));
        slot
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let place = self.slots.get_mut(to_usize(slot)).filter(|place| place.is_some());
        *place.expect("a slot that is named holds an order") = None;
        self.free.push(slot);
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Order {
        let order = self.slots.get(to_usize(slot)).and_then(Option::as_ref);
        order.expect("a slot that is named holds an order")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Order {
        let order = self.slots.get_mut(to_usize(slot)).and_then(Option::as_mut);
        order.expect("a slot that is named holds an order")
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Order)> {
        self.slots.iter().enumerate().filter_map(|(slot, order)| {
            let slot = u32::try_from(slot).expect("open orders fit 32 bits");
            order.as_ref().map(|order| (slot, order))
        })
    }
}

#[inline]
pub(crate) fn to_usize(index: u32) -> usize {
    usize::try_from(index).expect("this runs on machines of 32 bits or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_takes_two_cache_lines() {
        assert_eq!(size_of::<Option<Order>>(), 128);
    }
}
