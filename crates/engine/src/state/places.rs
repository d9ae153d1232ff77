//! Where each remembered command stands in the window's queue.

use super::order::to_usize;

/// A table with open addressing by buckets. Most branches of a look-up go the same way every time: it reads one cache line
/// as a rule, compares all the hashes in it at once, and nothing of what the positions name unless a hash is equal.
///
/// The upper bits of the hash are its home, so that growing reads and writes from one end to the other. An entry that finds
/// its home full goes to the next bucket that is not.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    buckets: Vec<Bucket>,
    /// What the hash is shifted by to give its home.
    shift: u32,
    length: usize,
}

/// Entries of a bucket.
const WAYS: usize = 8;

/// One cache line: hashes and, beside each, its position. Filled from the front; a hash of 0: vacant.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    hashes: [u32; WAYS],
    positions: [u32; WAYS],
}

/// Buckets of an empty table, as a power of two.
const BITS_MIN: u32 = 3;

impl Default for Places {
    fn default() -> Self {
        Self::with_bits(BITS_MIN)
    }
}

impl Places {
    fn with_bits(bits: u32) -> Self {
        let shift = u32::BITS.checked_sub(bits).expect("the window fits 32 bits");
        let buckets = 1_usize.checked_shl(bits).expect("this runs on machines of 32 bits or more");
        Self { buckets: vec![Bucket::default(); buckets], shift, length: 0 }
    }

    /// Finds the position with this hash that is the `same`.
    #[inline]
    pub(crate) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = never_zero(hash);
        let mut at = self.home(hash);
        loop {
            let bucket = self.bucket(at);
            if bucket.has(hash)
                && let Some(found) = bucket.positions_of(hash).find(|&position| same(position))
            {
                return Some(found);
            }
            if !bucket.is_full() {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Tells whether the home of a hash has an entry.
    #[inline]
    pub(crate) fn touch(&self, hash: u32) -> bool {
        let [first, ..] = self.bucket(self.home(hash)).hashes;
        first != 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, position: u32) {
        // At five of eight, one bucket in eight is full; half of the time it is one in a hundred.
        if self.length >= self.buckets.len().saturating_mul(5) {
            self.grow();
        }
        self.length = self.length.saturating_add(1);
        self.place(never_zero(hash), position);
    }

    /// Removes what was inserted. What was pushed on by it moves back, so that no marks of removed ones pile up.
    pub(crate) fn remove(&mut self, hash: u32, position: u32) {
        let hash = never_zero(hash);
        let mut hole = self.home(hash);
        let mut is_full = self.bucket(hole).is_full();
        while !self.bucket_mut(hole).remove(hash, position) {
            assert!(is_full, "the table names every entry");
            hole = self.next(hole);
            is_full = self.bucket(hole).is_full();
        }
        // Only behind a full bucket is there anything that was pushed on.
        let mut at = hole;
        while is_full {
            at = self.next(at);
            is_full = self.bucket(at).is_full();
            let way = self.distance(hole, at);
            let pushed = |hash| self.distance(self.home(hash), at) >= way;
            let moved = self.bucket(at).entries().find(|entry| pushed(entry.0));
            if let Some((hash, position)) = moved {
                self.bucket_mut(at).remove(hash, position);
                self.bucket_mut(hole).push(hash, position);
                hole = at;
            }
        }
        self.length = self.length.checked_sub(1).expect("the table counts its entries");
    }

    /// The bytes that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.capacity().saturating_mul(size_of::<Bucket>())
    }

    /// Makes the table twice as long. What is at its home comes to one of two neighbours, which are filled and written together.
    #[cold]
    fn grow(&mut self) {
        let shift = self.shift.checked_sub(1).expect("the window fits 32 bits");
        let mut grown = Self {
            buckets: Vec::with_capacity(self.buckets.len().saturating_mul(2)),
            shift,
            length: self.length,
        };
        let mut pushed = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            let mut halves = [Bucket::default(); 2];
            let mut ends = [0_usize; 2];
            for (hash, position) in bucket.entries() {
                if self.home(hash) != at {
                    pushed.push((hash, position));
                    continue;
                }
                let half = grown.home(hash) & 1;
                if let (Some(end), Some(bucket)) = (ends.get_mut(half), halves.get_mut(half)) {
                    bucket.set(*end, hash, position);
                    *end = end.wrapping_add(1);
                }
            }
            grown.buckets.extend(halves);
        }
        for (hash, position) in pushed {
            grown.place(hash, position);
        }
        *self = grown;
    }

