//! New orders, and stops whose trigger is reached.
//!
//! The checks of a new order are inlined whatever their size: each is made in one place, and most of its cost would be
//! handing over what it looks at.

use book::Side;
use units::{Amount, CommandId, MarketId, OrderId, PriceTicks, QuantityLots};

use super::money::{Owner, active_account, check_funds};
use super::walk::{Stop, Taker, Walk};
use crate::command::{CancelReason, Command, NewOrder, OrderType, TimeInForce};
use crate::config::{MarketConfig, MarketState};
use crate::event::{Ending, Event, PlacedOrder, Step};
use crate::reject::Reject;
use crate::state::{AccountInfo, Market, State, band};

/// The most slices that an iceberg may have.
const SLICES_MAX: u64 = 100;

#[inline]
pub(super) fn place(
    state: &State,
    command: &Command,
    order: &NewOrder,
) -> Result<PlacedOrder, Reject> {
    let market = state.find_market(order.market).ok_or(Reject::MarketUnknown)?;
    let owner = active_account(state, order.account)?;
    check_rate(state, owner.info)?;
    if let Some(client_order_id) = &order.client_order_id
        && state.client_ids.get(order.account, client_order_id).is_some()
    {
        return Err(Reject::ClientOrderIdUsed);
    }
    check_market_state(market, order.post_only)?;
    check_form(state, market, order)?;
    let limit = going_limit(market, order);
    let hold = check_notional(market, order, limit)?;
    check_band(market, order)?;
    check_count(state, market, owner.info, order)?;
    if is_stop(order.order_type) {
        check_trigger(market, order)?;
    }
    let order_id = market.last_order_id.next();
    if !state.remembered.is_empty()
        && let Some((account, _)) = state.remembered.get(&command.id)
        && *account == order.account
    {
        let ending = Ending::Cancelled(CancelReason::CancelledBeforeArrival);
        return Ok(Way::untraded(ending).placed(order_id, limit, Amount::ZERO));
    }
    let (hold, way) = match order.order_type {
        OrderType::Limit => (hold, place_limit(state, market, owner, order, hold)?),
        OrderType::Market => place_market(state, market, owner, order)?,
        OrderType::StopLimit | OrderType::StopMarket => {
            check_funds(state, owner, market.config.pays(order.side), hold)?;
            (hold, Way::untraded(Ending::Waits))
        }
    };
    Ok(way.placed(order_id, limit, hold))
}

/// What an order does in the market.
pub(super) struct Way {
    steps: Vec<Step>,
    ending: Ending,
}

impl Way {
    /// The way of an order that does not meet anyone.
    #[inline]
    pub(super) fn untraded(ending: Ending) -> Self {
        Self { steps: Vec::new(), ending }
    }

    #[inline]
    pub(super) fn placed(
        self,
        order_id: OrderId,
        limit: Option<PriceTicks>,
        hold: Amount,
    ) -> PlacedOrder {
        PlacedOrder { order_id, limit, hold, steps: self.steps, ending: self.ending }
    }
}

/// Decides a stop whose trigger is reached: it goes to market with the limit that it was accepted with.
pub(super) fn trigger(state: &State, market: MarketId, order: CommandId) -> Result<Event, Reject> {
    let (found, slot) = state.find_order(order).ok_or(Reject::OrderUnknown)?;
    let stop = found.orders.get(slot);
    if found.id != market || !stop.waits() || found.state != MarketState::Open {
        return Err(Reject::OrderUnknown);
    }
    let config = &found.config;
    let hold = stop.hold(config);
    let time_in_force = match stop.order_type {
        OrderType::StopMarket => TimeInForce::Ioc,
        _ => stop.extra().time_in_force,
    };
    let taker = Taker {
        state,
        market: found,
        account: stop.account,
        side: stop.side,
        limit: Some(stop.price),
        quantity: Some(stop.remaining()),
        quote_amount: None,
        self_trade_prevention: stop.self_trade_prevention,
    };
    // What cannot go to market ends here, or it would be due for ever.
    let refused = Way::untraded(Ending::Cancelled(CancelReason::TriggerRefused));
    let way = if stop.post_only && crosses(found, stop.side, stop.price) {
        refused
    } else {
        go(&taker, time_in_force, CancelReason::ImmediateOrCancel).unwrap_or(refused)
    };
    let placed = way.placed(stop.order_id, Some(stop.price), hold);
    Ok(Event::StopTriggered { market, order, placed })
}

