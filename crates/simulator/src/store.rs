//! The database: the journal, the epoch, snapshots, projections, and the orders that were answered 202. Each method is
//! one statement, or one transaction, at one moment.

use std::collections::BTreeMap;

use engine::{Stamp, State};
use follower::{Recovered, read_next};
use journal::{Row, Snapshot, SnapshotReader};
use store::journal::Found;
use units::{CommandId, Hash32, Sequence, Time};

use crate::Guard;
use crate::settings::SNAPSHOTS_KEPT;
use crate::tables::Tables;

/// What a statement that inserts a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the journal.
    Yes,
    /// The guard let nothing in, or the sequence is taken.
    No,
}

/// The database.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// The journal; a row's place is its sequence less one.
    pub(crate) rows: Vec<Row>,
    pub(crate) epoch: u64,
    snapshots: Vec<(Snapshot, Vec<Vec<u8>>)>,
    pub(crate) tables: Tables,
    /// Orders that were answered 202, with their expiry.
    pub(crate) pending: BTreeMap<CommandId, Time>,
    /// It answers nobody before this.
    pub(crate) away_until: u64,
    /// Statements that were sent in another life are never carried out.
    pub(crate) life: u32,
    removed: Vec<Guard>,
}

impl Store {
    pub(crate) fn new(removed: &[Guard]) -> Self {
        Self { removed: removed.to_vec(), ..Self::default() }
    }

    fn has(&self, guard: Guard) -> bool {
        !self.removed.contains(&guard)
    }

    /// Appends a row as the statement of `store::journal` does.
    pub(crate) fn append(&mut self, row: &Row) -> Inserted {
        if self.has(Guard::Fence) && self.epoch != row.epoch {
            return Inserted::No;
        }
        let place = place(row.sequence);
        if !self.has(Guard::Chain) {
            self.rows.truncate(place);
            if self.rows.len() == place {
                self.rows.push(row.clone());
                return Inserted::Yes;
            }
            return Inserted::No;
        }
        let before = place.checked_sub(1).and_then(|before| self.rows.get(before));
        let follows = place == 0 || before.is_some_and(|before| before.hash == row.previous_hash);
        if !follows || self.rows.len() != place {
            return Inserted::No;
        }
        self.rows.push(row.clone());
        Inserted::Yes
    }

    /// Says what stands at a row's place, in one snapshot.
    pub(crate) fn look_up(&self, sequence: Sequence) -> Found {
        Found { epoch: self.epoch, hash: self.row(sequence).map(|row| row.hash) }
    }

    /// Raises the epoch.
    pub(crate) fn claim(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    pub(crate) fn row(&self, sequence: Sequence) -> Option<&Row> {
        place_of(sequence).and_then(|place| self.rows.get(place))
    }

    /// Tells whether a row is committed.
    pub(crate) fn is_committed(&self, sequence: Sequence, hash: Hash32) -> bool {
        self.row(sequence).is_some_and(|row| row.hash == hash)
    }

    pub(crate) fn head(&self) -> Sequence {
        Sequence::new(u64::try_from(self.rows.len()).expect("a run is short"))
    }

    /// Returns the rows that follow a sequence.
    pub(crate) fn rows_after(&self, sequence: Sequence) -> &[Row] {
        let from = usize::try_from(sequence.get()).expect("a run is short");
        self.rows.get(from..).unwrap_or_default()
    }

    /// Loads the newest snapshot at or before a row.
    ///
    /// # Errors
    ///
    /// Why it is no state, in words.
    pub(crate) fn load(&self, at_most: Sequence) -> Result<Recovered, String> {
        let mut fitting = self.snapshots.iter().rev();
        let newest = fitting.find(|(snapshot, _)| snapshot.sequence <= at_most);
        let Some((snapshot, chunks)) = newest else {
            let (state, hash) = (State::new(), Hash32::default());
            return Ok(Recovered { state, hash, snapshot: Sequence::new(0) });
        };
        let mut reader = SnapshotReader::new();
        for chunk in chunks {
            reader.push_chunk(chunk).map_err(|bad| bad.to_string())?;
        }
        let state = reader.finish(snapshot.state_hash).map_err(|bad| bad.to_string())?;
        Ok(Recovered { state, hash: snapshot.journal_hash, snapshot: snapshot.sequence })
    }

    /// Follows the journal to its head.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub(crate) fn catch_up(&self, recovered: &mut Recovered) -> Result<(), String> {
        for row in self.rows_after(recovered.state.sequence()) {
            let Recovered { state, hash, .. } = recovered;
            let batch = read_next(state.sequence(), *hash, row).map_err(|e| e.to_string())?;
            state.open_batch(Stamp { sequence: batch.sequence, time: batch.time });
            for entry in &batch.entries {
                engine::evolve(state, &entry.command, &entry.event, &mut ());
            }
            *hash = row.hash;
        }
        Ok(())
    }

    /// Takes a snapshot at the head, from the newest one and what follows it.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub(crate) fn take_snapshot(&mut self) -> Result<(), String> {
        let mut recovered = self.load(self.head())?;
        self.catch_up(&mut recovered)?;
        let Recovered { state, hash, snapshot } = recovered;
        if state.sequence() == snapshot {
            return Ok(());
        }
        let mut chunks = Vec::new();
        let state_hash = journal::write_snapshot(&state, &mut |chunk| chunks.push(chunk));
        let snapshot = Snapshot {
            sequence: state.sequence(),
            time: state.time(),
            incarnation: state.settings().map_or(0, |settings| settings.incarnation),
            journal_hash: hash,
            state_hash,
            format: journal::FORMAT,
        };
        self.snapshots.push((snapshot, chunks));
        if self.snapshots.len() > SNAPSHOTS_KEPT {
            self.snapshots.remove(0);
        }
        Ok(())
    }

    /// Returns the row that has decided a command which a state does not remember, as `store::lookup::kept` does.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub(crate) fn kept(
        &self,
        command: CommandId,
        remembered_since: Time,
    ) -> Result<Option<Sequence>, String> {
        if let Some(row) = self.tables.decided_in(command) {
            return Ok(Some(row));
        }
        if !self.has(Guard::Tail) {
            return Ok(None);
        }
        let forgotten = self.rows_after(self.tables.progress).iter();
        for row in forgotten.take_while(|row| row.time < remembered_since) {
            if journal::read(row).map_err(|bad| bad.to_string())?.has_decided(command) {
                return Ok(Some(row.sequence));
            }
        }
        Ok(None)
    }

    /// Notes an order that is answered 202. A later expiry counts: it may be carried out until then.
    pub(crate) fn insert_pending(&mut self, id: CommandId, expires_at: Time) {
        let extended = self.has(Guard::Lifetime);
        let row = self.pending.entry(id).or_insert(expires_at);
        if extended {
            *row = expires_at.max(*row);
        }
    }
}

fn place(sequence: Sequence) -> usize {
    place_of(sequence).expect("rows are counted from one")
}

fn place_of(sequence: Sequence) -> Option<usize> {
    usize::try_from(sequence.get().checked_sub(1)?).ok()
}