    #[inline]
    fn place(&mut self, hash: u32, position: u32) {
        let mut at = self.home(hash);
        while !self.bucket_mut(at).push(hash, position) {
            at = self.next(at);
        }
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        to_usize(hash.wrapping_shr(self.shift))
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    #[inline]
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        self.buckets.get(at).expect("buckets are counted modulo their number")
    }

    #[inline]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        self.buckets.get_mut(at).expect("buckets are counted modulo their number")
    }
}

impl Bucket {
    /// Tells whether a hash is among those here, without a branch for each.
    #[inline]
    fn has(&self, hash: u32) -> bool {
        self.hashes.iter().fold(false, |found, &other| found | (other == hash))
    }

    #[inline]
    fn is_full(&self) -> bool {
        let [.., last] = self.hashes;
        last != 0
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let entries = self.hashes.iter().copied().zip(self.positions);
        entries.take_while(|&(hash, _)| hash != 0)
    }

    #[cold]
    fn positions_of(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        self.entries().filter(move |entry| entry.0 == hash).map(|entry| entry.1)
    }

    /// Puts an entry behind the last one, and tells whether there was room. Without a branch for each either.
    #[inline]
    fn push(&mut self, hash: u32, position: u32) -> bool {
        let taken = self.hashes.iter().map(|&hash| u32::from(hash != 0));
        self.set(to_usize(taken.fold(0, u32::wrapping_add)), hash, position)
    }

    /// Puts an entry at a place, and tells whether there is such a place.
    #[inline]
    fn set(&mut self, at: usize, hash: u32, position: u32) -> bool {
        let room = self.hashes.get_mut(at).zip(self.positions.get_mut(at));
        room.map(|place| (*place.0, *place.1) = (hash, position)).is_some()
    }

    /// Takes an entry out, into whose place the last one comes, and tells whether it was here.
    fn remove(&mut self, hash: u32, position: u32) -> bool {
        let Some(at) = self.entries().position(|entry| entry == (hash, position)) else {
            return false;
        };
        let last = self.entries().count().saturating_sub(1);
        self.hashes.swap(at, last);
        self.positions.swap(at, last);
        if let Some(vacant) = self.hashes.get_mut(last) {
            *vacant = 0;
        }
        true
    }
}

/// A vacant entry has the hash 0.
#[inline]
fn never_zero(hash: u32) -> u32 {
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_and_goes_is_found_until_it_goes() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut places = Places::default();
        let mut list: Vec<(u32, u32)> = Vec::new();
        for position in 0..20_000_u32 {
            // Few different hashes, at both ends of the table, so that runs are long and wrap around.
            let hash = ((random() % 90) as u32).wrapping_sub(45) << 22;
            places.insert(hash, position);
            list.push((hash, position));
            if list.len() > 300 {
                let (hash, position) = list.swap_remove(random() as usize % list.len());
                places.remove(hash, position);
                assert_eq!(places.find(hash, |other| other == position), None);
            }
            let (hash, position) = list[random() as usize % list.len()];
            assert_eq!(places.find(hash, |other| other == position), Some(position));
        }
        for (hash, position) in list {
            places.remove(hash, position);
        }
        let left = places.buckets.iter().flat_map(Bucket::entries);
        assert_eq!(left.count(), 0, "nothing is left behind");
    }
}
