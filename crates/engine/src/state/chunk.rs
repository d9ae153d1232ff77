//! A piece of the window's queue: remembered commands one after the other, and where each of them stands.

use units::CommandId;

use super::ids::IdHash;
use super::order::to_usize;

/// Entries of a chunk, as a power of two: 96 KiB, and 32 KiB for its table.
pub(super) const CHUNK_BITS: u32 = 12;
pub(super) const CHUNK: u32 = 1 << CHUNK_BITS;

/// Buckets of a chunk's table, as a power of two: a full chunk fills half of it, and one bucket in sixty as a whole.
const BUCKET_BITS: u32 = 9;
/// Entries of a bucket.
const WAYS: usize = 15;

/// What the queue keeps of one command. The id is in halves, so that an entry takes 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    id: [u64; 2],
    pub(super) body_hash: u64,
}

impl Entry {
    #[inline]
    pub(super) fn new(id: CommandId, body_hash: u64) -> Self {
        let halves = |value: u128| {
            let low = u64::try_from(value & u128::from(u64::MAX)).expect("masked to 64 bits");
            let high = u64::try_from(value >> 64_u32).expect("shifted to 64 bits");
            [low, high]
        };
        Self { id: halves(id.get()), body_hash }
    }

    #[inline]
    pub(super) fn id(&self) -> CommandId {
        let [low, high] = self.id;
        CommandId::new(u128::from(high) << 64_u32 | u128::from(low))
    }
}

/// A chunk. Its table has open addressing by buckets: a look-up reads one cache line as a rule, compares all the tags in it at
/// once, and nothing of the entries unless a tag is equal. Nothing is ever taken out of it.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    entries: Vec<Entry>,
    table: Box<[Bucket]>,
}

/// One cache line: tags, parts of hashes that are never 0, and beside each the place of its entry. Filled from the front.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    tags: [u16; WAYS],
    count: u16,
    places: [u16; WAYS],
}

impl Default for Chunk {
    fn default() -> Self {
        Self { entries: Vec::new(), table: Self::empty_table() }
    }
}

impl Chunk {
    /// Returns an empty chunk with room for all its entries.
    pub(super) fn with_room() -> Self {
        Self { entries: Vec::with_capacity(to_usize(CHUNK)), table: Self::empty_table() }
    }

    fn empty_table() -> Box<[Bucket]> {
        let buckets = 1_usize.checked_shl(BUCKET_BITS).expect("a table fits the memory");
        vec![Bucket::default(); buckets].into()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= to_usize(CHUNK)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Makes the entry that is pushed next findable.
    #[inline]
    pub(super) fn index_next(&mut self, hash: IdHash) {
        let place = u16::try_from(self.entries.len()).expect("a chunk's places fit 16 bits");
        let (mut at, tag) = home(hash);
        while !self.bucket_mut(at).push(tag, place) {
            at = next(at);
        }
    }

    /// Finds the place of an entry that was made findable, among those behind the first `forgotten`.
    #[inline]
    pub(super) fn find(&self, hash: IdHash, id: CommandId, forgotten: u32) -> Option<u32> {
        let (mut at, tag) = home(hash);
        loop {
            let bucket = self.bucket(at);
            if bucket.has(tag)
                && let Some(place) = self.find_in(bucket, tag, id, forgotten)
            {
                return Some(place);
            }
            if !bucket.is_full() {
                return None;
            }
            at = next(at);
        }
    }

    /// Hardly ever asked in vain, as the tags would have to be equal.
    #[cold]
    fn find_in(&self, bucket: &Bucket, tag: u16, id: CommandId, forgotten: u32) -> Option<u32> {
        let same = bucket.tags.iter().zip(bucket.places).filter(|(other, _)| **other == tag);
        let mut places = same.map(|(_, place)| u32::from(place)).filter(|&at| at >= forgotten);
        places.find(|&place| self.entries.get(to_usize(place)).is_some_and(|e| e.id() == id))
    }

    /// The bytes that the chunk takes.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.capacity().saturating_mul(size_of::<Entry>());
        entries.saturating_add(size_of_val(&*self.table))
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        self.table.get(at).expect("buckets are counted modulo their number")
    }

    #[inline]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        self.table.get_mut(at).expect("buckets are counted modulo their number")
    }
}

impl Bucket {
    /// Tells whether a tag is among those here, without a branch for each.
    #[inline]
    fn has(&self, tag: u16) -> bool {
        self.tags.iter().fold(false, |found, &other| found | (other == tag))
    }

    #[inline]
    fn is_full(&self) -> bool {
        usize::from(self.count) == WAYS
    }

    /// Puts an entry behind the last one, and tells whether there was room.
    #[inline]
    fn push(&mut self, tag: u16, place: u16) -> bool {
        let at = usize::from(self.count);
        let (Some(tag_here), Some(place_here)) = (self.tags.get_mut(at), self.places.get_mut(at))
        else {
            return false;
        };
        (*tag_here, *place_here) = (tag, place);
        self.count = self.count.wrapping_add(1);
        true
    }
}

/// The bucket where a hash is looked for first, and its tag.
#[inline]
fn home(hash: IdHash) -> (usize, u16) {
    let hash = hash.upper();
    let tag = u16::try_from(hash & u32::from(u16::MAX)).expect("masked to 16 bits");
    (to_usize(hash >> (u32::BITS.wrapping_sub(BUCKET_BITS))), tag | 1)
}

#[inline]
fn next(at: usize) -> usize {
    at.wrapping_add(1) & 1_usize.wrapping_shl(BUCKET_BITS).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::super::ids::Salt;
    use super::*;

    #[test]
    fn an_entry_takes_24_bytes_and_a_bucket_a_cache_line() {
        assert_eq!((size_of::<Entry>(), size_of::<Bucket>()), (24, 64));
    }

    #[test]
    fn whatever_was_made_findable_is_found_in_a_full_chunk() {
        let salt = Salt::new(7);
        let id = |number: u32| CommandId::new(u128::from(number) << 64_u32);
        let mut chunk = Chunk::default();
        for number in 0..CHUNK {
            assert!(!chunk.is_full());
            if number % 5 > 0 {
                chunk.index_next(salt.hash(id(number)));
            }
            chunk.push(Entry::new(id(number), 0));
        }
        assert!(chunk.is_full());
        for number in 0..2 * CHUNK {
            let found = chunk.find(salt.hash(id(number)), id(number), 0);
            let there = (number < CHUNK && number % 5 > 0).then_some(number);
            assert_eq!(found, there, "{number}");
        }
    }

    #[test]
    fn a_bucket_that_is_full_goes_on_in_the_next() {
        // All with one hash: nothing tells them apart but their ids.
        let hash = Salt::new(7).hash(CommandId::new(1));
        let mut chunk = Chunk::default();
        for number in 0..100_u32 {
            chunk.index_next(hash);
            chunk.push(Entry::new(CommandId::new(number.into()), 0));
        }
        for number in 0..200_u32 {
            let found = chunk.find(hash, CommandId::new(number.into()), 7);
            assert_eq!(found, (7..100).contains(&number).then_some(number));
        }
    }
}
