//! The registry read from within: for the page that says how the exchange is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::series::{BOUNDS, MICROS, Series};
use super::{Metric, family};

/// A labelled metric's series, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The values of its labels.
    pub labels: Vec<String>,
    /// A gauge's value.
    pub value: f64,
}

/// Returns a gauge without labels; `None` where nobody has set it.
#[must_use]
pub fn value(metric: Metric) -> Option<f64> {
    let series = &family(metric).plain;
    series.is_touched().then(|| f64::from_bits(series.value.load(Relaxed)))
}

/// Returns a counter without labels.
#[must_use]
pub fn count(metric: Metric) -> u64 {
    family(metric).plain.value.load(Relaxed)
}

/// Returns a gauge's series, by their labels.
#[must_use]
pub fn value_labelled(metric: Metric) -> Vec<Reading> {
    let read = |series: &Series| Reading {
        labels: series.labels.clone(),
        value: f64::from_bits(series.value.load(Relaxed)),
    };
    let labelled = family(metric).labelled.read();
    let mut all: Vec<_> = labelled.all().map(|series| read(series)).collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// Returns the sum of those of a counter's series whose labels are as wanted.
#[must_use]
pub fn total(metric: Metric, wanted: impl Fn(&[String]) -> bool) -> u64 {
    let labelled = family(metric).labelled.read();
    let wanted = labelled.all().filter(|series| wanted(&series.labels));
    wanted.map(|series| series.value.load(Relaxed)).sum()
}

/// Estimates a quantile, in thousandths, of a histogram of durations since the process began, over those of its series
/// whose labels are as wanted: the upper bound of the bucket it falls into. `None` where nothing was observed.
#[must_use]
pub fn quantile(
    metric: Metric,
    thousandths: u64,
    wanted: impl Fn(&[String]) -> bool,
) -> Option<Duration> {
    let family = family(metric);
    let mut sums = [0_u64; BOUNDS + 1];
    let mut take = |series: &Series| {
        for (sum, bucket) in sums.iter_mut().zip(series.buckets.iter().flat_map(|all| all.iter())) {
            *sum += bucket.load(Relaxed);
        }
    };
    take(&family.plain);
    let labelled = family.labelled.read();
    labelled.all().filter(|series| wanted(&series.labels)).for_each(|series| take(series));
    let all: u64 = sums.iter().sum();
    let rank = all.saturating_mul(thousandths).div_ceil(1_000).max(1);
    let mut below = 0;
    let place = sums.iter().position(|sum| {
        below += sum;
        below >= rank
    })?;
    // Above the last bound, the last bound is all that is known.
    Some(Duration::from_micros(*MICROS.get(place).or(MICROS.last())?))
}
