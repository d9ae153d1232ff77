//! Step 3 of the order's way: decide.

use units::CommandId;

use crate::command::Command;
use crate::event::Event;
use crate::state::{KnownCommand, State};

/// What [`decide`] says of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does this; nothing has changed yet: [`crate::evolve`] does that.
    Event(Event),
    /// It is known with the same body (or its client order id is): nothing happens again. The outcome is that of
    /// `first`.
    Repeat {
        /// The command that it repeats: itself, or the one that used its client order id.
        first: CommandId,
        /// What is remembered of that.
        known: KnownCommand,
    },
    /// Its id is known with another body: nothing happens.
    IdReused,
}

/// Decides a command at the time of the batch that is open. Changes nothing.
#[must_use]
pub fn decide(_state: &State, _command: &Command) -> Decision {
    unimplemented!()
}
