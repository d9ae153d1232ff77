//! The commands that are remembered, so that a repeat causes nothing.

use std::collections::VecDeque;
use std::hint::black_box;
use std::mem;

use units::{CommandId, Sequence, Time};

use super::chunk::{CHUNK, CHUNK_BITS, Chunk, Entry};
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

/// What the commands of one journal row have in common, from the position on where the first of them stands.
#[derive(Clone, Copy, Debug)]
struct Row {
    begin: u32,
    outcome: Sequence,
    time: Time,
}

/// The window: a queue in the order of outcomes. Evicted by time alone, so by whole rows.
///
/// An id that begins with the time when it was made (UUIDv7, as servers give) is found by its chunk: a new command's id is
/// beyond whatever stands in the full ones, so that what is asked for every command is the last chunk, which is near at hand
/// however long the window is. One that comes late, or again, is looked for in the chunks that reach up to it. Ids that say
/// nothing of a time (derived from a key) are in a table of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// The queue in chunks: however long it is, nothing is moved when it grows.
    chunks: VecDeque<Full>,
    /// The last chunk, as long as there is room in it.
    filling: Chunk,
    /// The rows of what stands in the queue.
    rows: VecDeque<Row>,
    /// How many at the front are forgotten: less than a chunk.
    forgotten: u32,
    length: u32,
    /// The positions of the entries whose ids have no time.
    timeless: Places,
    /// The position of the queue's front, counted from the first entry ever, wrapping at 2^32: far more than the
    /// window holds.
    first: u32,
    salt: Salt,
}

/// A chunk that is full.
#[derive(Clone, Debug)]
struct Full {
    chunk: Chunk,
    /// The least and the greatest id in it that has a time.
    ids: (CommandId, CommandId),
    /// The greatest such id in it and in the chunks before it.
    reach: CommandId,
}

impl Window {
    pub(crate) fn new(salt: Salt) -> Self {
        Self { salt, ..Self::default() }
    }

    #[inline(always)]
    pub(crate) fn get(&self, id: CommandId) -> Option<Known> {
        let hash = self.salt.hash(id);
        let position = if has_time(id) {
            self.find_timed(hash, id)?
        } else {
            self.timeless.find(hash.upper(), |position| self.is(position, id))?
        };
        Some(self.at(position))
    }

    #[inline]
    fn find_timed(&self, hash: IdHash, id: CommandId) -> Option<u32> {
        let number = self.chunks.len();
        if let Some(place) = self.filling.find(hash, id, self.forgotten_of(number)) {
            return Some(self.position(number, place));
        }
        let last = self.chunks.back()?;
        if last.reach < id { None } else { self.find_older(hash, id) }
    }

    /// Finds an id in the chunks that are full, from the newest to the last one that can have it.
    #[cold]
    fn find_older(&self, hash: IdHash, id: CommandId) -> Option<u32> {
        let chunks = self.chunks.iter().enumerate().rev();
        let mut near = chunks.take_while(|(_, full)| id <= full.reach);
        near.find_map(|(number, full)| {
            let (least, greatest) = full.ids;
            let within = least <= id && id <= greatest;
            let place = within.then(|| full.chunk.find(hash, id, self.forgotten_of(number)))??;
            Some(self.position(number, place))
        })
    }

    /// Tells whether an entry has an id. Hardly ever asked of another one's, as the hashes would have to be equal.
    #[cold]
    fn is(&self, position: u32, id: CommandId) -> bool {
        self.entry(position).id() == id
    }

    /// Reads what [`Window::get`] and [`Window::push`] will read first, unless that is near at hand, and returns whether
    /// something is there.
    #[inline]
    pub(crate) fn touch(&self, id: CommandId) -> bool {
        !has_time(id) && self.timeless.touch(self.salt.hash(id).upper())
    }

