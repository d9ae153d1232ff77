//! Steps 3, 4 and 5: a processor stands by, takes over, decides, appends, broadcasts and acknowledges.
//!
//! The loop is the simulator's; what it goes by is the product's: `OpenBatch`, `rules`, `Settling`, `seal`.

mod append;
mod takeover;

use std::sync::Arc;

use engine::State;
use journal::Row;
use processor::rules::{self, AckWith, Refused};
use processor::{Decided, EvolvePanicked, OpenBatch};
use store::journal::Settling;
use units::{Hash32, Sequence, Time};

use crate::Guard;
use crate::broker::Delivered;
use crate::event::{Event, Life, ProcessorEvent};
use crate::faults::Point;
use crate::settings::{BEGIN, COMMANDS_MAX, MS, TICK};
use crate::trace::Who;
use crate::world::World;

/// A processor.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) life: u32,
    pub(crate) up: bool,
    pub(crate) paused_until: u64,
    /// It cannot reach the database before this.
    pub(crate) cut_off_until: u64,
    /// How far its wall clock is ahead.
    pub(crate) ahead: u64,
    /// Where it crashes next.
    pub(crate) armed: Option<Point>,
    pub(crate) consumer: Option<u64>,
    pub(crate) mode: Mode,
}

/// What a processor does.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Standby,
    /// It takes over; what it has loaded, and the epoch that it has raised.
    Taking(Option<Box<(State, Hash32)>>, u64),
    Active(Box<Active>),
}

/// An active sequencer.
pub(crate) struct Active {
    pub(crate) state: State,
    pub(crate) hash: Hash32,
    pub(crate) sealed: Sequence,
    pub(crate) epoch: u64,
    /// Journal time when it became active, and when that was.
    pub(crate) base: Time,
    pub(crate) since: u64,
    pub(crate) open: Option<OpenBatch>,
    pub(crate) flight: Option<Flight>,
    pub(crate) unacknowledged: rules::Unacknowledged,
    /// Whether a wake-up is on its way.
    pub(crate) woken: bool,
    pub(crate) last_row: u64,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// An append whose outcome is not definite yet.
pub(crate) struct Flight {
    pub(crate) row: Arc<Row>,
    pub(crate) through: Option<u64>,
    pub(crate) settling: Settling,
    pub(crate) attempt: u64,
    pub(crate) pause: u64,
}

impl Active {
    fn now(&self, now: u64) -> Time {
        self.base.plus_micros(now - self.since)
    }
}

impl Processor {
    pub(crate) fn active(&self) -> Option<&Active> {
        match &self.mode {
            Mode::Active(active) => Some(active),
            _ => None,
        }
    }

    fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.mode {
            Mode::Active(active) => Some(active),
            _ => None,
        }
    }

    /// Wall-clock time, as this processor's clock has it.
    fn wall(&self, now: u64) -> Time {
        Time::from_micros(BEGIN + now + self.ahead)
    }
}

impl World {
    pub(crate) fn processor_life(&self, index: usize) -> Life {
        Life { index, life: self.processors[index].life }
    }

    pub(crate) fn tell_processor(&mut self, index: usize, after: u64, event: ProcessorEvent) {
        let life = self.processor_life(index);
        self.schedule(after, Event::Processor(life, event));
    }

    pub(crate) fn processor_event(&mut self, index: usize, event: ProcessorEvent) {
        match event {
            ProcessorEvent::Join => self.join(index),
            ProcessorEvent::Named(consumer) => self.named(index, consumer),
            ProcessorEvent::Recover => self.recover(index),
            ProcessorEvent::Claim => self.claim(index),
            ProcessorEvent::CatchUp => self.catch_up(index),
            ProcessorEvent::Wake => self.wake(index),
            ProcessorEvent::Tick => self.tick(index),
            ProcessorEvent::Again(attempt) => self.send_again(index, attempt),
            ProcessorEvent::Attempted(attempt, outcome) => self.attempted(index, attempt, outcome),
            ProcessorEvent::Found(attempt, found) => self.found(index, attempt, found),
            ProcessorEvent::QueueLost(consumer) => {
                if self.processors[index].consumer == Some(consumer) {
                    self.stand_by(index, "has lost the queue");
                }
            }
            ProcessorEvent::Restart => {
                self.processors[index].up = true;
                self.note(Who::Processor(index), "starts", 0, String::new);
                self.join(index);
            }
        }
    }

    /// Crashes at a point where a fault was armed; tells whether it has.
    pub(super) fn passes(&mut self, index: usize, point: Point) -> bool {
        if self.quiet || self.processors[index].armed != Some(point) {
            return false;
        }
        self.note(Who::Fault, point.words(), 0, || format!("processor {index}"));
        let down = self.rng.between(50 * MS, 6_000 * MS);
        self.crash_processor(index, down);
        true
    }

