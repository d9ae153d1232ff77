//! Makes an event so.

use crate::command::Command;
use crate::event::Event;
use crate::observe::Observer;
use crate::state::State;

/// Applies an event to the state. Decides nothing.
///
/// # Panics
///
/// When the event cannot have come from this state: every follower stops there, by design.
pub fn evolve(
    _state: &mut State,
    _command: &Command,
    _event: &Event,
    _observer: &mut impl Observer,
) {
    unimplemented!()
}
