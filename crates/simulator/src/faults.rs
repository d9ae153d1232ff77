//! What goes wrong, and how often: drawn from the seed before the run begins.

use crate::broker::Stored;
use crate::event::{BrokerEvent, Event, ProcessorEvent};
use crate::settings::{FAULTS_UNTIL, MS, PROCESSORS, PROJECTORS, S, SERVERS};
use crate::trace::Who;
use crate::world::World;

/// A place in the sequencer's loop at which it may crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BetweenDeliveries,
    BeforeAppend,
    AfterAppend,
    BeforeAck,
}

impl Point {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::BetweenDeliveries => "a crash between two deliveries:",
            Self::BeforeAppend => "a crash before the append:",
            Self::AfterAppend => "a crash after the append:",
            Self::BeforeAck => "a crash before the acknowledgement:",
        }
    }
}

/// How often small things go wrong, out of a thousand times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) publish_lost: u64,
    pub(crate) publish_returned: u64,
    pub(crate) publish_doubled: u64,
    pub(crate) publish_late: u64,
    pub(crate) confirm_lost: u64,
    pub(crate) append_lost: u64,
    pub(crate) append_unanswered: u64,
    pub(crate) append_late: u64,
    pub(crate) hint_lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) write_lost: u64,
}

/// Something large that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    CrashProcessor {
        index: usize,
        down: u64,
    },
    CrashAllProcessors {
        down: u64,
    },
    Arm {
        index: usize,
        point: Point,
    },
    PauseProcessor {
        index: usize,
        pause: u64,
    },
    CutOffProcessor {
        index: usize,
        pause: u64,
    },
    /// The broker takes the active consumer for dead; its processor hears of it later.
    DropConsumer {
        heard_after: u64,
    },
    CrashServer {
        index: usize,
        down: u64,
    },
    PauseServer {
        index: usize,
        pause: u64,
    },
    CutOffServer {
        index: usize,
        pause: u64,
    },
    CrashProjector {
        index: usize,
        down: u64,
    },
    LagProjectors {
        pause: u64,
    },
    RestartDatabase {
        away: u64,
    },
    RestartBroker {
        away: u64,
    },
    Purge,
    Poison,
}

impl World {
    /// Draws the rates and the faults of a run. Each kind of fault is missing from many runs, so that the others
    /// come through alone.
    pub(crate) fn draw_faults(&mut self) {
        let mut rate = |most: u64| {
            let calm = self.rng.chance(400);
            if calm { 0 } else { self.rng.between(1, most) }
        };
        self.rates = Rates {
            publish_lost: rate(40),
            publish_returned: rate(30),
            publish_doubled: rate(80),
            publish_late: rate(60),
            confirm_lost: rate(80),
            append_lost: rate(80),
            append_unanswered: rate(80),
            append_late: rate(60),
            hint_lost: rate(400),
            answer_lost: rate(80),
            write_lost: rate(200),
        };
        let kinds: Vec<u64> = (0..15).filter(|_| self.rng.chance(500)).collect();
        let storm = self.rng.chance(150);
        let count = if storm { self.rng.between(15, 60) } else { self.rng.between(0, 14) };
        for _ in 0..count {
            let Some(kind) = kinds.get(self.rng.place(kinds.len().max(1))).copied() else { break };
            let at = self.rng.between(2 * S, FAULTS_UNTIL - 15 * S);
            let fault = self.draw_fault(kind);
            self.schedule(at, Event::Fault(fault));
        }
        self.schedule(FAULTS_UNTIL, Event::Quiet);
    }

