//! What comes between two client commands: the state's own work.

use units::{CommandId, Time};

use crate::command::{Action, CancelReason, Command, Origin};
use crate::config::MarketState;
use crate::decide::{Decision, decide};
use crate::evolve::evolve;
use crate::observe::Observer;
use crate::state::{State, Sweep};

/// Returns the most pressing thing that the state itself has to do at the batch's time: an order to expire, a
/// cancel-all to go on with, a market to halt, a stop to trigger; `None` where there is nothing.
#[must_use]
pub fn next_internal(state: &State) -> Option<Action> {
    if let Some((&(end, _), &(market, slot))) = state.expiries.first_key_value()
        && end <= state.time()
    {
        return Some(Action::ExpireOrder { market, order: state.id_of(market, slot) });
    }
    if let Some((market, order)) = state.sweeps.iter().find_map(|sweep| next_of(state, sweep)) {
        return Some(Action::CancelNext { market, order, reason: CancelReason::Requested });
    }
    let open = || state.markets.iter().filter(|market| market.state == MarketState::Open);
    if let Some(market) = open().find(|market| market.halt_due) {
        return Some(Action::HaltMarket { market: market.id });
    }
    open().find_map(|market| {
        let order = market.due_stop()?.id;
        Some(Action::TriggerStop { market: market.id, order })
    })
}

/// The next order that a cancel-all has to reach.
pub(crate) fn next_of(state: &State, sweep: &Sweep) -> Option<(units::MarketId, CommandId)> {
    let account = state.ledger.find(sweep.account)?;
    let mut own = state.own_orders(account, sweep.market);
    own.find_map(|(market, slot)| {
        let order = state.market_of(market).orders.get(slot);
        (order.arrival < sweep.before_arrival).then_some((market, order.id))
    })
}

/// Decides a command and applies what it does.
pub fn run(state: &mut State, command: &Command, observer: &mut impl Observer) -> Decision {
    let decision = decide(state, command);
    if let Decision::Event(event) = &decision {
        evolve(state, command, event, observer);
    }
    decision
}

/// Wraps the state's own work as a command.
#[must_use]
pub fn internal_command(action: Action) -> Command {
    Command {
        id: CommandId::new(0),
        body_hash: 0,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Internal,
        action,
    }
}
