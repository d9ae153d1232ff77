//! Step 4, append, and step 5, broadcast and acknowledge.

use std::sync::Arc;

use journal::{Row, seal};
use processor::{ProcessorError, rules};
use store::StoreError;
use store::journal::{AppendError, Attempt, Found, Next, Settling};

use super::Flight;
use crate::Guard;
use crate::event::{Event, ProcessorEvent, ServerEvent, StoreEvent};
use crate::faults::Point;
use crate::settings::{ATTEMPT_MAX, MS, PAUSE_MAX, PAUSE_MIN, S, SERVERS};
use crate::trace::Who;
use crate::world::World;

/// What a lost connection says.
fn gone() -> StoreError {
    StoreError::Unreachable { address: String::new(), source: None }
}

impl World {
    /// Seals the open batch and sends it, where nothing is in flight.
    pub(super) fn send(&mut self, index: usize) {
        if !self.is_young_enough(index) {
            return;
        }
        let Some(active) = self.processors[index].active_mut() else { return };
        if active.flight.is_some() {
            return;
        }
        if active.open.is_none() && engine::next_internal(&active.state).is_some() {
            // A cascade goes on although nobody sends anything.
            if !self.open_batch(index) {
                return;
            }
        }
        let now = self.now;
        let active = self.processors[index].active_mut().expect("it is active");
        let Some(open) = active.open.take() else { return };
        let (batch, through) = match open.close(&mut active.state) {
            Ok(closed) => closed,
            Err(panicked) => return self.evolve_panicked(&panicked),
        };
        let row = Arc::new(seal(&batch, active.hash));
        active.hash = row.hash;
        active.sealed = row.sequence;
        active.last_row = now;
        let settling = Settling::default();
        active.flight =
            Some(Flight { row: Arc::clone(&row), through, settling, attempt: 0, pause: PAUSE_MIN });
        self.note(Who::Processor(index), "sends row", row.sequence.get(), || {
            format!("{}, epoch {}, {} commands", row.sequence, row.epoch, row.commands)
        });
        if self.passes(index, Point::BeforeAppend) {
            return;
        }
        if !self.guards.has(Guard::CommitFirst) {
            self.broadcast(index, &row);
        }
        self.attempt(index);
    }

    /// Sends the row in flight. What becomes of the statement, and what the sequencer hears of that, are two things.
    fn attempt(&mut self, index: usize) {
        let life = self.processor_life(index);
        let answers = self.database_answers(index);
        let Some(active) = self.processors[index].active_mut() else { return };
        let Some(flight) = &mut active.flight else { return };
        flight.attempt += 1;
        let (number, row) = (flight.attempt, Arc::clone(&flight.row));
        let unknown = |_| ProcessorEvent::Attempted(number, Attempt::Unknown(gone()));
        if !answers {
            let after = self.rng.between(MS, 5 * MS);
            return self.tell_processor(index, after, unknown(()));
        }
        let db = self.store.life;
        let arrives = |row, reply| Event::Store(StoreEvent::Append { row, life: db, reply });
        let there = self.rng.between(300, 3 * MS);
        let rates = self.rates;
        let roll = if self.quiet { 1_000 } else { self.rng.below(1_000) };
        if roll < rates.append_lost {
            // It never arrives; the connection breaks, or nobody says anything until the limit.
            let after = if self.rng.chance(150) { ATTEMPT_MAX } else { self.rng.between(MS, S) };
            self.tell_processor(index, after, unknown(()));
        } else if roll < rates.append_lost + rates.append_unanswered {
            self.schedule(there, arrives(row, None));
            let after = if self.rng.chance(100) { ATTEMPT_MAX } else { there + 500 };
            self.tell_processor(index, after, unknown(()));
        } else if roll < rates.append_lost + rates.append_unanswered + rates.append_late {
            // The statement goes on by itself, long after its sender has given it up.
            let late = self.rng.between(10 * MS, 3 * S);
            self.schedule(late, arrives(row, None));
            let after = self.rng.between(MS, 100 * MS);
            self.tell_processor(index, after, unknown(()));
        } else {
            self.schedule(there, arrives(row, Some((life, number))));
        }
    }

