//! Rows of the journal: sealed, read, applied.

use engine::{Command, Effects, Event, Origin, Stamp, State};
use sha2::{Digest, Sha256};
use units::{CommandId, Hash32, Sequence, Time};

use crate::block;
use crate::codec::{BadBytes, Code, Reader, Writer, get_command, put_command};
use crate::{FORMAT, RULES};

/// The most commands of one row.
pub const COMMANDS_MAX: u32 = 65_536;

/// The most bytes of one row's entries, before compression. A command causes at most ten thousand steps of about
/// twenty bytes, so this is hundreds of the greatest commands.
const ENTRIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Entries that memory is taken for at once; more grow as their bytes are read.
const ENTRIES_AT_ONCE: usize = 4_096;

/// A command and what it has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The command.
    pub command: Command,
    /// Its outcome.
    pub event: Event,
}

/// A batch of commands, decided one after the other and committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its row.
    pub sequence: Sequence,
    /// The journal time at which all of it was decided.
    pub time: Time,
    /// Which journal it belongs to.
    pub incarnation: u64,
    /// The epoch of the sequencer that decided it.
    pub epoch: u64,
    /// The version of the decisions.
    pub rules: u16,
    /// The commands and their outcomes, in order.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// Tells whether a command from outside was decided in it.
    #[must_use]
    pub fn has_decided(&self, command: CommandId) -> bool {
        self.place_of(command).is_some()
    }

    /// Returns the place of a command from outside; `None` where it was not decided in it.
    #[must_use]
    pub fn place_of(&self, command: CommandId) -> Option<usize> {
        let of =
            |entry: &Entry| entry.command.id == command && entry.command.origin == Origin::Client;
        self.entries.iter().position(of)
    }
}

/// A row of the journal as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number; rows have no gaps.
    pub sequence: Sequence,
    /// Journal time.
    pub time: Time,
    /// Which journal it belongs to.
    pub incarnation: u64,
    /// The epoch of the sequencer that wrote it.
    pub epoch: u64,
    /// The version of the payload's bytes.
    pub format: u16,
    /// The version of the decisions.
    pub rules: u16,
    /// How many commands are in it.
    pub commands: u32,
    /// The entries, compressed.
    pub payload: Vec<u8>,
    /// The hash of the row before; all zeros for the first.
    pub previous_hash: Hash32,
    /// This row's hash, over the one before, the header and the payload.
    pub hash: Hash32,
}

/// A batch as it was followed.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The batch.
    pub batch: Batch,
    /// Its row's hash.
    pub hash: Hash32,
    /// What it did.
    pub effects: Effects,
}

/// Why a row cannot be read. A follower that meets one stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// A newer release has written it.
    #[error("journal row {sequence} has format {format}; this release reads up to {FORMAT}")]
    UnknownFormat {
        /// The row.
        sequence: Sequence,
        /// Its format.
        format: u16,
    },
    /// A newer release has decided it.
    #[error("journal row {sequence} has rules {rules}; this release knows up to {RULES}")]
    UnknownRules {
        /// The row.
        sequence: Sequence,
        /// Its rules.
        rules: u16,
    },
    /// The row was changed: its hash is not that of its bytes.
    #[error("journal row {sequence} has the hash {stated}, and its bytes have {computed}")]
    Hash {
        /// The row.
        sequence: Sequence,
        /// What stands in the row.
        stated: Hash32,
        /// What its bytes give.
        computed: Hash32,
    },
    /// The payload is not what it should be.
    #[error("journal row {sequence} cannot be read: {bytes}")]
    Payload {
        /// The row.
        sequence: Sequence,
        /// What is wrong with it.
        bytes: BadBytes,
    },
}

impl BadRow {
    /// Returns the row it is about.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        match *self {
            Self::UnknownFormat { sequence, .. }
            | Self::UnknownRules { sequence, .. }
            | Self::Hash { sequence, .. }
            | Self::Payload { sequence, .. } => sequence,
        }
    }
}