#[inline]
fn place_limit(
    state: &State,
    market: &Market,
    owner: Owner<'_>,
    order: &NewOrder,
    hold: Amount,
) -> Result<Way, Reject> {
    let price = order.price.expect("a limit order's form was checked");
    if order.post_only && crosses(market, order.side, price) {
        return Err(Reject::PostOnlyWouldCross);
    }
    check_funds(state, owner, market.config.pays(order.side), hold)?;
    let taker = Taker {
        state,
        market,
        account: owner.index,
        side: order.side,
        limit: order.price,
        quantity: Some(order.quantity),
        quote_amount: None,
        self_trade_prevention: order.self_trade_prevention,
    };
    go(&taker, order.time_in_force, CancelReason::ImmediateOrCancel)
}

/// Takes an order with a limit and a quantity through the book.
#[inline]
pub(super) fn go(
    taker: &Taker<'_>,
    time_in_force: TimeInForce,
    immediate: CancelReason,
) -> Result<Way, Reject> {
    if let Some(limit) = taker.limit
        && !crosses(taker.market, taker.side, limit)
        && matches!(time_in_force, TimeInForce::Gtc | TimeInForce::Gtd(_))
    {
        // The common case, without a walk.
        check_room(taker, QuantityLots::ZERO)?;
        return Ok(Way::untraded(Ending::Rests));
    }
    let walk = taker.walk();
    let ending = match (walk.stop, time_in_force) {
        (Stop::Filled, _) => Ending::Filled,
        (_, TimeInForce::Fok) => {
            return Ok(Way::untraded(Ending::Cancelled(CancelReason::FillOrKill)));
        }
        (Stop::SelfTrade, _) => Ending::Cancelled(CancelReason::SelfTrade),
        (Stop::TooManySteps, _) => Ending::Cancelled(CancelReason::TooManySteps),
        (_, TimeInForce::Ioc) => Ending::Cancelled(immediate),
        (_, TimeInForce::Gtc | TimeInForce::Gtd(_)) => {
            check_room(taker, walk.filled)?;
            Ending::Rests
        }
    };
    Ok(Way { steps: walk.steps, ending })
}

/// What a market order does, and what is held for that.
fn place_market(
    state: &State,
    market: &Market,
    owner: Owner<'_>,
    order: &NewOrder,
) -> Result<(Amount, Way), Reject> {
    if market.book.best(order.side.opposite()).is_none() {
        return Err(Reject::NoLiquidity);
    }
    let taker = Taker {
        state,
        market,
        account: owner.index,
        side: order.side,
        limit: market.band_limit(order.side),
        quantity: (!order.quantity.is_zero()).then_some(order.quantity),
        quote_amount: order.quote_amount,
        self_trade_prevention: order.self_trade_prevention,
    };
    let walk = taker.walk();
    let ending = market_ending(&walk, order);
    if ending == Ending::Cancelled(CancelReason::FillOrKill) {
        return Ok((Amount::ZERO, Way::untraded(ending)));
    }
    // What it costs is known to the unit before anything is held.
    let cost = match order.side {
        Side::Buy => walk.notional,
        Side::Sell => {
            let base = market.config.base_amount(walk.filled);
            base.ok_or(Reject::NotionalTooLarge)?
        }
    };
    check_funds(state, owner, market.config.pays(order.side), cost)?;
    Ok((cost, Way { steps: walk.steps, ending }))
}

