//! The journal checked from its first row: the chain, the formats, every command decided again, the state.
//!
//! Invariant: each area names its first fault and counts what was checked before it. A row that cannot be read
//! ends the walk: nothing after it can be trusted.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::{Action, Decision, Event, Reject, Stamp, State};
use journal::{BadRow, Batch, Entry, RULES, Row, Snapshot};
use store::audit::chain::NotedHead;
use units::{Hash32, Sequence, Time};

use super::report::{Area, Report};

/// Rows between two checks of the whole state.
const STATE_CHECK_ROWS: u64 = 50_000;

/// A row of the journal, and what reading it came to.
#[derive(Debug)]
pub(crate) struct ReadRow {
    sequence: Sequence,
    previous_hash: Hash32,
    hash: Hash32,
    read: Result<Batch, BadRow>,
}

impl ReadRow {
    /// Checks a row by itself: its hash, its versions, its bytes.
    pub(crate) fn new(row: &Row) -> Self {
        Self {
            sequence: row.sequence,
            previous_hash: row.previous_hash,
            hash: row.hash,
            read: journal::read(row),
        }
    }

    /// Returns what the row says; `None` for one that cannot be read.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        self.read.as_ref().ok()
    }
}

/// The walk along the journal.
#[derive(Debug)]
pub(crate) struct Walk {
    state: State,
    last: Sequence,
    last_hash: Hash32,
    last_time: Time,
    last_epoch: u64,
    incarnation: Option<u64>,
    snapshots: BTreeMap<Sequence, Vec<Snapshot>>,
    commands: u64,
    /// The audit log's heads that the journal has noted: one a minute at most.
    audit_heads: Vec<NotedHead>,
    /// Whether the state is still the journal's: nothing can be decided or compared after a fault in it.
    sound: bool,
}