    /// Ends a processor's life; the broker gives what it had taken to the next.
    pub(crate) fn crash_processor(&mut self, index: usize, down: u64) {
        let processor = &mut self.processors[index];
        let consumer = processor.consumer.take();
        processor.life += 1;
        processor.up = false;
        processor.armed = None;
        processor.paused_until = 0;
        processor.mode = Mode::Standby;
        self.tell_processor(index, down, ProcessorEvent::Restart);
        self.leave(consumer);
    }

    /// Takes a consumer out of the queue and names the next one.
    pub(crate) fn leave(&mut self, consumer: Option<u64>) {
        let Some(consumer) = consumer else { return };
        let was = self.broker.active();
        self.broker.leave(consumer);
        if self.broker.active() != was {
            self.name_active();
        }
    }

    /// Tells the active consumer's processor that it is.
    pub(crate) fn name_active(&mut self) {
        if let Some((consumer, index)) = self.broker.active() {
            let after = self.rng.between(MS, 20 * MS);
            self.tell_processor(index, after, ProcessorEvent::Named(consumer));
        }
    }

    fn join(&mut self, index: usize) {
        if self.processors[index].consumer.is_some() {
            return;
        }
        if self.now < self.broker.away_until {
            let after = self.broker.away_until - self.now + self.rng.between(MS, 200 * MS);
            self.tell_processor(index, after, ProcessorEvent::Join);
            return;
        }
        let consumer = self.broker.join(index);
        self.processors[index].consumer = Some(consumer);
        self.note(Who::Processor(index), "consumer", consumer, || format!("{consumer} joins"));
        if self.broker.is_active(consumer) {
            self.name_active();
        }
    }

    /// Drops the state and stands by.
    pub(crate) fn stand_by(&mut self, index: usize, reason: &'static str) {
        self.note(Who::Processor(index), reason, 0, || "and stands by".to_owned());
        let processor = &mut self.processors[index];
        processor.mode = Mode::Standby;
        let consumer = processor.consumer.take();
        self.leave(consumer);
        let after = self.rng.between(200 * MS, 1_500 * MS);
        self.tell_processor(index, after, ProcessorEvent::Join);
    }

    /// Ends with a defect: applying an event panicked.
    fn evolve_panicked(&mut self, EvolvePanicked(commands): &EvolvePanicked) {
        self.fail("applying an event never panics", || format!("the batch had {commands:?}"));
    }

    /// Wakes the active processor soon.
    pub(crate) fn wake_soon(&mut self, index: usize) {
        let after = self.rng.between(50, 2 * MS);
        if let Some(active) = self.processors[index].active_mut()
            && !active.woken
        {
            active.woken = true;
            self.tell_processor(index, after, ProcessorEvent::Wake);
        }
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        let processor = &mut self.processors[index];
        let Some(consumer) = processor.consumer else { return };
        let Some(active) = processor.active_mut() else { return };
        active.woken = false;
        let time = active.now(now);
        let (has_room, room) = match &active.open {
            None => (true, COMMANDS_MAX),
            Some(open) => (
                !open.is_full(COMMANDS_MAX) && !open.is_old(time),
                COMMANDS_MAX.saturating_sub(open.len()),
            ),
        };
        if !has_room {
            return;
        }
        let max = 1 + self.rng.place(room.max(1));
        for delivery in self.broker.take(consumer, max) {
            if self.passes(index, Point::BetweenDeliveries) || !self.take(index, &delivery) {
                return;
            }
        }
        self.send(index);
        if self.broker.is_active(consumer) && self.broker.has_waiting() {
            self.wake_soon(index);
        }
    }

