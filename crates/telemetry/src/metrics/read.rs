//! The registry read from within: for the page that says how the exchange is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::series::{BOUNDS, MICROS, Series};
use super::{Kind, Metric, REGISTRY, family};

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

/// Returns the values of a gauge's or a counter's series that were ever touched, with their labels; none for a name that
/// no metric has.
#[must_use]
pub fn values(name: &str) -> Vec<(Vec<String>, f64)> {
    let Some(family) = REGISTRY.iter().find(|family| family.metric.name() == name) else {
        return Vec::new();
    };
    let value = |series: &Series| {
        let bits = series.value.load(Relaxed);
        let value = match family.metric.kind() {
            Kind::Gauge => f64::from_bits(bits),
            #[expect(
                clippy::cast_precision_loss,
                reason = "for comparing, and 2^53 is not reached"
            )]
            Kind::Counter => bits as f64,
            _ => return None,
        };
        series.is_touched().then(|| (series.labels.clone(), value))
    };
    let labelled = family.labelled.read();
    labelled.all().filter_map(|each| value(each)).chain(value(&family.plain)).collect()
}

/// What a histogram of durations has counted up to some moment, over some of its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets([u64; BOUNDS + 1]);

/// Reads a histogram of durations, over those of its series whose labels are as wanted.
#[must_use]
pub fn buckets(metric: Metric, wanted: impl Fn(&[String]) -> bool) -> Buckets {
    let family = family(metric);
    let mut all = Buckets::default();
    all.add(&family.plain);
    let labelled = family.labelled.read();
    labelled.all().filter(|series| wanted(&series.labels)).for_each(|series| all.add(series));
    all
}

impl Buckets {
    fn add(&mut self, series: &Series) {
        let buckets = series.buckets.iter().flat_map(|buckets| buckets.iter());
        for (sum, bucket) in self.0.iter_mut().zip(buckets) {
            *sum += bucket.load(Relaxed);
        }
    }

    /// Returns what was counted since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut left = *self;
        for (now, then) in left.0.iter_mut().zip(earlier.0) {
            *now = now.saturating_sub(then);
        }
        left
    }

    /// Returns how many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Estimates a quantile, in thousandths, as Prometheus does: within its bucket by proportion, and the last bound for
    /// what is above it. `None` where nothing was counted.
    #[must_use]
    pub fn quantile(&self, thousandths: u64) -> Option<Duration> {
        let all = u128::from(self.count());
        // In thousandths, so that nothing is rounded on the way.
        let rank = all * u128::from(thousandths);
        let mut below = 0_u128;
        for (place, bucket) in self.0.iter().enumerate() {
            let within = u128::from(*bucket) * 1_000;
            if within > 0 && below + within >= rank {
                let lower = place.checked_sub(1).and_then(|before| MICROS.get(before));
                let lower = lower.copied().unwrap_or(0);
                let upper = MICROS.get(place).copied().unwrap_or(lower);
                let part = u128::from(upper - lower) * rank.saturating_sub(below) / within;
                let micros = lower + u64::try_from(part).unwrap_or(0);
                return Some(Duration::from_micros(micros));
            }
            below += within;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{observe, set_labelled};

    #[test]
    fn quantiles_are_those_of_what_was_counted_since() {
        let any = |_: &[String]| true;
        observe(Metric::SnapshotDuration, Duration::from_secs(9));
        let before = buckets(Metric::SnapshotDuration, any);
        assert_eq!(before.since(&before).quantile(500), None);
        for _ in 0..98 {
            observe(Metric::SnapshotDuration, Duration::from_micros(900));
        }
        observe(Metric::SnapshotDuration, Duration::from_millis(40));
        observe(Metric::SnapshotDuration, Duration::from_secs(60));
        let since = buckets(Metric::SnapshotDuration, any).since(&before);
        assert_eq!(since.count(), 100);
        let micros = |thousandths| since.quantile(thousandths).map(|found| found.as_micros());
        // Half of the way through the 98 that are between 750 µs and 1 ms.
        assert_eq!(micros(490), Some(875));
        assert_eq!(micros(990), Some(50_000));
        assert_eq!(micros(1_000), Some(10_000_000), "no bound is above it");
    }

    #[test]
    fn a_gauge_that_nobody_has_set_has_no_value() {
        assert_eq!(value(Metric::Takeover), None);
        set_labelled(Metric::PoolConnections, &["read test"], 3.0);
        let all = value_labelled(Metric::PoolConnections);
        let wanted = Reading { labels: vec!["read test".to_owned()], value: 3.0 };
        assert!(all.contains(&wanted), "{all:?}");
    }
}