impl Walk {
    /// Begins before the first row; the snapshots are compared where they stand.
    pub(crate) fn new(snapshots: &[Snapshot]) -> Self {
        let mut standing: BTreeMap<Sequence, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            standing.entry(snapshot.sequence).or_default().push(*snapshot);
        }
        Self {
            state: State::new(),
            last: Sequence::new(0),
            last_hash: Hash32::default(),
            last_time: Time::ZERO,
            last_epoch: 0,
            incarnation: None,
            snapshots: standing,
            commands: 0,
            audit_heads: Vec::new(),
            sound: true,
        }
    }

    /// Checks the next row and applies it. Returns `false` where the walk cannot go on.
    pub(crate) fn row(&mut self, row: ReadRow, report: &mut Report) -> bool {
        let sequence = row.sequence;
        if sequence != self.last.next() {
            let (wanted, last) = (self.last.next(), self.last);
            let text = format!("row {wanted} is missing: row {sequence} follows {last}");
            report.fault(Area::Chain, text);
            return false;
        }
        if row.previous_hash != self.last_hash {
            let text = format!(
                "row {sequence} names {} as the hash before it; row {} has {}",
                row.previous_hash, self.last, self.last_hash
            );
            report.fault(Area::Chain, text);
        }
        (self.last, self.last_hash) = (sequence, row.hash);
        let batch = match row.read {
            Ok(batch) => batch,
            Err(error) => {
                report.fault(Area::of(&error), error.to_string());
                return false;
            }
        };
        self.header(&batch, report);
        report.counted(Area::Chain, 1);
        report.counted(Area::Formats, 1);
        if !self.apply(&batch, report) {
            return false;
        }
        self.snapshot(report);
        if sequence.get().is_multiple_of(STATE_CHECK_ROWS) {
            self.check_state(report);
        }
        true
    }

    fn header(&mut self, batch: &Batch, report: &mut Report) {
        let sequence = batch.sequence;
        let begins = |entry: &Entry| match entry.command.action {
            Action::Restore { incarnation, .. } => {
                incarnation == batch.incarnation && entry.event == Event::Done
            }
            _ => false,
        };
        // A restored journal's first row says so, and is of its incarnation already.
        if batch.entries.iter().any(begins) {
            self.incarnation = Some(batch.incarnation);
        }
        let incarnation = *self.incarnation.get_or_insert(batch.incarnation);
        if batch.incarnation != incarnation {
            let text = format!(
                "row {sequence} is of incarnation {}, not {incarnation}",
                batch.incarnation
            );
            report.fault(Area::Chain, text);
        }
        if batch.time < self.last_time {
            let text = format!("row {sequence} is at {}, before {}", batch.time, self.last_time);
            report.fault(Area::Chain, text);
        }
        if batch.epoch < self.last_epoch {
            let text =
                format!("row {sequence} is of epoch {}, after {}", batch.epoch, self.last_epoch);
            report.fault(Area::Chain, text);
        }
        self.last_time = self.last_time.max(batch.time);
        self.last_epoch = self.last_epoch.max(batch.epoch);
        if sequence == Sequence::new(1) {
            self.genesis(batch, report);
        }
    }

    fn genesis(&self, batch: &Batch, report: &mut Report) {
        let settings = batch.entries.first().and_then(|entry| match &entry.command.action {
            Action::Genesis(settings) => Some(settings),
            _ => None,
        });
        match settings {
            None => report.fault(Area::Chain, "row 1 does not begin with the genesis".to_owned()),
            Some(settings) if settings.incarnation != batch.incarnation => {
                let text = format!(
                    "row 1 is of incarnation {}, and its genesis says {}",
                    batch.incarnation, settings.incarnation
                );
                report.fault(Area::Chain, text);
            }
            Some(_) => {}
        }
    }

    /// Decides the batch again and applies its events. Returns `false` where an event cannot be applied.
    fn apply(&mut self, batch: &Batch, report: &mut Report) -> bool {
        let sequence = batch.sequence;
        // A batch older than the last one cannot be opened; the fault has been told.
        let time = batch.time.max(self.last_time);
        self.state.open_batch(Stamp { sequence, time });
        self.state.warm(batch.entries.iter().map(|entry| &entry.command));
        for (at, entry) in (0_u32..).zip(&batch.entries) {
            if batch.rules == RULES
                && let Err(text) = decided_alike(&self.state, entry)
            {
                let text = format!("row {sequence}, command {at}: {text}");
                report.fault(Area::Decisions, text);
            }
            let state = &mut self.state;
            let applied = catch_unwind(AssertUnwindSafe(|| {
                engine::evolve(state, &entry.command, &entry.event, &mut ());
            }));
            if let (Action::NoteAuditHead(head), Event::Done) =
                (&entry.command.action, &entry.event)
            {
                self.audit_heads.push(NotedHead { noted_in: sequence, head: *head });
            }
            if let Err(panic) = applied {
                let text = panic_text(&*panic);
                report.fault(Area::Events, format!("row {sequence}, command {at}: {text}"));
                self.sound = false;
                return false;
            }
        }
        // Counted by the row: a million commands a second leave no time for a look-up each.
        let commands = u64::try_from(batch.entries.len()).unwrap_or(u64::MAX);
        self.commands += commands;
        report.counted(Area::Events, commands);
        match batch.rules {
            RULES => report.counted(Area::Decisions, commands),
            _ => report.skipped(Area::Decisions, commands),
        }
        true
    }

    /// Compares the snapshots that stand at the last row with the state there.
    fn snapshot(&mut self, report: &mut Report) {
        let Some(snapshots) = self.snapshots.remove(&self.last) else { return };
        let sequence = self.last;
        let computed = journal::state_hash(&self.state);
        for snapshot in snapshots {
            if snapshot.journal_hash != self.last_hash {
                let text = format!(
                    "the snapshot at row {sequence} names the row's hash {}; the row has {}",
                    snapshot.journal_hash, self.last_hash
                );
                report.fault(Area::Snapshots, text);
            } else if computed != snapshot.state_hash {
                let text = format!(
                    "the snapshot at row {sequence} has the state hash {}; the journal gives {computed}",
                    snapshot.state_hash
                );
                report.fault(Area::Snapshots, text);
            } else {
                report.counted(Area::Snapshots, 1);
            }
        }
    }

    fn check_state(&self, report: &mut Report) {
        match self.state.check() {
            Ok(()) => report.counted(Area::State, 1),
            Err(text) => report.fault(Area::State, format!("after row {}: {text}", self.last)),
        }
    }

    /// Ends the walk: checks the state once more, and that no snapshot stands beyond the journal.
    pub(crate) fn finish(&mut self, report: &mut Report) {
        if self.sound {
            self.check_state(report);
        }
        if let Some(sequence) = self.snapshots.keys().next() {
            let text = format!("the snapshot at row {sequence} is beyond row {}", self.last);
            report.fault(Area::Snapshots, text);
        }
    }

    /// Returns the audit log's heads that the journal has noted, oldest first.
    pub(crate) fn audit_heads(&self) -> &[NotedHead] {
        &self.audit_heads
    }

    /// Returns the last row.
    pub(crate) fn last(&self) -> Sequence {
        self.last
    }

    /// Returns the hash of the last row.
    pub(crate) fn last_hash(&self) -> Hash32 {
        self.last_hash
    }

    /// Returns how many commands the state remembers now, and the bytes that takes.
    pub(crate) fn dedup_window(&self) -> (usize, usize) {
        self.state.dedup_window()
    }

    /// Returns the commands so far.
    pub(crate) fn commands(&self) -> u64 {
        self.commands
    }
}

