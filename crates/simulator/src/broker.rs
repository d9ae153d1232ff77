//! The queue of commands: one consumer is active, and what it has not acknowledged comes again when it is gone.

use std::collections::VecDeque;
use std::rc::Rc;

use units::CommandId;

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its number, for accounts.
    pub(crate) number: usize,
    pub(crate) body: Rc<[u8]>,
}

/// What became of a message, for the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Its command; `None` for what is no command.
    pub(crate) command: Option<CommandId>,
    /// Whether the broker has promised to keep it.
    pub(crate) confirmed: bool,
    /// Whether somebody has purged it.
    pub(crate) purged: bool,
    /// Whether it was put aside.
    pub(crate) dead: bool,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) tag: u64,
    pub(crate) number: usize,
    pub(crate) body: Rc<[u8]>,
}

/// The broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    waiting: VecDeque<Stored>,
    taken: VecDeque<(u64, Stored)>,
    /// Consumers in the order in which they came, by number, with their processor; the first is active.
    consumers: VecDeque<(u64, usize)>,
    consumers_made: u64,
    tags: u64,
    pub(crate) fates: Vec<Fate>,
    pub(crate) away_until: u64,
    pub(crate) life: u32,
}

impl Broker {
    /// Gives a message its number.
    pub(crate) fn number(&mut self, command: Option<CommandId>) -> usize {
        self.fates.push(Fate { command, confirmed: false, purged: false, dead: false });
        self.fates.len() - 1
    }

    pub(crate) fn enqueue(&mut self, message: Stored) {
        self.waiting.push_back(message);
    }

    pub(crate) fn confirm(&mut self, number: usize) {
        self.fates[number].confirmed = true;
    }

    pub(crate) fn put_aside(&mut self, number: usize) {
        self.fates[number].dead = true;
    }

    /// Makes a consumer for a processor and returns its number.
    pub(crate) fn join(&mut self, processor: usize) -> u64 {
        self.consumers_made += 1;
        self.consumers.push_back((self.consumers_made, processor));
        self.consumers_made
    }

    /// Returns the active consumer and its processor.
    pub(crate) fn active(&self) -> Option<(u64, usize)> {
        self.consumers.front().copied()
    }

    pub(crate) fn is_active(&self, consumer: u64) -> bool {
        self.active().is_some_and(|(active, _)| active == consumer)
    }

    /// Forgets a consumer; what it had taken comes again.
    pub(crate) fn leave(&mut self, consumer: u64) {
        if self.is_active(consumer) {
            self.give_back();
        }
        self.consumers.retain(|(number, _)| *number != consumer);
    }

    /// Restarts: connections are gone, and messages that were not confirmed may be.
    pub(crate) fn restart(&mut self, mut loses: impl FnMut() -> bool) -> Vec<(u64, usize)> {
        self.give_back();
        let fates = &self.fates;
        self.waiting.retain(|message| fates[message.number].confirmed || !loses());
        self.life += 1;
        self.consumers.drain(..).collect()
    }

    fn give_back(&mut self) {
        while let Some((_, message)) = self.taken.pop_back() {
            self.waiting.push_front(message);
        }
    }

    /// Gives the active consumer what waits, at most `max`.
    pub(crate) fn take(&mut self, consumer: u64, max: usize) -> Vec<Delivered> {
        if !self.is_active(consumer) {
            return Vec::new();
        }
        let count = self.waiting.len().min(max);
        let mut deliveries = Vec::with_capacity(count);
        for message in self.waiting.drain(..count) {
            self.tags += 1;
            let (tag, number, body) = (self.tags, message.number, Rc::clone(&message.body));
            self.taken.push_back((tag, message));
            deliveries.push(Delivered { tag, number, body });
        }
        deliveries
    }

    /// Takes every delivery up to `through` for done; says of nothing where the consumer is not active any more.
    pub(crate) fn acknowledge(&mut self, consumer: u64, through: u64) {
        if self.is_active(consumer) {
            while self.taken.front().is_some_and(|(tag, _)| *tag <= through) {
                self.taken.pop_front();
            }
        }
    }

    /// Removes what waits, as `rabbitmqctl purge_queue` does.
    pub(crate) fn purge(&mut self) -> usize {
        let purged = self.waiting.len();
        for message in self.waiting.drain(..) {
            self.fates[message.number].purged = true;
        }
        purged
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.taken.is_empty()
    }
}