    fn draw_fault(&mut self, kind: u64) -> Fault {
        let short = self.rng.between(50 * MS, 3 * S);
        let long = match self.rng.chance(300) {
            true => self.rng.between(6 * S, 40 * S),
            false => self.rng.between(200 * MS, 8 * S),
        };
        let processor = self.rng.place(PROCESSORS);
        let server = self.rng.place(SERVERS);
        let points =
            [Point::BetweenDeliveries, Point::BeforeAppend, Point::AfterAppend, Point::BeforeAck];
        let point = points[self.rng.place(points.len())];
        match kind {
            0 => Fault::CrashProcessor { index: processor, down: long },
            1 => Fault::CrashAllProcessors { down: long },
            2 | 3 => Fault::Arm { index: processor, point },
            4 => Fault::PauseProcessor { index: processor, pause: long },
            5 => Fault::CutOffProcessor { index: processor, pause: long },
            6 => Fault::DropConsumer { heard_after: long.min(12 * S) },
            7 => Fault::CrashServer { index: server, down: short },
            8 => match self.rng.chance(500) {
                true => Fault::PauseServer { index: server, pause: long },
                false => Fault::CutOffServer { index: server, pause: long },
            },
            9 => Fault::CrashProjector { index: self.rng.place(PROJECTORS), down: long },
            10 => Fault::LagProjectors { pause: 2 * long },
            11 => Fault::RestartDatabase { away: long.min(20 * S) },
            12 => Fault::RestartBroker { away: short },
            13 => Fault::Purge,
            _ => Fault::Poison,
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        let now = self.now;
        self.note(Who::Fault, "strikes:", 0, || format!("{fault:?}"));
        match fault {
            Fault::CrashProcessor { index, down } => self.crash_processor(index, down),
            Fault::CrashAllProcessors { down } => {
                // The first that comes back finds what was not acknowledged.
                for index in 0..PROCESSORS {
                    let later = self.rng.between(0, 2 * S);
                    self.crash_processor(index, down + later);
                }
            }
            Fault::Arm { index, point } => {
                // Whoever is active is the one that passes.
                let index = self.broker.active().map_or(index, |(_, active)| active);
                self.processors[index].armed = Some(point);
            }
            Fault::PauseProcessor { index, pause } => {
                let index = self.broker.active().map_or(index, |(_, active)| active);
                self.processors[index].paused_until = now + pause;
                // The broker misses its heartbeats.
                if pause > 5 * S {
                    self.schedule(5 * S, Event::Fault(Fault::DropConsumer { heard_after: pause }));
                }
            }
            Fault::CutOffProcessor { index, pause } => {
                self.processors[index].cut_off_until = now + pause;
            }
            Fault::DropConsumer { heard_after } => self.drop_consumer(heard_after),
            Fault::CrashServer { index, down } => self.crash_server(index, down),
            Fault::PauseServer { index, pause } => self.servers[index].paused_until = now + pause,
            Fault::CutOffServer { index, pause } => self.servers[index].cut_off_until = now + pause,
            Fault::CrashProjector { index, down } => self.crash_projector(index, down),
            Fault::LagProjectors { pause } => self.lag_projectors(now + pause),
            Fault::RestartDatabase { away } => {
                self.store.life += 1;
                self.store.away_until = now + away;
            }
            Fault::RestartBroker { away } => self.restart_broker(away),
            Fault::Purge => {
                let purged = self.broker.purge();
                self.note(Who::Broker, "is purged of", 0, || format!("{purged} messages"));
            }
            Fault::Poison => {
                let length = self.rng.place(40);
                let body: Vec<u8> = (0..length).map(|_| self.rng.next().to_be_bytes()[0]).collect();
                let message = Stored { number: self.broker.number(None), body: body.into() };
                let life = self.broker.life;
                let arrives = BrokerEvent::Arrive { message, life, confirm: None };
                self.schedule(0, Event::Broker(arrives));
            }
        }
    }

    fn drop_consumer(&mut self, heard_after: u64) {
        if let Some((consumer, index)) = self.broker.active() {
            self.leave(Some(consumer));
            self.tell_processor(index, heard_after, ProcessorEvent::QueueLost(consumer));
        }
    }

    fn restart_broker(&mut self, away: u64) {
        self.broker.away_until = self.now + away;
        let rng = &mut self.rng;
        for (consumer, index) in self.broker.restart(|| rng.chance(500)) {
            let after = self.rng.between(MS, S);
            self.tell_processor(index, after, ProcessorEvent::QueueLost(consumer));
        }
    }

    /// Ends all faults: from here on, everything must come to an end.
    pub(crate) fn quiet(&mut self) {
        self.note(Who::Fault, "ends: nothing fails from here on", 0, String::new);
        self.quiet = true;
        let now = self.now;
        self.store.away_until = self.store.away_until.min(now);
        self.broker.away_until = self.broker.away_until.min(now);
        for processor in &mut self.processors {
            processor.armed = None;
            processor.paused_until = 0;
            processor.cut_off_until = 0;
        }
        for server in &mut self.servers {
            (server.paused_until, server.cut_off_until) = (0, 0);
        }
    }
}
