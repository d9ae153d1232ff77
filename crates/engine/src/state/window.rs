//! The commands that are remembered, so that a repeat causes nothing.

use std::collections::VecDeque;

use units::{CommandId, Sequence, Time, mix_wide};

use super::places::Places;

/// One remembered command. The id is kept in halves, so that an entry takes 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    id: [u64; 2],
    pub(crate) body_hash: u64,
    pub(crate) outcome: Sequence,
    pub(crate) time: Time,
}

impl Known {
    pub(crate) fn new(id: CommandId, body_hash: u64, outcome: Sequence, time: Time) -> Self {
        let halves = |value: u128| {
            let low = u64::try_from(value & u128::from(u64::MAX)).expect("masked to 64 bits");
            let high = u64::try_from(value >> 64_u32).expect("shifted to 64 bits");
            [low, high]
        };
        Self { id: halves(id.get()), body_hash, outcome, time }
    }

    pub(crate) fn id(&self) -> CommandId {
        let [low, high] = self.id;
        CommandId::new(u128::from(high) << 64_u32 | u128::from(low))
    }
}

/// The window: a queue in the order of outcomes, and a table of positions in it. Evicted by time alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    queue: VecDeque<Known>,
    table: Places,
    /// The position of the queue's front, counted from the first entry ever, wrapping at 2^32: far more than the
    /// window holds.
    first: u32,
    salt: u64,
}

impl Window {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    #[inline]
    pub(crate) fn get(&self, id: CommandId) -> Option<&Known> {
        let same = |position| self.at(position).id() == id;
        self.table.find(self.hash(id), same).map(|position| self.at(position))
    }

    /// Reads what [`Window::get`] and [`Window::push`] will read first, and returns whether something is there.
    #[inline]
    pub(crate) fn touch(&self, id: CommandId) -> bool {
        self.table.touch(self.hash(id))
    }

    #[inline]
    pub(crate) fn push(&mut self, known: Known) {
        let length = u32::try_from(self.queue.len()).expect("the window fits 32 bits");
        self.table.insert(self.hash(known.id()), self.first.wrapping_add(length));
        self.queue.push_back(known);
    }

    /// Forgets what is older than `micros`.
    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while self.queue.front().is_some_and(|known| now.micros_since(known.time) > micros) {
            let old = self.queue.pop_front().expect("the front was just seen");
            self.table.remove(self.hash(old.id()), self.first);
            self.first = self.first.wrapping_add(1);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.queue.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The bytes that the window takes.
    pub(crate) fn bytes(&self) -> usize {
        let queue = self.queue.capacity().saturating_mul(size_of::<Known>());
        queue.saturating_add(self.table.bytes())
    }

    #[inline]
    fn hash(&self, id: CommandId) -> u32 {
        let half = mix_wide(id.get(), self.salt) >> 32_u32;
        u32::try_from(half).expect("shifted to 32 bits")
    }

    fn at(&self, position: u32) -> &Known {
        let at = super::order::to_usize(position.wrapping_sub(self.first));
        self.queue.get(at).expect("the table names entries")
    }
}