    #[inline]
    pub(crate) fn push(&mut self, hash: IdHash, known: Known) {
        let Known { id, body_hash, outcome, time } = known;
        let position = self.first.wrapping_add(self.length);
        self.length = self.length.checked_add(1).expect("the window fits 32 bits");
        if self.rows.back().is_none_or(|row| row.outcome != outcome) {
            self.rows.push_back(Row { begin: position, outcome, time });
        }
        if self.filling.is_full() {
            self.begin_chunk();
        }
        if has_time(id) {
            self.filling.index_next(hash);
        } else {
            self.timeless.insert(hash.upper(), position);
        }
        self.filling.push(Entry::new(id, body_hash));
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let chunk = mem::replace(&mut self.filling, Chunk::with_room());
        let reach = self.chunks.back().map_or(CommandId::new(0), |last| last.reach);
        self.chunks.push_back(Full::new(chunk, reach));
    }

    /// Forgets what is older than `micros`.
    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while let Some(row) = self.rows.front()
            && now.micros_since(row.time) > micros
        {
            let end = self.end_of(0);
            // All are read ahead, so that the waits for memory overlap.
            let ahead = (0..end).map(|before| self.touch(self.id_at(before)));
            black_box(ahead.fold(false, |found, touched| found | touched));
            (0..end).for_each(|_| self.forget_first());
            self.rows.pop_front();
        }
    }

    fn forget_first(&mut self) {
        let id = self.id_at(0);
        // The others go with their chunk.
        if !has_time(id) {
            self.timeless.remove(self.salt.hash(id).upper(), self.first);
        }
        self.first = self.first.wrapping_add(1);
        self.length = self.length.saturating_sub(1);
        self.forgotten = self.forgotten.saturating_add(1);
        if self.forgotten == CHUNK {
            self.forgotten = 0;
            self.drop_chunk();
        }
    }

    /// Drops the first chunk, all of which is forgotten.
    #[cold]
    fn drop_chunk(&mut self) {
        if self.chunks.pop_front().is_none() {
            self.filling = Chunk::default();
        }
        // A clock that was ahead for a while keeps no look-up long any more once that is forgotten.
        let mut reach = CommandId::new(0);
        for full in &mut self.chunks {
            let (_, greatest) = full.ids;
            reach = reach.max(greatest);
            full.reach = reach;
        }
    }

    /// The id of the entry that so many stand before.
    #[inline]
    fn id_at(&self, before: u32) -> CommandId {
        self.entry(self.first.wrapping_add(before)).id()
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
        let chunks = self.chunks.iter().map(|full| &full.chunk).chain([&self.filling]);
        let chunks = chunks.map(Chunk::bytes).fold(0, usize::saturating_add);
        let rows = self.rows.capacity().saturating_mul(size_of::<Row>());
        chunks.saturating_add(rows).saturating_add(self.timeless.bytes())
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
        self.nth(self.before(position)).expect("the tables name entries")
    }

    /// The entry that so many stand before.
    #[inline]
    fn nth(&self, before: u32) -> Option<&Entry> {
        let at = self.forgotten.checked_add(before)?;
        let number = to_usize(at >> CHUNK_BITS);
        let last = (number == self.chunks.len()).then_some(&self.filling);
        let chunk = self.chunks.get(number).map(|full| &full.chunk).or(last)?;
        chunk.entries().get(to_usize(at & CHUNK.wrapping_sub(1)))
    }

    /// How many at the front of a chunk are forgotten.
    #[inline]
    fn forgotten_of(&self, chunk: usize) -> u32 {
        if chunk == 0 { self.forgotten } else { 0 }
    }

    /// The position of what stands at a place of a chunk, which is named by its place among the chunks.
    fn position(&self, chunk: usize, place: u32) -> u32 {
        let chunk = u32::try_from(chunk).expect("the window fits 32 bits");
        let before = chunk.wrapping_shl(CHUNK_BITS).wrapping_add(place);
        self.first.wrapping_sub(self.forgotten).wrapping_add(before)
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

impl Full {
    /// Takes a chunk that is full. `reach`: that of the chunk before it.
    fn new(chunk: Chunk, reach: CommandId) -> Self {
        let timed = chunk.entries().iter().map(Entry::id).filter(|&id| has_time(id));
        let (least, greatest) =
            timed.fold(NO_IDS, |(least, greatest), id| (least.min(id), greatest.max(id)));
        Self { chunk, ids: (least, greatest), reach: reach.max(greatest) }
    }
}

/// The least and the greatest of no ids.
const NO_IDS: (CommandId, CommandId) = (CommandId::new(u128::MAX), CommandId::new(0));

/// Tells whether an id begins with the time when it was made: a UUID of version 7 (RFC 9562).
#[inline]
fn has_time(id: CommandId) -> bool {
    id.get() >> 76_u32 & 0xf == 7
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands of a row.
    const ROW: u64 = 3;
    /// How far an id's time may be off the order of arrival.
    const LATE: u64 = 300;

    /// The id of a command: one in four has no time; the others have one that is now and then before that of commands which
    /// came earlier, and, for a while, far ahead.
    fn id(number: u64) -> CommandId {
        let (bits, random) = (u128::from(number), u128::from(units::mix(number, 1)));
        if number % 4 == 3 {
            return CommandId::new(random << 80 | 8 << 76 | bits);
        }
        let ahead = if (5_000..5_010).contains(&number) { 1 << 40 } else { 0 };
        let late = u128::from(units::mix(number, 2) % LATE);
        let millisecond = u128::from(LATE) + bits + ahead - late;
        CommandId::new(millisecond << 80 | 7 << 76 | bits)
    }

    fn known(number: u64) -> Known {
        let row = number / ROW;
        let (outcome, time) = (Sequence::new(row), Time::from_micros(row * ROW));
        Known { id: id(number), body_hash: number, outcome, time }
    }

    #[test]
    fn what_is_within_the_window_is_known_and_what_is_older_is_not() {
        let salt = Salt::new(7);
        let chunk = u64::from(CHUNK);
        // Windows that begin and end within a chunk, and at its ends.
        for length in [1, 100, chunk - 1, chunk, chunk + 1, 3 * chunk + 17] {
            let mut window = Window::new(salt);
            let mut oldest = 0;
            for now in 0..7 * chunk {
                if now % ROW == 0 {
                    window.forget(Time::from_micros(now), length);
                    oldest = now.saturating_sub(length).next_multiple_of(ROW);
                }
                assert_eq!(window.get(id(now)), None, "{now} of {length} is new");
                window.push(salt.hash(id(now)), known(now));
                if now % 977 == 0 {
                    // A copy's last chunk has no room of its own.
                    window = window.clone();
                }
                assert_eq!(window.len() as u64, now - oldest + 1);
                let within = now - oldest;
                let sample = units::mix(now, 3).checked_rem(within.max(1)).unwrap_or(0);
                for number in [oldest, oldest + within / 2, oldest + sample, now] {
                    let found = window.get(id(number));
                    assert_eq!(found, Some(known(number)), "{number} at {now} of {length}");
                }
                for before in [1, 2, 3, LATE].into_iter().filter_map(|by| oldest.checked_sub(by)) {
                    assert_eq!(window.get(id(before)), None, "{before} at {now} of {length}");
                }
                if now % 4_001 == 0 {
                    assert!(window.iter().eq((oldest..=now).map(known)));
                }
            }
            window.forget(Time::MAX, length);
            assert_eq!((window.len(), window.iter().next()), (0, None));
        }
    }

    #[test]
    fn what_comes_again_after_it_was_forgotten_is_known_again() {
        let salt = Salt::new(7);
        // An id with a time and one without, which are both in the chunk still when they come again.
        for again in [id(0), id(3)] {
            let mut window = Window::new(salt);
            for row in 1..6 {
                window.forget(Time::from_micros(row), 0);
                assert_eq!(window.get(again), None);
                let (outcome, time) = (Sequence::new(row), Time::from_micros(row));
                let known = Known { id: again, body_hash: row, outcome, time };
                window.push(salt.hash(again), known);
                assert_eq!(window.get(again), Some(known));
            }
        }
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_no_look_up_long_once_it_is_forgotten() {
        let salt = Salt::new(7);
        let mut window = Window::new(salt);
        let chunk = u64::from(CHUNK);
        for now in 0..6 * chunk {
            window.forget(Time::from_micros(now), 2 * chunk);
            window.push(salt.hash(id(now)), known(now));
        }
        let last = window.chunks.back().expect("several are full");
        assert!(last.reach < id(7 * chunk), "{:x}", last.reach.get());
    }
}
