//! The rules that the sequencer goes by, without its queue and its database, so that the simulator goes by the same ones:
//! what is done with a delivery, whether a command is still remembered, and when a delivery is acknowledged.

use engine::{Command, Origin, State};
use journal::{BadMessage, Message};
use store::journal::AppendError;
use units::{Sequence, Time};

use crate::batch::{Decided, OpenBatch};
use crate::error::ProcessorError;

/// Why a delivery is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is put aside: nobody can read it.
    Unreadable(BadMessage),
    /// It is put aside, for this reason.
    Dead(&'static str),
    /// Its server had seen a row that the journal does not have: the sequencer must stop.
    SeenBeyondHead {
        /// What the server had seen.
        seen: Sequence,
        /// The head.
        head: Sequence,
    },
}

/// Reads a message and checks that it is for this journal.
///
/// # Errors
///
/// [`Refused`] where there is nothing to decide.
pub fn read_delivery(body: &[u8], state: &State) -> Result<Command, Refused> {
    let message = Message::decode(body).map_err(Refused::Unreadable)?;
    let incarnation = state.settings().map_or(0, |settings| settings.incarnation);
    if message.incarnation != incarnation {
        return Err(Refused::Dead("incarnation"));
    }
    let head = state.sequence();
    if message.seen > head {
        return Err(Refused::SeenBeyondHead { seen: message.seen, head });
    }
    if message.command.origin != Origin::Client {
        return Err(Refused::Dead("forbidden"));
    }
    Ok(message.command)
}

/// Says why a message that cannot be read goes to the dead letters.
#[must_use]
pub fn unreadable_for(error: &BadMessage) -> &'static str {
    match error {
        BadMessage::UnknownVersion(_) => "unknown_version",
        BadMessage::TooLong(_) => "too_long",
        BadMessage::Bytes(_) => "unreadable",
    }
}

/// Tells whether a command is expired and not remembered, so that only what is kept for ever can say whether it was
/// decided long ago.
#[must_use]
pub fn is_past_its_window(command: &Command, state: &State, now: Time) -> bool {
    command.expires_at < now && state.known(command.id).is_none()
}

/// Tells whether a row of this time has waited so long for its commit that it must not be sent any more. A command is
/// remembered from its row's time on: committed late, it would be forgotten early, while a repeat of it may still come.
/// Who gives a row up must raise the epoch before anything else is done, as it may still be in the journal.
#[must_use]
pub fn is_too_old(row: Time, now: Time, state: &State) -> bool {
    now.micros_since(row) > state.limits().dedup_window_micros / 4
}

/// What a delivery is acknowledged with. An acknowledgement reaches everything before it too, so it waits for all that is
/// not committed yet, also where its own delivery needed no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckWith {
    /// The batch that is open.
    Open,
    /// The row in flight.
    Flight,
    /// At once: nothing is undecided or uncommitted.
    Now,
}

/// Says what a delivery is acknowledged with.
#[must_use]
pub fn ack_with(open: bool, in_flight: bool) -> AckWith {
    match (open, in_flight) {
        (true, _) => AckWith::Open,
        (false, true) => AckWith::Flight,
        (false, false) => AckWith::Now,
    }
}

/// Rows whose deliveries are acknowledged together while one follows the other. An acknowledgement costs a quorum queue as
/// much as a message does, and the disk a write; what a crash then brings again is known and comes to nothing.
const ROWS_PER_ACK: u32 = 8;

/// How many rows are committed whose deliveries are not acknowledged.
#[derive(Debug, Default)]
pub struct Unacknowledged(u32);

impl Unacknowledged {
    /// Takes a committed row, whose last delivery is `through`. Returns up to which one is acknowledged now; where nothing
    /// is, the `open` batch takes them on.
    pub fn land(&mut self, through: u64, open: Option<&mut OpenBatch>) -> Option<u64> {
        self.0 = self.0.saturating_add(1);
        match open {
            Some(open) if self.0 < ROWS_PER_ACK => {
                open.through = Some(open.through.map_or(through, |later| later.max(through)));
                None
            }
            _ => {
                self.0 = 0;
                Some(through)
            }
        }
    }
}

/// Says why a delivery goes to the dead letters after it was looked at; `None` where it does not.
#[must_use]
pub fn put_aside_for(decided: Decided) -> Option<&'static str> {
    match decided {
        Decided::Entered | Decided::Repeated => None,
        Decided::IdReused => Some("id_reused"),
        Decided::Panicked => Some("internal"),
    }
}

/// Says what a definite append means for the sequencer: go on, or end with a reason.
///
/// # Errors
///
/// [`ProcessorError`]: the state must be dropped.
pub fn landed(result: Result<(), AppendError>) -> Result<(), ProcessorError> {
    match result {
        Ok(()) => Ok(()),
        Err(AppendError::Deposed { .. }) => Err(ProcessorError::Deposed),
        Err(AppendError::DoesNotFollow(sequence)) => Err(ProcessorError::DoesNotFollow(sequence)),
        Err(error) => Err(ProcessorError::Append(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_acknowledged_together_while_they_follow_one_another_and_no_longer() {
        let mut state = State::new();
        let mut open = OpenBatch::open(&mut state, Sequence::new(1), Time::ZERO, 1).unwrap();
        let mut unacknowledged = Unacknowledged::default();
        for row in 1..u64::from(ROWS_PER_ACK) {
            assert_eq!(unacknowledged.land(row, Some(&mut open)), None);
            assert_eq!(open.through, Some(row), "the batch that is open takes it on");
        }
        let last = u64::from(ROWS_PER_ACK);
        assert_eq!(unacknowledged.land(last, Some(&mut open)), Some(last), "so many, no more");
        open.through = Some(40);
        assert_eq!(unacknowledged.land(39, Some(&mut open)), None);
        assert_eq!(open.through, Some(40), "what is in the batch came after it");
        assert_eq!(unacknowledged.land(40, None), Some(40), "nothing follows: at once");
    }
}
