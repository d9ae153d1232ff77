//! The commands that are remembered, so that a repeat causes nothing.

use std::collections::VecDeque;
use std::hint::black_box;
use std::mem;

use units::{CommandId, Sequence, Time};

use super::ids::{IdHash, Salt};
use super::order::to_usize;
use super::places::Places;

/// One remembered command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: CommandId,
    pub(crate) body_hash: u64,
    pub(crate) outcome: Sequence,
    pub(crate) time: Time,
}

/// What the queue keeps of one command. The id is in halves, so that an entry takes 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: [u64; 2],
    body_hash: u64,
}

/// What the commands of one journal row have in common, from the position on where the first of them stands.
#[derive(Clone, Copy, Debug)]
struct Row {
    begin: u32,
    outcome: Sequence,
    time: Time,
}

/// The window: a queue in the order of outcomes, and a table of positions in it. Evicted by time alone, so by whole rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// The queue in chunks of [`CHUNK`]: however long it is, nothing is moved when it grows.
    chunks: VecDeque<Vec<Entry>>,
    /// The last chunk, as long as there is room in it.
    filling: Vec<Entry>,
    /// The rows of what stands in the queue.
    rows: VecDeque<Row>,
    /// How many at the front are forgotten: less than a chunk.
    forgotten: u32,
    length: u32,
    table: Places,
    /// The position of the queue's front, counted from the first entry ever, wrapping at 2^32: far more than the
    /// window holds.
    first: u32,
    salt: Salt,
}

/// Entries of a chunk, as a power of two: 96 KiB.
const CHUNK_BITS: u32 = 12;
const CHUNK: u32 = 1 << CHUNK_BITS;

impl Window {
    pub(crate) fn new(salt: Salt) -> Self {
        Self { salt, ..Self::default() }
    }

    #[inline(always)]
    pub(crate) fn get(&self, id: CommandId) -> Option<Known> {
        let same = |position| self.is(position, id);
        let position = self.table.find(self.salt.hash(id).upper(), same)?;
        Some(self.at(position))
    }

    /// Tells whether an entry has an id. Hardly ever asked of another one's, as the hashes would have to be equal.
    #[cold]
    fn is(&self, position: u32, id: CommandId) -> bool {
        self.entry(position).id() == id
    }

    /// Reads what [`Window::get`] and [`Window::push`] will read first, and returns whether something is there.
    #[inline]
    pub(crate) fn touch(&self, hash: IdHash) -> bool {
        self.table.touch(hash.upper())
    }

    #[inline]
    pub(crate) fn push(&mut self, hash: IdHash, known: Known) {
        let Known { id, body_hash, outcome, time } = known;
        let position = self.first.wrapping_add(self.length);
        self.table.insert(hash.upper(), position);
        self.length = self.length.checked_add(1).expect("the window fits 32 bits");
        if self.rows.back().is_none_or(|row| row.outcome != outcome) {
            self.rows.push_back(Row { begin: position, outcome, time });
        }
        if self.filling.len() == to_usize(CHUNK) {
            self.begin_chunk();
        }
        self.filling.push(Entry::new(id, body_hash));
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let chunk = Vec::with_capacity(to_usize(CHUNK));
        self.chunks.push_back(mem::replace(&mut self.filling, chunk));
    }

