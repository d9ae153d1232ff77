//! Step 3 of the order's way: decide. Reads the state, changes nothing.

mod amend;
mod cancel;
mod config;
mod money;
mod place;
mod walk;

use units::CommandId;

use crate::command::{Action, AuditHead, Command, Origin};
use crate::event::Event;
use crate::reject::Reject;
use crate::state::{KnownCommand, State};

/// What [`decide`] says of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does this; nothing has changed yet: [`crate::evolve`] does that.
    Event(Event),
    /// It is known with the same body: nothing happens again. The outcome is that of `first`.
    Repeat {
        /// The command that it repeats.
        first: CommandId,
        /// What is remembered of that.
        known: KnownCommand,
    },
    /// Its id is known with another body: nothing happens.
    IdReused,
}

/// Decides a command at the time of the batch that is open. Changes nothing.
///
/// The order of the checks: repeat, expiry, rules.
#[must_use]
pub fn decide(state: &State, command: &Command) -> Decision {
    if command.origin == Origin::Client {
        if let Some(known) = state.known(command.id) {
            return if known.body_hash == command.body_hash {
                Decision::Repeat { first: command.id, known }
            } else {
                Decision::IdReused
            };
        }
        if state.time() > command.expires_at {
            return Decision::Event(Event::Rejected(Reject::Expired));
        }
    }
    outcome(state, command)
}

#[inline]
fn outcome(state: &State, command: &Command) -> Decision {
    let born = state.settings().is_some();
    if born == matches!(command.action, Action::Genesis(_)) {
        return decided(Err(Reject::Genesis));
    }
    match &command.action {
        Action::PlaceOrder(order) => {
            decided(place::place(state, command, order).map(Event::OrderPlaced))
        }
        Action::CancelOrder { account, order } => decided(cancel::cancel(state, *account, order)),
        _ => decided(rare(state, command)),
    }
}

/// Whatever is not asked for every time.
fn rare(state: &State, command: &Command) -> Result<Event, Reject> {
    match &command.action {
        Action::AmendOrder(amend) => amend::amend(state, amend),
        Action::CancelAll { account, market } => cancel::cancel_all(state, *account, *market),
        Action::ExpireOrder { .. }
        | Action::CancelNext { .. }
        | Action::TriggerStop { .. }
        | Action::HaltMarket { .. }
        | Action::Restore { .. } => internal(state, command),
        Action::Genesis(_) | Action::Tick | Action::SetLimits(_) => Ok(Event::Done),
        Action::DefineAsset(asset) => config::define_asset(state, asset),
        Action::DefineMarket(market) => config::define_market(state, market),
        Action::SetMarketState { market, .. } => config::known_market(state, *market),
        Action::NoteAuditHead(head) => audit_head(state, head),
        action => money::decide(state, action),
    }
}

#[inline]
fn decided(outcome: Result<Event, Reject>) -> Decision {
    Decision::Event(outcome.unwrap_or_else(Event::Rejected))
}

/// The log only grows, and so does what is noted of it: whoever made it shorter has no say here.
fn audit_head(state: &State, head: &AuditHead) -> Result<Event, Reject> {
    let noted = state.audit_head.map_or(0, |noted| noted.rows);
    if head.rows > noted { Ok(Event::Done) } else { Err(Reject::AuditHeadStale) }
}

/// Decides the state's own work, which nobody outside may ask for.
fn internal(state: &State, command: &Command) -> Result<Event, Reject> {
    if command.origin != Origin::Internal {
        return Err(Reject::Forbidden);
    }
    match &command.action {
        Action::ExpireOrder { market, order } => cancel::expire(state, *market, *order),
        Action::CancelNext { market, order, reason } => {
            cancel::cancel_next(state, *market, *order, *reason)
        }
        Action::TriggerStop { market, order } => place::trigger(state, *market, *order),
        Action::HaltMarket { market } => config::known_market(state, *market),
        Action::Restore { .. } => Ok(Event::Done),
        _ => Err(Reject::Forbidden),
    }
}