/// Makes the row of a batch, to follow the row with the hash `previous`.
///
/// # Panics
///
/// When the batch has more than [`COMMANDS_MAX`] commands or more than 256 MiB; the sequencer makes far smaller ones.
#[must_use]
pub fn seal(batch: &Batch, previous: Hash32) -> Row {
    let commands = u32::try_from(batch.entries.len()).unwrap_or(u32::MAX);
    assert!(commands <= COMMANDS_MAX, "a batch has at most {COMMANDS_MAX} commands");

    let mut w = Writer::with_capacity(batch.entries.len().saturating_mul(128));
    for Entry { command, event } in &batch.entries {
        put_command(command, batch.time, &mut w);
        event.put(&mut w);
    }
    assert!(w.bytes().len() <= ENTRIES_BYTES_MAX, "a batch has at most 256 MiB");

    let mut row = Row {
        sequence: batch.sequence,
        time: batch.time,
        incarnation: batch.incarnation,
        epoch: batch.epoch,
        format: FORMAT,
        rules: batch.rules,
        commands,
        payload: block::compress(w.bytes()),
        previous_hash: previous,
        hash: Hash32::default(),
    };
    row.hash = row_hash(&row);
    row
}

/// Returns the hash that a row must have, whatever stands in [`Row::hash`].
#[must_use]
pub fn row_hash(row: &Row) -> Hash32 {
    let mut hasher = Sha256::new();
    hasher.update(row.previous_hash.0);
    hasher.update(row.sequence.get().to_be_bytes());
    hasher.update(row.time.micros().to_be_bytes());
    hasher.update(row.incarnation.to_be_bytes());
    hasher.update(row.epoch.to_be_bytes());
    hasher.update(row.format.to_be_bytes());
    hasher.update(row.rules.to_be_bytes());
    hasher.update(row.commands.to_be_bytes());
    hasher.update(&row.payload);
    Hash32(hasher.finalize().into())
}

/// Reads a row: checks its versions and its hash, and takes all of its payload. That its previous hash is the one of the
/// row before is the caller's to check.
///
/// # Errors
///
/// [`BadRow`], with the row's sequence.
pub fn read(row: &Row) -> Result<Batch, BadRow> {
    let sequence = row.sequence;
    // A newer format may hash otherwise, so the versions come first.
    if row.format != FORMAT {
        return Err(BadRow::UnknownFormat { sequence, format: row.format });
    }
    let computed = row_hash(row);
    if computed != row.hash {
        return Err(BadRow::Hash { sequence, stated: row.hash, computed });
    }
    if !(1..=RULES).contains(&row.rules) {
        return Err(BadRow::UnknownRules { sequence, rules: row.rules });
    }
    let entries = entries(row).map_err(|bytes| BadRow::Payload { sequence, bytes })?;
    Ok(Batch {
        sequence,
        time: row.time,
        incarnation: row.incarnation,
        epoch: row.epoch,
        rules: row.rules,
        entries,
    })
}

fn entries(row: &Row) -> Result<Vec<Entry>, BadBytes> {
    let mut plain = Vec::new();
    block::decompress(&row.payload, ENTRIES_BYTES_MAX, &mut plain)?;
    let mut r = Reader::new(&plain);
    let count = usize::try_from(row.commands).unwrap_or(usize::MAX);
    // A command takes two bytes at least, its event one.
    if row.commands > COMMANDS_MAX || count.saturating_mul(3) > r.left() {
        return Err(r.bad("more commands than bytes"));
    }
    let mut entries = Vec::with_capacity(count.min(ENTRIES_AT_ONCE));
    for _ in 0..count {
        let command = get_command(row.time, &mut r)?;
        let event = Code::get(&mut r)?;
        entries.push(Entry { command, event });
    }
    r.finish()?;
    Ok(entries)
}

impl Batch {
    /// Opens this batch in a state that follows, and reads ahead what its commands will need.
    ///
    /// # Panics
    ///
    /// When it does not follow the state's last row.
    pub fn open(&self, state: &mut State) {
        state.open_batch(Stamp { sequence: self.sequence, time: self.time });
        state.warm(self.entries.iter().map(|entry| &entry.command));
    }
}

/// Follows a batch: opens it and evolves each entry, deciding nothing.
///
/// # Panics
///
/// When the batch cannot follow what the state has seen: every follower stops there, by design.
pub fn apply(state: &mut State, batch: &Batch) -> Effects {
    let mut effects = Effects::default();
    batch.open(state);
    for (at, Entry { command, event }) in (0_u32..).zip(&batch.entries) {
        effects.at = at;
        engine::evolve(state, command, event, &mut effects);
    }
    effects
}
