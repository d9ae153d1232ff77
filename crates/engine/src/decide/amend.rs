//! Changes of open orders: less at the same price keeps the place in the queue, anything else goes to its back.

use units::{Amount, PriceTicks, QuantityLots};

use super::cancel::find_own;
use super::money::{active_account, check_funds};
use super::place::{Way, check_display, check_market_state, check_rate, crosses, go};
use super::walk::Taker;
use crate::command::{AmendOrder, CancelReason, OrderType};
use crate::event::{Ending, Event};
use crate::reject::Reject;
use crate::state::{Market, Order, State, band};

pub(super) fn amend(state: &State, amend: &AmendOrder) -> Result<Event, Reject> {
    let owner = active_account(state, amend.account)?;
    check_rate(state, owner.info)?;
    let (market, order) = find_own(state, amend.account, &amend.order)?;
    check_market_state(market, order.post_only)?;
    let price = amend.price.unwrap_or(order.price);
    let quantity = amend.quantity.unwrap_or(order.quantity);
    check_change(market, order, amend, price, quantity)?;
    let (market_id, id) = (market.id, order.id);
    if price == order.price && quantity < order.quantity {
        return Ok(Event::OrderReduced { market: market_id, order: id, quantity });
    }
    let remaining = quantity.checked_sub(order.filled).ok_or(Reject::AmendBelowFilled)?;
    let hold = crate::state::hold(&market.config, order.side, price, remaining);
    let more = hold.checked_sub(order.hold(&market.config)).unwrap_or(Amount::ZERO);
    check_funds(state, owner, market.config.pays(order.side), more)?;
    let way = if order.waits() {
        Way::untraded(Ending::Waits)
    } else {
        if order.post_only && crosses(market, order.side, price) {
            return Err(Reject::PostOnlyWouldCross);
        }
        let taker = Taker {
            state,
            market,
            account: owner.index,
            side: order.side,
            limit: Some(price),
            quantity: Some(remaining),
            quote_amount: None,
            self_trade_prevention: order.self_trade_prevention,
        };
        let time_in_force = order.extra().time_in_force;
        go(&taker, time_in_force, CancelReason::ImmediateOrCancel)?
    };
    let placed = way.placed(order.order_id, Some(price), hold);
    Ok(Event::OrderReplaced { market: market_id, order: id, quantity, placed })
}

fn check_change(
    market: &Market,
    order: &Order,
    amend: &AmendOrder,
    price: PriceTicks,
    quantity: QuantityLots,
) -> Result<(), Reject> {
    let unpriced = order.order_type == OrderType::StopMarket && amend.price.is_some();
    if unpriced || (price, quantity) == (order.price, order.quantity) {
        return Err(Reject::AmendInvalid);
    }
    if quantity <= order.filled {
        return Err(Reject::AmendBelowFilled);
    }
    if quantity > market.config.quantity_max {
        return Err(Reject::QuantityInvalid);
    }
    if let Some(display) = order.extra().display {
        check_display(display.min(quantity), quantity)?;
    }
    market.config.base_amount(quantity).ok_or(Reject::NotionalTooLarge)?;
    let notional = market.config.notional(price, quantity).ok_or(Reject::NotionalTooLarge)?;
    if notional < market.config.notional_min {
        return Err(Reject::NotionalTooSmall);
    }
    let around = match (order.waits(), order.extra().trigger, market.config.band) {
        (true, Some(trigger), Some(rate)) => Some(band(trigger, rate)),
        (true, ..) => None,
        (false, ..) => market.bounds,
    };
    match (amend.price, around) {
        (Some(price), Some((low, high))) if !(low..=high).contains(&price) => {
            Err(Reject::PriceBand)
        }
        _ => Ok(()),
    }
}
