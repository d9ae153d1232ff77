//! What comes between two client commands: the state's own work.

use units::{CommandId, Time};

use crate::command::{Action, Command, Origin};
use crate::decide::Decision;
use crate::observe::Observer;
use crate::state::State;

/// Returns the most pressing thing that the state itself has to do at the batch's time: an order to expire, a
/// cancel-all to go on with, a stop to trigger, a market to halt; `None` where there is nothing.
#[must_use]
pub fn next_internal(_state: &State) -> Option<Action> {
    unimplemented!()
}

/// Decides a command and applies what it does.
pub fn run(_state: &mut State, _command: &Command, _observer: &mut impl Observer) -> Decision {
    unimplemented!()
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