    pub(super) fn send_again(&mut self, index: usize, attempt: u64) {
        let flight = self.processors[index].active().and_then(|active| active.flight.as_ref());
        if flight.is_some_and(|flight| flight.attempt == attempt) {
            self.attempt(index);
        }
    }

    /// Returns the row in flight, if this attempt is its last.
    fn in_flight(&mut self, index: usize, attempt: u64) -> Option<&mut Flight> {
        let flight = self.processors[index].active_mut()?.flight.as_mut()?;
        (flight.attempt == attempt).then_some(flight)
    }

    pub(super) fn attempted(&mut self, index: usize, attempt: u64, mut outcome: Attempt) {
        if !self.guards.has(Guard::LookUp) && matches!(outcome, Attempt::Unknown(_)) {
            outcome = Attempt::Appended;
        }
        let Some(flight) = self.in_flight(index, attempt) else { return };
        let next = flight.settling.attempted(outcome);
        self.next(index, attempt, next);
    }

    pub(super) fn found(&mut self, index: usize, attempt: u64, found: Result<Found, StoreError>) {
        let Some(flight) = self.in_flight(index, attempt) else { return };
        let next = flight.settling.found(&flight.row, found);
        self.next(index, attempt, next);
    }

    fn next(&mut self, index: usize, attempt: u64, next: Next) {
        let life = self.processor_life(index);
        let Some(flight) = self.in_flight(index, attempt) else { return };
        let sequence = flight.row.sequence;
        match next {
            Next::Done(result) => self.land(index, result),
            Next::LookUp => {
                let lost = !self.quiet && self.rng.chance(100);
                if lost || !self.database_answers(index) {
                    let event = ProcessorEvent::Found(attempt, Err(gone()));
                    return self.tell_processor(index, 2 * MS, event);
                }
                let event = StoreEvent::LookUp { sequence, reply: (life, attempt) };
                self.schedule(MS, Event::Store(event));
            }
            Next::Again(_) => {
                let pause = flight.pause;
                flight.pause = (pause * 2).min(PAUSE_MAX);
                self.note(Who::Processor(index), "does not know of row", sequence.get(), || {
                    sequence.to_string()
                });
                self.tell_processor(index, pause, ProcessorEvent::Again(attempt));
            }
        }
    }

    /// Follows up a definite append: broadcast, then acknowledge.
    fn land(&mut self, index: usize, result: Result<(), AppendError>) {
        let active = self.processors[index].active_mut().expect("a row was in flight");
        let Flight { row, through, .. } = active.flight.take().expect("a row was in flight");
        match rules::landed(result) {
            Ok(()) => {}
            Err(ProcessorError::Deposed) => return self.stand_by(index, "is deposed"),
            Err(ProcessorError::DoesNotFollow(_)) => {
                return self.stand_by(index, "has a row that does not follow");
            }
            Err(error) => return self.fail("an append is not refused", || error.to_string()),
        }
        self.note(Who::Processor(index), "has committed row", row.sequence.get(), || {
            row.sequence.to_string()
        });
        if self.passes(index, Point::AfterAppend) {
            return;
        }
        self.broadcast(index, &row);
        if self.passes(index, Point::BeforeAck) {
            return;
        }
        let consumer = self.processors[index].consumer;
        let active = self.processors[index].active_mut().expect("a row was in flight");
        let due = through.and_then(|last| active.unacknowledged.land(last, active.open.as_mut()));
        if let (Some(through), Some(consumer)) = (due, consumer) {
            self.broker.acknowledge(consumer, through);
        }
        self.send(index);
        self.wake_soon(index);
    }

    /// Tells the servers of a row. A hint may be lost, late, or come twice.
    fn broadcast(&mut self, index: usize, row: &Arc<Row>) {
        if !self.store.is_committed(row.sequence, row.hash) {
            self.fail("nothing leaves before its commit", || {
                format!("processor {index} broadcasts row {}, which is not there", row.sequence)
            });
        }
        for server in 0..SERVERS {
            let copies = match self.quiet {
                true => 1,
                false if self.rng.chance(self.rates.hint_lost) => 0,
                false => 1 + u64::from(self.rng.chance(50)),
            };
            for _ in 0..copies {
                let after = self.network();
                self.tell_server(server, after, ServerEvent::Hint(Arc::clone(row)));
            }
        }
    }
}
