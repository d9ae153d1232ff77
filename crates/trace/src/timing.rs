//! When a journal row's commands were received, decided and committed: made by the sequencer, told with the row.

use serde::{Deserialize, Serialize};

use crate::clock::{Micros, Origin};

/// The version of the bytes; another one is not read, and its row has no times.
const VERSION: u8 = 1;
/// Bytes that are read at most: a row's commands with ten bytes each, and some.
const BYTES_MAX: usize = 1 << 20;

/// The times of one journal row, in its process' monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTiming {
    /// Whose clock it is.
    pub origin: Origin,
    /// When the first of its commands was received.
    pub begun: Micros,
    /// Its commands from outside, by their place in the row.
    pub commands: Vec<CommandTiming>,
    /// When the row was handed to PostgreSQL, after `begun`.
    pub append_begun: u32,
    /// When its commit was known, after `begun`.
    pub committed: u32,
}

/// The times of one command: each in microseconds after the one before it, so that none is ever negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandTiming {
    /// Its place in the row.
    pub index: u32,
    /// When the sequencer took it from the queue, after the row's `begun`.
    pub received: u32,
    /// How long it then waited for those before it.
    pub waited: u32,
    /// How long its decision took: holding and matching.
    pub decided: u32,
    /// How long it took to apply it in memory: settling.
    pub settled: u32,
}

impl CommandTiming {
    /// Returns when it was settled in memory, after the row's `begun`.
    #[must_use]
    pub fn done(&self) -> u32 {
        self.received
            .saturating_add(self.waited)
            .saturating_add(self.decided)
            .saturating_add(self.settled)
    }
}

impl BatchTiming {
    /// Returns the times of the command at this place of the row.
    #[must_use]
    pub fn command(&self, index: usize) -> Option<&CommandTiming> {
        let index = u32::try_from(index).ok()?;
        let place = self.commands.binary_search_by_key(&index, |command| command.index).ok()?;
        self.commands.get(place)
    }

    /// Packs it: some ten bytes a command.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        crate::pack(VERSION, self)
    }

    /// Reads what [`Self::encode`] has written; `None` where it is anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let read: Self = crate::unpack(VERSION, bytes.get(..bytes.len().min(BYTES_MAX))?)?;
        read.commands.is_sorted_by_key(|command| command.index).then_some(read)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn timing() -> BatchTiming {
        let command = |index| CommandTiming {
            index,
            received: 10 * index,
            waited: 2,
            decided: 3,
            settled: 4,
        };
        BatchTiming {
            origin: Origin { boot: 7, wall: 1_700_000_000_000_000 },
            begun: Micros(5_000),
            commands: vec![command(0), command(2)],
            append_begun: 100,
            committed: 900,
        }
    }

    #[test]
    fn a_timing_comes_out_as_it_went_in() {
        let timing = timing();
        let bytes = timing.encode();
        assert_eq!(BatchTiming::decode(&bytes), Some(timing.clone()));
        assert_eq!(timing.command(2).map(CommandTiming::done), Some(29));
        assert_eq!(timing.command(1), None, "an internal command has no times");
        assert_eq!(BatchTiming::decode(&[9, 0, 0]), None, "an unknown version");
        assert_eq!(BatchTiming::decode(&bytes[..bytes.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn anything_can_come_from_outside(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some(timing) = BatchTiming::decode(&bytes) {
                let _ = timing.commands.iter().map(CommandTiming::done).max();
            }
        }
    }
}