fn market_ending(walk: &Walk, order: &NewOrder) -> Ending {
    let spent = order.quantity.is_zero() && !walk.filled.is_zero();
    let reason = match walk.stop {
        Stop::Filled => return Ending::Filled,
        Stop::QuoteSpent if spent => return Ending::Filled,
        _ if order.time_in_force == TimeInForce::Fok => CancelReason::FillOrKill,
        Stop::QuoteSpent => CancelReason::QuoteAmountSpent,
        Stop::BookEmpty => CancelReason::NoLiquidity,
        Stop::Limit => CancelReason::Band,
        Stop::SelfTrade => CancelReason::SelfTrade,
        Stop::TooManySteps => CancelReason::TooManySteps,
    };
    Ending::Cancelled(reason)
}

/// Whether an order of this side with this limit would trade at once.
#[inline]
pub(super) fn crosses(market: &Market, side: Side, limit: PriceTicks) -> bool {
    market.book.best(side.opposite()).is_some_and(|best| side.accepts(limit, best))
}

#[inline]
pub(super) fn check_rate(state: &State, info: &AccountInfo) -> Result<(), Reject> {
    let limits = state.limits();
    let most = if info.flags.market_maker {
        limits.maker_orders_per_second_max
    } else {
        limits.orders_per_second_max
    };
    let full = most > 0 && info.commands_in(state.time()) >= most;
    if full { Err(Reject::RateLimited) } else { Ok(()) }
}

#[inline]
pub(super) fn check_market_state(market: &Market, post_only: bool) -> Result<(), Reject> {
    match market.state {
        MarketState::Open => Ok(()),
        MarketState::PostOnly if post_only => Ok(()),
        MarketState::PostOnly => Err(Reject::MarketPostOnly),
        MarketState::CancelOnly | MarketState::Halted => Err(Reject::MarketClosed),
    }
}

#[inline]
fn is_stop(order_type: OrderType) -> bool {
    matches!(order_type, OrderType::StopLimit | OrderType::StopMarket)
}

