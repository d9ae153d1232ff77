//! The commands that are remembered, so that a repeat causes nothing.

use std::collections::VecDeque;

use hashbrown::HashTable;
use units::{CommandId, Sequence, Time, mix_wide};

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

/// Where a command stands in the queue, with its hash beside it: neither growing the table nor a false match
/// of the table's short tags reads the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Counted from the first entry ever, wrapping at 2^32: far more than the window holds.
    position: u32,
    hash: u32,
}

impl Place {
    /// The table's hash: it takes its tag from the upper bits and its slot from the lower ones.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32_u32 | u64::from(hash)
    }
}

/// The window: a queue in the order of outcomes, and a table of positions in it. Evicted by time alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    queue: VecDeque<Known>,
    table: HashTable<Place>,
    first: u32,
    salt: u64,
}

impl Window {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    pub(crate) fn get(&self, id: CommandId) -> Option<&Known> {
        let hash = self.hash(id);
        let same = |place: &Place| place.hash == hash && self.at(place.position).id() == id;
        let place = self.table.find(Place::spread(hash), same)?;
        Some(self.at(place.position))
    }

    pub(crate) fn push(&mut self, known: Known) {
        let length = u32::try_from(self.queue.len()).expect("the window fits 32 bits");
        let place =
            Place { position: self.first.wrapping_add(length), hash: self.hash(known.id()) };
        self.queue.push_back(known);
        let spread = |place: &Place| Place::spread(place.hash);
        self.table.insert_unique(Place::spread(place.hash), place, spread);
    }

    /// Forgets what is older than `micros`.
    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while self.queue.front().is_some_and(|known| now.micros_since(known.time) > micros) {
            let old = self.queue.pop_front().expect("the front was just seen");
            let place = Place { position: self.first, hash: self.hash(old.id()) };
            let entry = self.table.find_entry(Place::spread(place.hash), |other| *other == place);
            entry.expect("the table names every entry").remove();
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
        queue.saturating_add(self.table.allocation_size())
    }

    fn hash(&self, id: CommandId) -> u32 {
        let half = mix_wide(id.get(), self.salt) >> 32_u32;
        u32::try_from(half).expect("shifted to 32 bits")
    }

    fn at(&self, position: u32) -> &Known {
        let at = super::order::to_usize(position.wrapping_sub(self.first));
        self.queue.get(at).expect("the table names entries")
    }
}
