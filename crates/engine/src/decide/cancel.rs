//! Cancels: asked for, of all orders, of expired ones.

use units::{AccountId, CommandId, MarketId};

use super::money::known_account;
use crate::command::{CancelReason, OrderRef, TimeInForce};
use crate::event::Event;
use crate::reject::Reject;
use crate::state::{Market, Order, State};

/// The most cancels that wait for their orders at once.
const REMEMBERED_MAX: usize = 100_000;

#[inline]
pub(super) fn cancel(state: &State, account: AccountId, order: &OrderRef) -> Result<Event, Reject> {
    known_account(state, account)?;
    match find_own(state, account, order) {
        Ok((market, order)) => Ok(Event::OrderCancelled {
            market: market.id,
            order: order.id,
            reason: CancelReason::Requested,
        }),
        // Not here yet, perhaps: the queue may deliver a cancel before its order.
        Err(Reject::OrderUnknown) if may_come(state, order) => Ok(Event::CancelRemembered),
        Err(reject) => Err(reject),
    }
}

pub(super) fn cancel_all(
    state: &State,
    account: AccountId,
    market: Option<MarketId>,
) -> Result<Event, Reject> {
    let owner = known_account(state, account)?;
    if market.is_some_and(|market| state.find_market(market).is_none()) {
        return Err(Reject::MarketUnknown);
    }
    let most = usize::try_from(state.limits().steps_max).unwrap_or(usize::MAX);
    let mut own = state.own_orders(owner.index, market);
    let orders = own.by_ref().take(most).map(|(market, slot)| (market, state.id_of(market, slot)));
    let orders = orders.collect();
    Ok(Event::OrdersCancelled { orders, more: own.next().is_some() })
}

pub(super) fn expire(state: &State, market: MarketId, order: CommandId) -> Result<Event, Reject> {
    let (found, slot) = state.find_order(order).ok_or(Reject::OrderUnknown)?;
    let end = match found.orders.get(slot).extra().time_in_force {
        TimeInForce::Gtd(end) if found.id == market => end,
        _ => return Err(Reject::OrderUnknown),
    };
    if end > state.time() {
        return Err(Reject::OrderUnknown);
    }
    Ok(Event::OrderCancelled { market, order, reason: CancelReason::Expired })
}

pub(super) fn cancel_next(
    state: &State,
    market: MarketId,
    order: CommandId,
    reason: CancelReason,
) -> Result<Event, Reject> {
    let (found, _) = state.find_order(order).ok_or(Reject::OrderUnknown)?;
    if found.id != market {
        return Err(Reject::OrderUnknown);
    }
    Ok(Event::OrderCancelled { market, order, reason })
}

/// Finds an account's own open order.
///
/// # Errors
///
/// [`Reject::OrderClosed`] where the state still knows that it was there, [`Reject::OrderUnknown`] otherwise: also
/// for somebody else's.
#[inline]
pub(super) fn find_own<'a>(
    state: &'a State,
    account: AccountId,
    order: &OrderRef,
) -> Result<(&'a Market, &'a Order), Reject> {
    let id = match order {
        OrderRef::Id(id) => *id,
        OrderRef::Client(client) => {
            state.order_by_client_id(account, client).ok_or(Reject::OrderUnknown)?
        }
    };
    let Some((market, slot)) = state.find_order(id) else {
        // A client id that leads to no open order leads to a closed one.
        let was_here = matches!(order, OrderRef::Client(_)) || state.known(id).is_some();
        return Err(if was_here { Reject::OrderClosed } else { Reject::OrderUnknown });
    };
    let order = market.orders.get(slot);
    if state.ledger.id(order.account) == account {
        Ok((market, order))
    } else {
        Err(Reject::OrderUnknown)
    }
}

fn may_come(state: &State, order: &OrderRef) -> bool {
    let OrderRef::Id(id) = order else { return false };
    let nobodys = state.find_order(*id).is_none();
    nobodys && !state.remembered.contains_key(id) && state.remembered.len() < REMEMBERED_MAX
}