/// The fields fit together, and each is possible.
#[inline(always)]
fn check_form(state: &State, market: &Market, order: &NewOrder) -> Result<(), Reject> {
    let at_once = matches!(order.time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
    let (priced, triggered) = (order.price.is_some(), order.trigger.is_some());
    let by_quantity = order.quote_amount.is_none();
    let rests_plainly = !order.post_only && order.display.is_none();
    let fits = match order.order_type {
        OrderType::Limit => priced && !triggered && by_quantity && (rests_plainly || !at_once),
        OrderType::Market => !priced && !triggered && at_once && rests_plainly,
        OrderType::StopLimit => {
            let whole = order.display.is_none() && (!order.post_only || !at_once);
            priced && triggered && by_quantity && whole
        }
        OrderType::StopMarket => {
            let stays = order.time_in_force != TimeInForce::Fok;
            !priced && triggered && by_quantity && rests_plainly && stays
        }
    };
    if !fits {
        return Err(Reject::OrderInvalid);
    }
    let nothing = order.quote_amount.map_or(order.quantity.is_zero(), Amount::is_zero);
    if nothing || order.quantity > market.config.quantity_max {
        return Err(Reject::QuantityInvalid);
    }
    if let Some(display) = order.display {
        check_display(display, order.quantity)?;
    }
    match order.time_in_force {
        TimeInForce::Gtd(end) if end <= state.time() => Err(Reject::GtdOver),
        _ => Ok(()),
    }
}

pub(super) fn check_display(display: QuantityLots, quantity: QuantityLots) -> Result<(), Reject> {
    let slices = quantity.get().checked_div(display.get());
    let whole = slices.is_some_and(|_| quantity.get().div_ceil(display.get()) <= SLICES_MAX);
    if whole && display <= quantity { Ok(()) } else { Err(Reject::DisplayInvalid) }
}

/// The limit that an order goes to market with: its price; a stop-market order's trigger with the band's allowance; the
/// band's edge for a market order.
#[inline(always)]
fn going_limit(market: &Market, order: &NewOrder) -> Option<PriceTicks> {
    match (order.order_type, order.trigger) {
        (OrderType::StopMarket, Some(trigger)) => {
            let (low, high) = match market.config.band {
                Some(rate) => band(trigger, rate),
                None => (trigger, trigger),
            };
            Some(if order.side == Side::Buy { high } else { low })
        }
        (OrderType::Market, _) => market.band_limit(order.side),
        _ => order.price,
    }
}

/// The notional is neither dust nor more than one command may move. A market order by quantity is measured at
/// the reference price, where there is one. Returns what is held for an order with a limit.
#[inline(always)]
fn check_notional(
    market: &Market,
    order: &NewOrder,
    limit: Option<PriceTicks>,
) -> Result<Amount, Reject> {
    let config = &market.config;
    let base = config.base_amount(order.quantity).ok_or(Reject::NotionalTooLarge)?;
    let at = if order.order_type == OrderType::Market { market.reference } else { limit };
    let mut notional = Amount::ZERO;
    if let Some(price) = at
        && !order.quantity.is_zero()
    {
        notional = config.notional(price, order.quantity).ok_or(Reject::NotionalTooLarge)?;
        check_least(config, notional)?;
    }
    if let Some(amount) = order.quote_amount {
        if amount > Amount::COMMAND_MAX {
            return Err(Reject::NotionalTooLarge);
        }
        check_least(config, amount)?;
    }
    Ok(if order.side == Side::Buy { notional } else { base })
}

#[inline]
fn check_least(config: &MarketConfig, notional: Amount) -> Result<(), Reject> {
    if notional < config.notional_min { Err(Reject::NotionalTooSmall) } else { Ok(()) }
}

/// A limit price is within the band around the reference; a stop's, around its own trigger.
#[inline(always)]
fn check_band(market: &Market, order: &NewOrder) -> Result<(), Reject> {
    let around = match (order.trigger, market.config.band) {
        (Some(trigger), Some(rate)) => Some(band(trigger, rate)),
        (Some(_), None) => None,
        (None, _) => market.bounds,
    };
    let (Some((low, high)), Some(price)) = (around, order.price) else { return Ok(()) };
    if (low..=high).contains(&price) { Ok(()) } else { Err(Reject::PriceBand) }
}

/// What may stay open is counted before it is taken.
#[inline(always)]
fn check_count(
    state: &State,
    market: &Market,
    info: &AccountInfo,
    order: &NewOrder,
) -> Result<(), Reject> {
    let stays = is_stop(order.order_type)
        || matches!(order.time_in_force, TimeInForce::Gtc | TimeInForce::Gtd(_));
    let most = if info.flags.market_maker {
        state.limits().maker_open_orders_max
    } else {
        state.limits().open_orders_max
    };
    let open = info.own_in(market.id).map_or(0, |own| own.count());
    if stays && open >= most { Err(Reject::TooManyOrders) } else { Ok(()) }
}

fn check_trigger(market: &Market, order: &NewOrder) -> Result<(), Reject> {
    let (Some(trigger), Some(last)) = (order.trigger, market.last_price) else { return Ok(()) };
    let reached = match order.side {
        Side::Buy => last >= trigger,
        Side::Sell => last <= trigger,
    };
    if reached { Err(Reject::TriggerReached) } else { Ok(()) }
}

/// What would rest fits its level.
#[inline]
fn check_room(taker: &Taker<'_>, filled: QuantityLots) -> Result<(), Reject> {
    let quantity = taker.quantity.and_then(|quantity| quantity.checked_sub(filled));
    let (Some(limit), Some(rest)) = (taker.limit, quantity) else { return Ok(()) };
    let room = taker.market.book.has_room(taker.side, limit, rest);
    if room { Ok(()) } else { Err(Reject::QuantityInvalid) }
}
