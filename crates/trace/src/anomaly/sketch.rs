//! A histogram of durations whose counts may fade: 16 buckets to each doubling, as HdrHistogram has them.
//!
//! Invariant: a quantile is at most a sixteenth above a duration that was counted, and never below it.

use serde::{Deserialize, Serialize};

/// Buckets to each doubling, and below the first one a bucket for each microsecond.
const STEPS: u64 = 16;
/// Log2 of [`STEPS`].
const STEP_BITS: u32 = 4;
/// The longest duration that is told from longer ones: 2^26 microseconds, more than a minute.
const MICROS_MAX: u64 = (1 << 27) - 1;
/// A count that has faded to less is none.
const LEAST: f32 = 1e-4;

/// Counts of durations, by buckets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    counts: Vec<f32>,
}

fn place(micros: u64) -> usize {
    let micros = micros.min(MICROS_MAX);
    let place = if micros < STEPS {
        micros
    } else {
        let doubling = micros.ilog2() - STEP_BITS;
        STEPS + u64::from(doubling) * STEPS + ((micros >> doubling) & (STEPS - 1))
    };
    usize::try_from(place).unwrap_or(0)
}

/// The longest duration of a bucket.
fn upper(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(0);
    if place < STEPS {
        return place;
    }
    let (doubling, step) = ((place - STEPS) / STEPS, (place - STEPS) % STEPS);
    (((STEPS + step + 1) << doubling) - 1).min(MICROS_MAX)
}

impl Sketch {
    /// Counts a duration with a weight.
    pub fn add(&mut self, micros: u64, weight: f32) {
        let place = place(micros);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0.0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += weight;
        }
    }

    /// Adds another one's counts times `weight`; what is longer than `limit` counts as `limit`.
    pub fn merge(&mut self, other: &Self, weight: f32, limit: u64) {
        for (place, count) in other.counts.iter().enumerate() {
            if *count > 0.0 {
                self.add(upper(place).min(limit), count * weight);
            }
        }
    }

    /// Lets every count fade.
    pub fn fade(&mut self, factor: f32) {
        for count in &mut self.counts {
            *count *= factor;
            if *count < LEAST {
                *count = 0.0;
            }
        }
    }

    /// Returns the sum of the counts.
    #[must_use]
    pub fn total(&self) -> f32 {
        self.counts.iter().sum()
    }

    /// Returns the duration that this share of what was counted does not exceed, in microseconds; 0 where nothing was.
    #[must_use]
    pub fn quantile(&self, share: f32) -> u64 {
        let wanted = self.total() * share;
        let mut below = 0.0;
        let mut last = 0;
        for (place, count) in self.counts.iter().enumerate() {
            if *count <= 0.0 {
                continue;
            }
            below += count;
            last = upper(place);
            if below >= wanted {
                break;
            }
        }
        last
    }

    /// Returns how many exceed a duration; those in its own bucket do not.
    #[must_use]
    pub fn above(&self, micros: u64) -> f32 {
        self.counts.iter().skip(place(micros) + 1).sum()
    }

    /// Tells whether it may be used: read from a row, it may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.counts.len() <= place(MICROS_MAX) + 1
            && self.counts.iter().all(|count| count.is_finite() && *count >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        for at in 1..=place(MICROS_MAX) {
            assert_eq!(place(upper(at - 1) + 1), at, "what follows {}", upper(at - 1));
            assert_eq!(place(upper(at)), at);
        }
    }

    proptest! {
        /// Against a sorted list: never below the exact quantile, at most a sixteenth above.
        #[test]
        fn prop_a_quantile_is_at_most_a_sixteenth_too_long(
            mut all in prop::collection::vec(0_u64..60_000_000, 1..200),
            percent in 1_u16..=100,
        ) {
            let mut sketch = Sketch::default();
            all.iter().for_each(|micros| sketch.add(*micros, 1.0));
            all.sort_unstable();
            let rank = (all.len() * usize::from(percent)).div_ceil(100).max(1);
            let exact = all[rank - 1];
            let found = sketch.quantile(f32::from(percent) / 100.0);
            // The share is rounded in binary: one place to either side is right too.
            let low = all[rank.saturating_sub(2)];
            let high = all[rank.min(all.len() - 1)];
            prop_assert!(found >= low && found <= high + high / 16 + 1, "{found} for {exact}");
        }

        #[test]
        fn prop_what_is_longer_than_the_limit_counts_as_the_limit(
            all in prop::collection::vec(0_u64..60_000_000, 1..100),
            limit in 1_u64..1_000_000,
        ) {
            let (mut of, mut into) = (Sketch::default(), Sketch::default());
            all.iter().for_each(|micros| of.add(*micros, 1.0));
            into.merge(&of, 1.0, limit);
            prop_assert!(into.quantile(1.0) <= limit + limit / 16 + 1);
            prop_assert!((into.total() - of.total()).abs() < 0.01, "none is lost");
        }
    }
}
