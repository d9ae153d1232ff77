//! Where each remembered command stands in the window's queue.

use super::order::to_usize;

/// A table with open addressing and linear probing. A slot is one word: 32 bits of a hash above a position, 0: vacant.
///
/// A look-up reads one cache line as a rule, and nothing of what the positions name unless the hashes are equal. The
/// upper bits of the hash are a word's first slot, so that growing reads and writes from one end to the other.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    slots: Vec<u64>,
    /// What the hash is shifted by to give its first slot.
    shift: u32,
    length: usize,
}

/// Slots of an empty table, as a power of two.
const BITS_MIN: u32 = 6;

impl Default for Places {
    fn default() -> Self {
        Self::with_bits(BITS_MIN)
    }
}

impl Places {
    fn with_bits(bits: u32) -> Self {
        let shift = u32::BITS.checked_sub(bits).expect("the window fits 32 bits");
        let slots = 1_usize.checked_shl(bits).expect("this runs on machines of 32 bits or more");
        Self { slots: vec![0; slots], shift, length: 0 }
    }

    /// Finds the position with this hash that is the `same`.
    #[inline]
    pub(crate) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let word = self.word(at);
            if word == 0 {
                return None;
            }
            let (other, position) = parts(word);
            if other == hash | 1 && same(position) {
                return Some(position);
            }
            at = self.next(at);
        }
    }

    /// Tells whether the first slot of a hash is taken.
    #[inline]
    pub(crate) fn touch(&self, hash: u32) -> bool {
        self.word(self.home(hash)) != 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, position: u32) {
        // At five eighths an unsuccessful look-up reads four words (Knuth 6.4, linear probing).
        if self.length.saturating_mul(8) >= self.slots.len().saturating_mul(5) {
            self.grow();
        }
        self.length = self.length.saturating_add(1);
        self.place(word_of(hash, position));
    }

    /// Removes what was inserted. What was pushed on by it moves back, so that no marks of removed ones pile up.
    pub(crate) fn remove(&mut self, hash: u32, position: u32) {
        let word = word_of(hash, position);
        let mut hole = self.home(hash);
        while self.word(hole) != word {
            assert!(self.word(hole) != 0, "the table names every entry");
            hole = self.next(hole);
        }
        let mut at = self.next(hole);
        while self.word(at) != 0 {
            let moved = self.word(at);
            let way = self.distance(self.home(parts(moved).0), at);
            if way >= self.distance(hole, at) {
                *self.word_mut(hole) = moved;
                hole = at;
            }
            at = self.next(at);
        }
        *self.word_mut(hole) = 0;
        self.length = self.length.checked_sub(1).expect("the table counts its words");
    }

    /// The bytes that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity().saturating_mul(size_of::<u64>())
    }

    #[cold]
    fn grow(&mut self) {
        let bits = u32::BITS.saturating_sub(self.shift).saturating_add(1);
        let mut grown = Self { length: self.length, ..Self::with_bits(bits) };
        for &word in self.slots.iter().filter(|&&word| word != 0) {
            grown.place(word);
        }
        *self = grown;
    }

    #[inline]
    fn place(&mut self, word: u64) {
        let mut at = self.home(parts(word).0);
        while self.word(at) != 0 {
            at = self.next(at);
        }
        *self.word_mut(at) = word;
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
        self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        *self.slots.get(at).expect("slots are counted modulo their number")
    }

    #[inline]
    fn word_mut(&mut self, at: usize) -> &mut u64 {
        self.slots.get_mut(at).expect("slots are counted modulo their number")
    }
}

/// No hash is zero in a word, or a word could be.
#[inline]
fn word_of(hash: u32, position: u32) -> u64 {
    u64::from(hash | 1) << 32_u32 | u64::from(position)
}

/// A word's hash and position.
#[inline]
fn parts(word: u64) -> (u32, u32) {
    let low = u32::try_from(word & u64::from(u32::MAX)).expect("masked to 32 bits");
    let high = u32::try_from(word >> 32_u32).expect("shifted to 32 bits");
    (high, low)
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
        assert!(places.slots.iter().all(|&word| word == 0), "nothing is left behind");
    }
}