    /// Forgets what is older than `micros`.
    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while let Some(row) = self.rows.front()
            && now.micros_since(row.time) > micros
        {
            let end = self.end_of(0);
            // All are read ahead, so that the waits for memory overlap.
            let ahead = (0..end).map(|before| self.touch(self.hash_at(before)));
            black_box(ahead.fold(false, |found, touched| found | touched));
            (0..end).for_each(|_| self.forget_first());
            self.rows.pop_front();
        }
    }

    fn forget_first(&mut self) {
        self.table.remove(self.hash_at(0).upper(), self.first);
        self.first = self.first.wrapping_add(1);
        self.length = self.length.saturating_sub(1);
        self.forgotten = self.forgotten.saturating_add(1);
        if self.forgotten == CHUNK {
            self.forgotten = 0;
            self.chunks.pop_front().unwrap_or_else(|| mem::take(&mut self.filling));
        }
    }

    /// The hash of the entry that so many stand before.
    #[inline]
    fn hash_at(&self, before: u32) -> IdHash {
        self.salt.hash(self.entry(self.first.wrapping_add(before)).id())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Known> + '_ {
        self.rows.iter().enumerate().flat_map(|(at, row)| {
            let entries = self.before(row.begin)..self.end_of(at);
            entries.map(|before| self.known(row, self.first.wrapping_add(before)))
        })
    }

    pub(crate) fn len(&self) -> usize {
        to_usize(self.length)
    }

    /// The bytes that the window takes.
    pub(crate) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().chain([&self.filling]);
        let entries = chunks.map(Vec::capacity).fold(0, usize::saturating_add);
        let entries = entries.saturating_mul(size_of::<Entry>());
        let rows = self.rows.capacity().saturating_mul(size_of::<Row>());
        entries.saturating_add(rows).saturating_add(self.table.bytes())
    }

    /// What stands at a position. Hardly ever asked for: repeats are rare.
    #[cold]
    fn at(&self, position: u32) -> Known {
        let before = self.before(position);
        let behind = self.rows.partition_point(|row| self.before(row.begin) <= before);
        let row = behind.checked_sub(1).and_then(|at| self.rows.get(at));
        self.known(row.expect("every entry is of a row"), position)
    }

    fn known(&self, row: &Row, position: u32) -> Known {
        let entry = self.entry(position);
        let Row { outcome, time, .. } = *row;
        Known { id: entry.id(), body_hash: entry.body_hash, outcome, time }
    }

    #[inline]
    fn entry(&self, position: u32) -> &Entry {
        self.nth(self.before(position)).expect("the table names entries")
    }

    /// The entry that so many stand before.
    #[inline]
    fn nth(&self, before: u32) -> Option<&Entry> {
        let at = self.forgotten.checked_add(before)?;
        let number = to_usize(at >> CHUNK_BITS);
        let last = (number == self.chunks.len()).then_some(&self.filling);
        let chunk = self.chunks.get(number).or(last)?;
        chunk.get(to_usize(at & CHUNK.wrapping_sub(1)))
    }

    /// How many entries stand before the end of a row, which is named by its place among the rows.
    fn end_of(&self, row: usize) -> u32 {
        let next = self.rows.get(row.saturating_add(1));
        next.map_or(self.length, |next| self.before(next.begin))
    }

    /// How many entries stand before a position.
    #[inline]
    fn before(&self, position: u32) -> u32 {
        position.wrapping_sub(self.first)
    }
}

impl Entry {
    #[inline]
    fn new(id: CommandId, body_hash: u64) -> Self {
        let halves = |value: u128| {
            let low = u64::try_from(value & u128::from(u64::MAX)).expect("masked to 64 bits");
            let high = u64::try_from(value >> 64_u32).expect("shifted to 64 bits");
            [low, high]
        };
        Self { id: halves(id.get()), body_hash }
    }

    #[inline]
    fn id(&self) -> CommandId {
        let [low, high] = self.id;
        CommandId::new(u128::from(high) << 64_u32 | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands of a row.
    const ROW: u64 = 3;

    fn id(number: u64) -> CommandId {
        CommandId::new(u128::from(number) << 60_u32)
    }

    fn known(number: u64) -> Known {
        let row = number / ROW;
        let (outcome, time) = (Sequence::new(row), Time::from_micros(row * ROW));
        Known { id: id(number), body_hash: number, outcome, time }
    }

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn what_is_within_the_window_is_known_and_what_is_older_is_not() {
        let salt = Salt::new(7);
        let chunk = u64::from(CHUNK);
        // Windows that begin and end within a chunk, and at its ends.
        for length in [1, 100, chunk - 1, chunk, chunk + 1, 3 * chunk + 17] {
            let mut window = Window::new(salt);
            let mut oldest = 0;
            for now in 0..5 * chunk {
                if now % ROW == 0 {
                    window.forget(Time::from_micros(now), length);
                    oldest = now.saturating_sub(length).next_multiple_of(ROW);
                }
                window.push(salt.hash(id(now)), known(now));
                if now % 977 == 0 {
                    // A copy's last chunk has no room of its own.
                    window = window.clone();
                }
                assert_eq!(window.len() as u64, now - oldest + 1);
                for number in [oldest, oldest + (now - oldest) / 2, now] {
                    let found = window.get(id(number));
                    assert_eq!(found, Some(known(number)), "{number} at {now} of {length}");
                }
                let before = oldest.checked_sub(1).map(id);
                assert_eq!(before.and_then(|id| window.get(id)), None);
                if now % 4_001 == 0 {
                    assert!(window.iter().eq((oldest..=now).map(known)));
                }
            }
            window.forget(Time::MAX, length);
            assert_eq!((window.len(), window.iter().next()), (0, None));
        }
    }
}