    /// Takes one delivery; tells whether the sequencer goes on.
    fn take(&mut self, index: usize, delivery: &Delivered) -> bool {
        let active = self.processors[index].active().expect("it has just taken a delivery");
        let command = match rules::read_delivery(&delivery.body, &active.state) {
            Ok(command) => command,
            Err(Refused::Unreadable(_) | Refused::Dead(_)) => {
                self.broker.put_aside(delivery.number);
                self.note(Who::Processor(index), "puts aside", delivery.tag, String::new);
                return self.note_delivery(index, delivery, None);
            }
            Err(Refused::SeenBeyondHead { seen, head }) => {
                if !self.database_answers(index) || self.store.head() >= seen {
                    self.stand_by(index, "is behind another");
                    return false;
                }
                self.fail("no command has seen beyond the head", || format!("{seen} > {head}"));
                return false;
            }
        };
        // First: what is past its window is forgotten when a batch is opened.
        if !self.open_batch(index) {
            return false;
        }
        let active = self.processors[index].active().expect("it was active just now");
        let now = active.now(self.now);
        if self.guards.has(Guard::Window) && rules::is_past_its_window(&command, &active.state, now)
        {
            if !self.database_answers(index) {
                self.stand_by(index, "cannot look a command up");
                return false;
            }
            match self.store.kept(command.id, active.state.remembered_since()) {
                Ok(Some(_)) => {
                    self.note(Who::Processor(index), "finds decided", delivery.tag, || {
                        id(command.id)
                    });
                    return self.note_delivery(index, delivery, Some(Decided::Repeated));
                }
                Ok(None) => {}
                Err(reason) => {
                    self.fail("the journal can be read", || reason);
                    return false;
                }
            }
        }
        let name = command.id;
        let active = self.processors[index].active_mut().expect("it was active just now");
        let open = active.open.as_mut().expect("it was opened just now");
        let decided = match open.decide(&mut active.state, command) {
            Ok(decided) => decided,
            Err(panicked) => {
                self.evolve_panicked(&panicked);
                return false;
            }
        };
        let what = match decided {
            Decided::Entered => "decides",
            Decided::Repeated => "knows",
            Decided::IdReused => "knows otherwise",
            Decided::Panicked => "panics at",
        };
        self.note(Who::Processor(index), what, delivery.tag, || id(name));
        if decided == Decided::Panicked {
            self.fail("deciding a command never panics", || id(name));
            return false;
        }
        self.note_delivery(index, delivery, Some(decided))
    }

    /// Acknowledges a delivery, or notes with what it is to be.
    fn note_delivery(
        &mut self,
        index: usize,
        delivery: &Delivered,
        decided: Option<Decided>,
    ) -> bool {
        if decided.and_then(rules::put_aside_for).is_some() {
            self.broker.put_aside(delivery.number);
        }
        let in_order = self.guards.has(Guard::AckOrder);
        let processor = &mut self.processors[index];
        let consumer = processor.consumer.expect("it has just taken a delivery");
        let active = processor.active_mut().expect("it has just taken a delivery");
        let with = match in_order {
            true => rules::ack_with(active.open.is_some(), active.flight.is_some()),
            false => AckWith::Now,
        };
        match with {
            AckWith::Open => {
                active.open.as_mut().expect("a batch is open").through = Some(delivery.tag);
            }
            AckWith::Flight => {
                active.flight.as_mut().expect("a row is in flight").through = Some(delivery.tag);
            }
            AckWith::Now => self.broker.acknowledge(consumer, delivery.tag),
        }
        true
    }

    /// Opens a batch where none is open; tells whether the sequencer goes on.
    pub(crate) fn open_batch(&mut self, index: usize) -> bool {
        let now = self.now;
        let active = self.processors[index].active_mut().expect("only an active one opens");
        if active.open.is_some() {
            return true;
        }
        let (time, next, epoch) = (active.now(now), active.sealed.next(), active.epoch);
        match OpenBatch::open(&mut active.state, next, time, epoch) {
            Ok(open) => {
                active.open = Some(open);
                true
            }
            Err(panicked) => {
                self.evolve_panicked(&panicked);
                false
            }
        }
    }

    /// Ends where a row has waited too long for its commit; tells whether the sequencer goes on.
    pub(crate) fn is_young_enough(&mut self, index: usize) -> bool {
        let now = self.now;
        let Some(active) = self.processors[index].active() else { return false };
        let oldest = active.flight.as_ref().map(|flight| flight.row.time);
        let oldest = oldest.or_else(|| active.open.as_ref().map(OpenBatch::time));
        let too_old =
            oldest.is_some_and(|time| rules::is_too_old(time, active.now(now), &active.state));
        // Without its memory, every row would be too old.
        let guarded = self.guards.has(Guard::Age) && self.guards.has(Guard::Dedup);
        if too_old && guarded {
            self.stand_by(index, "has a row that is too old");
            return false;
        }
        true
    }

    fn tick(&mut self, index: usize) {
        if !self.is_young_enough(index) {
            return;
        }
        let now = self.now;
        let Some(active) = self.processors[index].active_mut() else { return };
        let due = active.last_row + TICK;
        if active.flight.is_none() && active.open.is_none() && due <= now {
            if self.open_batch(index) {
                self.send(index);
            }
        } else if active.flight.is_some() {
            active.last_row = now;
        }
        if let Some(active) = self.processors[index].active() {
            let after = (active.last_row + TICK).saturating_sub(now).max(MS);
            self.tell_processor(index, after, ProcessorEvent::Tick);
        }
    }
}

/// A command's id, short.
pub(crate) fn id(command: units::CommandId) -> String {
    format!("{:08x}", command.get() >> 96)
}
