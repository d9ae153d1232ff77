//! Random numbers from a seed. Everything that happens by chance in a run comes from one of these.

use units::mix;

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Returns the next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.drawn, self.seed)
    }

    /// Returns a number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Returns a place in a list of this length.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        let end = u64::try_from(length).expect("lists are short");
        usize::try_from(self.below(end)).expect("it is below a length")
    }

    /// Returns true this many times out of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// Returns 128 bits.
    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}
