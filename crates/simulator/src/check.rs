//! What must be true when a run has come to its end.

use std::collections::BTreeMap;

use engine::{Action, Decision, Event, Origin, Stamp, State};
use follower::read_next;
use journal::{Applied, Batch, state_hash};
use units::{CommandId, Hash32, Sequence, Time};

use crate::client::{Finish, Record};
use crate::event::Answer;
use crate::processor::id;
use crate::settings::{SERVERS, WINDOW};
use crate::tables::Tables;
use crate::world::World;

/// What the journal says of each command from outside: the rows that it is in.
type Outcomes = BTreeMap<CommandId, Vec<Place>>;

/// Where a command stands in the journal.
#[derive(Clone, Copy, Debug)]
struct Place {
    row: Sequence,
    time: Time,
    refused: bool,
}

/// A rule and what was found instead.
type Broken = (&'static str, String);

impl World {
    /// Checks everything.
    pub(crate) fn check(&mut self) {
        for index in 0..SERVERS {
            if self.servers[index].up {
                self.server_event(index, crate::event::ServerEvent::Poll);
            }
        }
        let checked = self.check_journal().and_then(|outcomes| {
            self.check_clients(&outcomes)?;
            self.check_messages(&outcomes)
        });
        if let Err((rule, found)) = checked {
            self.fail(rule, || found);
        }
    }

    /// Follows the journal from its first row on, decides it again, and compares everybody with it.
    fn check_journal(&self) -> Result<Outcomes, Broken> {
        let mut state = State::new();
        let mut hash = Hash32::default();
        let mut expected = Tables::default();
        let mut tables = self.store.tables.clone();
        let mut outcomes = Outcomes::new();
        let mut epoch = 0;
        for row in &self.store.rows {
            let batch = read_next(state.sequence(), hash, row)
                .map_err(|e| ("the journal is gapless and its chain right", e.to_string()))?;
            if row.epoch < epoch {
                let found = format!("row {} is of epoch {}", row.sequence, row.epoch);
                return Err(("epochs never go back", found));
            }
            (hash, epoch) = (row.hash, row.epoch);
            decide_again(&mut state.clone(), &batch)?;
            note_outcomes(&batch, &mut outcomes);
            let effects = journal::apply(&mut state, &batch);
            let applied = Applied { batch, hash, effects };
            expected.write(&applied);
            if applied.batch.sequence > tables.progress {
                tables.write(&applied);
            }
            state.check().map_err(|found| ("every invariant of the state holds", found))?;
        }
        tables.check().map_err(|found| ("the projections agree with themselves", found))?;
        if tables != expected {
            let found = "they differ from what the journal gives".to_owned();
            return Err(("the projections equal the journal", found));
        }
        let computed = state_hash(&state);
        for (index, server) in self.servers.iter().enumerate() {
            let there = server.state.sequence();
            if server.up && (there != state.sequence() || state_hash(&server.state) != computed) {
                let found = format!("server {index} stands at row {there} with another state");
                return Err(("every server comes to the journal's state", found));
            }
        }
        Ok(outcomes)
    }

    fn check_clients(&self, outcomes: &Outcomes) -> Result<(), Broken> {
        for (command, record) in &self.records {
            let rows = outcomes.get(command).map(Vec::as_slice).unwrap_or_default();
            let broken = check_record(record, rows);
            broken.map_err(|(rule, found)| {
                let client = record.client;
                (rule, format!("{} of client {client}: {found}; in rows {rows:?}", id(*command)))
            })?;
        }
        Ok(())
    }

    /// What the broker has confirmed, and nobody has purged, was decided or put aside.
    fn check_messages(&self, outcomes: &Outcomes) -> Result<(), Broken> {
        for (number, fate) in self.broker.fates.iter().enumerate() {
            let Some(command) = fate.command else { continue };
            let due = fate.confirmed && !fate.purged && !fate.dead;
            if due && !outcomes.contains_key(&command) {
                let found = format!("message {number} with {}", id(command));
                return Err(("what the broker has confirmed is decided", found));
            }
        }
        Ok(())
    }
}

fn decide_again(state: &mut State, batch: &Batch) -> Result<(), Broken> {
    state.open_batch(Stamp { sequence: batch.sequence, time: batch.time });
    for entry in &batch.entries {
        let decision = engine::decide(state, &entry.command);
        if decision != Decision::Event(entry.event.clone()) {
            let found = format!("row {}: {:?} gives {decision:?}", batch.sequence, entry.command);
            return Err(("deciding again gives the same events", found));
        }
        engine::evolve(state, &entry.command, &entry.event, &mut ());
    }
    Ok(())
}

fn note_outcomes(batch: &Batch, outcomes: &mut Outcomes) {
    for entry in batch.entries.iter().filter(|entry| entry.command.origin == Origin::Client) {
        let refused = matches!(entry.event, Event::Rejected(_));
        let place = Place { row: batch.sequence, time: batch.time, refused };
        outcomes.entry(entry.command.id).or_default().push(place);
    }
}

/// Checks what a client was told against what the journal says.
fn check_record(record: &Record, rows: &[Place]) -> Result<(), Broken> {
    let done = rows.iter().filter(|place| !place.refused).count();
    // What is kept for ever has one outcome for ever; whatever else a client repeats, within the window.
    let kept = matches!(
        record.action,
        Action::PlaceOrder(_)
            | Action::Deposit { .. }
            | Action::Transfer { .. }
            | Action::RequestWithdrawal { .. }
    );
    if kept && done > 1 {
        return Err(("no command takes effect twice", format!("it has done so {done} times")));
    }
    if kept && rows.len() > 1 {
        return Err(("a command has one outcome", format!("it has {}", rows.len())));
    }
    if let Some(pair) =
        rows.windows(2).find(|pair| pair[1].time.micros_since(pair[0].time) <= WINDOW)
    {
        let found = format!("it has two, in rows {} and {}", pair[0].row, pair[1].row);
        return Err(("a command has one outcome within the window", found));
    }
    for answer in &record.answers {
        if let Answer::Decided { row, refused } = answer
            && !rows.iter().any(|place| place.row == *row && place.refused == *refused)
        {
            let found = format!("its client was answered from row {row}");
            return Err(("what was answered is in the journal", found));
        }
    }
    if record.seen_expired && done > 0 {
        let found = "it was carried out, and its client saw it expired".to_owned();
        return Err(("what reads as expired is never carried out", found));
    }
    if record.seen_decided && rows.is_empty() {
        return Err(("what reads as decided is in the journal", "it is not".to_owned()));
    }
    match record.finished {
        None => Err(("every client knows what became of its command", "it does not".to_owned())),
        Some(Finish::Nothing) if !rows.is_empty() => {
            Err(("nothing has happened where that was said", "it was decided".to_owned()))
        }
        Some(_) => Ok(()),
    }
}
