//! Signatures that were seen a moment ago: a request is carried out once.
//!
//! Invariant: memory is bounded. A signature is remembered until its timestamp cannot be within the window any more; where
//! too many are remembered, a new one is refused rather than an old one forgotten.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const SHARDS: usize = 16;
/// Signatures that one shard remembers: about 26,000 requests a second in all, with a window of 5 seconds.
const SEEN_MAX: usize = 16_384;

/// What is known of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is new, and remembered from now on.
    First,
    /// It was seen before.
    Again,
    /// Too many are remembered.
    Full,
}

#[derive(Default)]
struct Shard {
    known: HashSet<u128>,
    /// By rising end, because all are remembered for the same time.
    ends: VecDeque<(Instant, u128)>,
}

/// The signatures of the last moments.
pub(super) struct Replays {
    remembered: Duration,
    shards: [Mutex<Shard>; SHARDS],
}

impl Replays {
    /// Remembers signatures whose timestamp may be off by `window` either way.
    pub(super) fn new(window: Duration) -> Self {
        let remembered = window * 2 + Duration::from_secs(1);
        Self { remembered, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Takes a signature that is right.
    pub(super) fn take(&self, signature: &[u8; 32]) -> Seen {
        self.take_at(signature, Instant::now())
    }

    fn take_at(&self, signature: &[u8; 32], now: Instant) -> Seen {
        // Half of it is enough to tell signatures apart: making two that share it would take as many tries as a key has
        // values.
        let mut half = [0; 16];
        half.copy_from_slice(&signature[..16]);
        let mut shard = self.shards[usize::from(signature[31]) % SHARDS].lock();
        while let Some((end, old)) = shard.ends.front().copied() {
            if end > now {
                break;
            }
            shard.ends.pop_front();
            shard.known.remove(&old);
        }
        let half = u128::from_be_bytes(half);
        if shard.known.contains(&half) {
            return Seen::Again;
        }
        if shard.known.len() >= SEEN_MAX {
            return Seen::Full;
        }
        shard.known.insert(half);
        shard.ends.push_back((now + self.remembered, half));
        Seen::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u32) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    #[test]
    fn a_signature_is_taken_once_for_as_long_as_it_could_be_right() {
        let replays = Replays::new(Duration::from_secs(5));
        let now = Instant::now();
        assert_eq!(replays.take_at(&signature(1), now), Seen::First);
        assert_eq!(replays.take_at(&signature(1), now), Seen::Again);
        assert_eq!(replays.take_at(&signature(2), now), Seen::First);
        let later = now + Duration::from_secs(10);
        assert_eq!(replays.take_at(&signature(1), later), Seen::Again);
        assert_eq!(replays.take_at(&signature(1), now + Duration::from_secs(11)), Seen::First);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_forgotten_for_it() {
        let replays = Replays::new(Duration::from_secs(5));
        let now = Instant::now();
        let count = u32::try_from(SEEN_MAX).unwrap();
        assert!((0..count).all(|number| replays.take_at(&signature(number), now) == Seen::First));
        assert_eq!(replays.take_at(&signature(count), now), Seen::Full);
        assert_eq!(replays.take_at(&signature(0), now), Seen::Again);
        let later = now + Duration::from_secs(11);
        assert_eq!(replays.take_at(&signature(count), later), Seen::First);
        assert_eq!(replays.shards[0].lock().known.len(), 1);
    }
}
