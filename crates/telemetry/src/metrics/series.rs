//! One series: a plain value, or a histogram.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Kind;

/// Upper bounds of a duration's buckets, in microseconds: fine below a second, where the promises are.
pub(super) const MICROS: [u64; BOUNDS] = [
    100, 250, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000,
    50_000, 75_000, 100_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000,
];
/// Upper bounds of a number's buckets.
pub(super) const SIZES: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

pub(super) const BOUNDS: usize = 24;

/// One series.
pub(super) struct Series {
    pub(super) labels: Vec<String>,
    /// A counter's count, a sum's millionths, a gauge's bits; a histogram's sum of nanoseconds or of things.
    pub(super) value: AtomicU64,
    /// Whether it was ever touched: a gauge that nobody has set is not shown.
    pub(super) touched: AtomicBool,
    pub(super) buckets: Option<Box<[AtomicU64; BOUNDS + 1]>>,
}

impl Series {
    pub(super) fn new(kind: Kind, labels: Vec<String>) -> Self {
        let buckets = matches!(kind, Kind::Histogram | Kind::Sizes)
            .then(|| Box::new([const { AtomicU64::new(0) }; BOUNDS + 1]));
        Self { labels, value: AtomicU64::new(0), touched: AtomicBool::new(false), buckets }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.fall(MICROS.partition_point(|bound| *bound < micros), nanos);
    }

    pub(super) fn observe_size(&self, size: u64) {
        self.fall(SIZES.partition_point(|bound| *bound < size), size);
    }

    /// Falls into the bucket `place`.
    fn fall(&self, place: usize, value: u64) {
        if let Some(bucket) = self.buckets.as_ref().and_then(|buckets| buckets.get(place)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.add(value);
    }

    pub(super) fn add(&self, count: u64) {
        self.value.fetch_add(count, Relaxed);
        self.touch();
    }

    pub(super) fn set(&self, value: f64) {
        self.value.store(value.to_bits(), Relaxed);
        self.touch();
    }

    pub(super) fn set_total(&self, total: u64) {
        self.value.store(total, Relaxed);
        self.touch();
    }

    fn touch(&self) {
        self.touched.store(true, Relaxed);
    }

    pub(super) fn is_touched(&self) -> bool {
        self.touched.load(Relaxed)
    }
}
