//! What happens to a message on its way into the queue, and to statements on their way into the database.

use std::rc::Rc;

use store::journal::Attempt;
use units::CommandId;

use crate::broker::Stored;
use crate::event::{BrokerEvent, Event, Life, ProcessorEvent, Published, ServerEvent, StoreEvent};
use crate::settings::{MS, OUTCOME_WAIT, S};
use crate::store::Inserted;
use crate::trace::Who;
use crate::world::World;

impl World {
    /// Publishes a server's message. It may be lost, late, doubled, or confirmed to nobody.
    pub(crate) fn publish(
        &mut self,
        server: usize,
        number: u64,
        command: CommandId,
        body: Rc<[u8]>,
    ) {
        let says = |published| ServerEvent::Published(number, published);
        if self.now < self.broker.away_until {
            return self.tell_server(server, MS, says(Published::Unroutable));
        }
        self.tell_server(server, OUTCOME_WAIT, says(Published::Unknown));
        let life = self.broker.life;
        let confirm = Some((Life { index: server, life: self.servers[server].life }, number));
        let rates = self.rates;
        let roll = if self.quiet { 1_000 } else { self.rng.below(1_000) };
        if roll < rates.publish_lost {
            return;
        }
        if roll < rates.publish_lost + rates.publish_returned {
            let after = self.network();
            return self.tell_server(server, after, says(Published::Unroutable));
        }
        let copies = 1 + u64::from(!self.quiet && self.rng.chance(rates.publish_doubled));
        for _ in 0..copies {
            let message =
                Stored { number: self.broker.number(Some(command)), body: Rc::clone(&body) };
            let late = !self.quiet && self.rng.chance(rates.publish_late);
            let after = if late { self.rng.between(S, 12 * S) } else { self.network() };
            let arrives = BrokerEvent::Arrive { message, life, confirm };
            self.schedule(after, Event::Broker(arrives));
        }
    }

    pub(crate) fn broker_event(&mut self, event: BrokerEvent) {
        match event {
            BrokerEvent::Arrive { message, life, confirm } => {
                if self.broker.life != life || self.now < self.broker.away_until {
                    return;
                }
                let number = message.number;
                let command = self.broker.fates[number].command;
                self.note(Who::Broker, "queues", u64::try_from(number).unwrap_or(0), || {
                    command.map_or_else(|| "no command".to_owned(), crate::processor::id)
                });
                self.broker.enqueue(message);
                if let Some((_, processor)) = self.broker.active() {
                    self.wake_soon(processor);
                }
                let after = self.rng.between(200, 4 * MS);
                let safe = BrokerEvent::Safe { number, life, confirm };
                self.schedule(after, Event::Broker(safe));
            }
            BrokerEvent::Safe { number, life, confirm } => {
                if self.broker.life != life {
                    return;
                }
                self.broker.confirm(number);
                let lost = !self.quiet && self.rng.chance(self.rates.confirm_lost);
                if let (Some((server, request)), false) = (confirm, lost) {
                    let after = self.network();
                    let event = ServerEvent::Published(request, Published::Confirmed);
                    self.schedule(after, Event::Server(server, event));
                }
            }
        }
    }

    pub(crate) fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Append { row, life, reply } => {
                let outcome = if self.store.life == life && self.now >= self.store.away_until {
                    let (epoch, inserted) = (self.store.epoch, self.store.append(&row));
                    if inserted == Inserted::Yes {
                        self.note(Who::Store, "commits row", row.sequence.get(), || {
                            format!("{} of epoch {}", row.sequence, row.epoch)
                        });
                        self.committed(row.sequence, row.epoch, epoch);
                        Attempt::Appended
                    } else {
                        Attempt::NotInserted
                    }
                } else {
                    let address = String::new();
                    Attempt::Unknown(::store::StoreError::Unreachable { address, source: None })
                };
                if let Some((processor, attempt)) = reply {
                    let event = ProcessorEvent::Attempted(attempt, outcome);
                    let after = self.rng.between(100, MS);
                    self.schedule(after, Event::Processor(processor, event));
                }
            }
            StoreEvent::LookUp { sequence, reply: (processor, attempt) } => {
                let found = self.store.look_up(sequence);
                let event = ProcessorEvent::Found(attempt, Ok(found));
                self.schedule(MS, Event::Processor(processor, event));
            }
            StoreEvent::Write { batches, life } => self.write_projections(&batches, life),
            StoreEvent::Snapshot => {
                if self.now >= self.store.away_until
                    && let Err(reason) = self.store.take_snapshot()
                {
                    self.fail("the journal can be followed", || reason);
                }
                self.schedule(7 * S, Event::Store(StoreEvent::Snapshot));
            }
        }
    }

    /// Checks the fence's own promise, when a row is committed.
    fn committed(&mut self, sequence: units::Sequence, epoch: u64, in_force: u64) {
        if epoch != in_force {
            self.fail("nothing is appended in the name of an epoch that is over", || {
                format!("row {sequence} of epoch {epoch} was committed in epoch {in_force}")
            });
        }
    }
}
