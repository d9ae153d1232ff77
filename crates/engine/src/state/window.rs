//! The commands that are remembered, so that a repeat causes nothing.

use std::collections::VecDeque;
use std::mem;

use units::{CommandId, Sequence, Time};

use super::ids::{IdHash, Salt};
use super::order::to_usize;
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
    /// The queue in chunks of [`CHUNK`]: however long it is, nothing is moved when it grows.
    chunks: VecDeque<Vec<Known>>,
    /// The last chunk, as long as there is room in it.
    filling: Vec<Known>,
    /// How many at the front are forgotten: less than a chunk.
    forgotten: u32,
    length: u32,
    table: Places,
    /// The position of the queue's front, counted from the first entry ever, wrapping at 2^32: far more than the
    /// window holds.
    first: u32,
    salt: Salt,
}

/// Entries of a chunk, as a power of two: 160 KiB.
const CHUNK_BITS: u32 = 12;
const CHUNK: u32 = 1 << CHUNK_BITS;

impl Window {
    pub(crate) fn new(salt: Salt) -> Self {
        Self { salt, ..Self::default() }
    }

    #[inline(always)]
    pub(crate) fn get(&self, id: CommandId) -> Option<&Known> {
        let same = |position| self.is(position, id);
        let position = self.table.find(self.salt.hash(id).upper(), same)?;
        Some(self.at(position))
    }

    /// Tells whether an entry has an id. Hardly ever asked of another one's, as the hashes would have to be equal.
    #[cold]
    fn is(&self, position: u32, id: CommandId) -> bool {
        self.at(position).id() == id
    }

    /// Reads what [`Window::get`] and [`Window::push`] will read first, and returns whether something is there.
    #[inline]
    pub(crate) fn touch(&self, hash: IdHash) -> bool {
        self.table.touch(hash.upper())
    }

    #[inline]
    pub(crate) fn push(&mut self, hash: IdHash, known: Known) {
        self.table.insert(hash.upper(), self.first.wrapping_add(self.length));
        self.length = self.length.checked_add(1).expect("the window fits 32 bits");
        if self.filling.len() == to_usize(CHUNK) {
            self.begin_chunk();
        }
        self.filling.push(known);
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let chunk = Vec::with_capacity(to_usize(CHUNK));
        self.chunks.push_back(mem::replace(&mut self.filling, chunk));
    }

    /// Forgets what is older than `micros`.
    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while let Some(&old) = self.nth(0)
            && now.micros_since(old.time) > micros
        {
            self.table.remove(self.salt.hash(old.id()).upper(), self.first);
            self.first = self.first.wrapping_add(1);
            self.length = self.length.saturating_sub(1);
            self.forgotten = self.forgotten.saturating_add(1);
            if self.forgotten == CHUNK {
                self.forgotten = 0;
                self.chunks.pop_front().unwrap_or_else(|| mem::take(&mut self.filling));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.chunks.iter().chain([&self.filling]).flatten().skip(to_usize(self.forgotten))
    }

    pub(crate) fn len(&self) -> usize {
        to_usize(self.length)
    }

    /// The bytes that the window takes.
    pub(crate) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().chain([&self.filling]);
        let entries = chunks.map(Vec::capacity).fold(0, usize::saturating_add);
        entries.saturating_mul(size_of::<Known>()).saturating_add(self.table.bytes())
    }

    fn at(&self, position: u32) -> &Known {
        self.nth(position.wrapping_sub(self.first)).expect("the table names entries")
    }

    /// The entry that so many stand before.
    #[inline]
    fn nth(&self, before: u32) -> Option<&Known> {
        let at = self.forgotten.checked_add(before)?;
        let number = to_usize(at >> CHUNK_BITS);
        let last = (number == self.chunks.len()).then_some(&self.filling);
        let chunk = self.chunks.get(number).or(last)?;
        chunk.get(to_usize(at & CHUNK.wrapping_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u64) -> Known {
        Known::new(
            CommandId::new(number.into()),
            number,
            Sequence::new(number),
            Time::from_micros(number),
        )
    }

    #[test]
    fn what_is_within_the_window_is_known_and_what_is_older_is_not() {
        let salt = Salt::new(7);
        let chunk = u64::from(CHUNK);
        // Windows that begin and end within a chunk, and at its ends.
        for length in [1, 100, chunk - 1, chunk, chunk + 1, 3 * chunk + 17] {
            let mut window = Window::new(salt);
            for now in 0..5 * chunk {
                window.forget(Time::from_micros(now), length);
                window.push(salt.hash(CommandId::new(now.into())), known(now));
                if now % 977 == 0 {
                    // A copy's last chunk has no room of its own.
                    window = window.clone();
                }
                let oldest = now.saturating_sub(length);
                assert_eq!(window.len() as u64, now - oldest + 1);
                for number in [oldest, oldest + (now - oldest) / 2, now] {
                    let found = window.get(CommandId::new(number.into()));
                    assert_eq!(found, Some(&known(number)), "{number} at {now} of {length}");
                }
                let before = oldest.checked_sub(1).map(|number| CommandId::new(number.into()));
                assert_eq!(before.and_then(|id| window.get(id)), None);
                if now % 4_001 == 0 {
                    assert!(window.iter().copied().eq((oldest..=now).map(known)));
                }
            }
            window.forget(Time::MAX, length);
            assert_eq!((window.len(), window.iter().next()), (0, None));
        }
    }
}