/// Decides a command again: it must come to the journalled event.
fn decided_alike(state: &State, entry: &Entry) -> Result<(), String> {
    // A command that a defect of ours refused may be decided today, or fail again: both are as they should be.
    if entry.event == Event::Rejected(Reject::Internal) {
        return Ok(());
    }
    let journalled = &entry.event;
    match catch_unwind(AssertUnwindSafe(|| engine::decide(state, &entry.command))) {
        Ok(Decision::Event(event)) if event == *journalled => Ok(()),
        Ok(Decision::Event(event)) => {
            Err(format!("decided again it comes to {event:?}; the journal has {journalled:?}"))
        }
        Ok(Decision::Repeat { .. } | Decision::IdReused) => {
            Err(format!("it is known already; the journal has {journalled:?}"))
        }
        Err(panic) => Err(format!("deciding it again fails: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a defect").to_owned()
}

#[cfg(test)]
mod tests {
    use journal::{Entry, Row, seal};

    use super::*;
    use crate::bench::flow::{self, Flow, Ids};

    /// A journal of a few hundred commands.
    fn rows() -> Vec<Row> {
        let flow = Flow::new(600, 5, Ids::FromKeys).expect("the flow runs");
        let commands: Vec<_> = flow.opening.iter().chain(&flow.commands).cloned().collect();
        let mut state = State::new();
        let mut previous = Hash32::default();
        let row = |commands: &[engine::Command]| {
            flow::open_batch(&mut state);
            let entry = |command: &engine::Command| match engine::run(&mut state, command, &mut ())
            {
                Decision::Event(event) => Entry { command: command.clone(), event },
                other => panic!("a new command came to {other:?}"),
            };
            let entries = commands.iter().map(entry).collect();
            let (sequence, time) = (state.sequence(), state.time());
            let row = seal(
                &Batch { sequence, time, incarnation: 1, epoch: 1, rules: RULES, entries },
                previous,
            );
            previous = row.hash;
            row
        };
        commands.chunks(flow::BATCH_COMMANDS).map(row).collect()
    }

    fn verified(rows: &[Row]) -> Report {
        let mut report = Report::default();
        let mut walk = Walk::new(&[]);
        for row in rows {
            if !walk.row(ReadRow::new(row), &mut report) {
                break;
            }
        }
        walk.finish(&mut report);
        report
    }

    #[test]
    fn a_journal_as_it_was_written_is_clean() {
        let report = verified(&rows());
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn a_changed_payload_is_found_in_its_row() {
        let mut rows = rows();
        rows[3].payload[10] ^= 1;
        let report = verified(&rows);
        let text = report.first(&Area::Chain).expect("it is found");
        assert!(text.contains("journal row 4 has the hash"), "{text}");
    }

    #[test]
    fn a_missing_row_is_found() {
        let mut rows = rows();
        rows.remove(2);
        let report = verified(&rows);
        assert_eq!(report.first(&Area::Chain), Some("row 3 is missing: row 4 follows 2"));
    }

    #[test]
    fn a_row_that_was_sealed_again_breaks_the_chain_and_its_decisions() {
        let mut rows = rows();
        let last = rows.len() - 1;
        let mut batch = journal::read(&rows[last]).expect("the row is whole");
        batch.entries[0].event = Event::Rejected(Reject::RateLimited);
        rows[last] = seal(&batch, Hash32([7; 32]));
        let report = verified(&rows);
        assert!(
            report.first(&Area::Chain).is_some_and(|text| text.contains("as the hash before it"))
        );
        let text = report.first(&Area::Decisions).expect("it is found");
        assert!(text.contains("decided again it comes to"), "{text}");
    }
}
