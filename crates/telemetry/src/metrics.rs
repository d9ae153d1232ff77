//! The registry of metrics.
//!
//! Counting costs one relaxed atomic addition for a metric without labels or with a [`Handle`], and one look-up more,
//! without an allocation, for one whose labels are named each time. Nothing is buffered, so memory does not depend on
//! whether anybody scrapes.

mod name;
mod read;
mod render;
mod series;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::RwLock;

pub use name::{Kind, Metric};
pub use read::{Buckets, Reading, buckets, count, total, value, value_labelled, values};
pub use render::render;
use series::Series;

/// Series that one labelled metric may have; what would exceed it is counted with every label `other`.
const SERIES_MAX: usize = 1_000;

/// A metric with all its series.
struct Family {
    metric: Metric,
    plain: Series,
    labelled: RwLock<Labelled>,
}

/// The series of a metric with labels, by the hash of their labels, so that none need be joined to look one up.
#[derive(Default)]
struct Labelled {
    by_hash: HashMap<u64, Vec<Arc<Series>>>,
    count: usize,
}

impl Labelled {
    fn find(&self, hash: u64, labels: &[&str]) -> Option<&Arc<Series>> {
        self.by_hash.get(&hash)?.iter().find(|series| series.labels == *labels)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.by_hash.values().flatten()
    }
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

static REGISTRY: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let family = |metric: &Metric| Family {
        metric: *metric,
        plain: Series::new(metric.kind(), Vec::new()),
        labelled: RwLock::default(),
    };
    Metric::ALL.iter().map(family).collect()
});

fn family(metric: Metric) -> &'static Family {
    REGISTRY.get(metric as usize).expect("the registry has every metric at its own place")
}

/// One series of a metric with labels, looked up once: for what is counted often.
#[derive(Clone)]
pub struct Handle(Arc<Series>);

impl Handle {
    /// Finds or makes the series with these label values, which must come from a bounded set.
    #[must_use]
    pub fn new(metric: Metric, labels: &[&str]) -> Self {
        Self(series(metric, labels))
    }

    /// Counts `count` more.
    pub fn add(&self, count: u64) {
        self.0.add(count);
    }

    /// Sets a gauge.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Records a duration.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration);
    }
}

/// Counts `count` more of a metric without labels; of a [`Kind::Sum`], that many millionths.
pub fn add(metric: Metric, count: u64) {
    family(metric).plain.add(count);
}

/// Sets a gauge without labels.
pub fn set(metric: Metric, value: f64) {
    family(metric).plain.set(value);
}

/// Sets a gauge without labels to a whole number.
pub fn set_count(metric: Metric, value: impl TryInto<u64>) {
    set(metric, number(value));
}

/// Sets what a counter without labels has come to, where somebody else counts; of a [`Kind::Sum`], in millionths.
pub fn set_total(metric: Metric, total: u64) {
    family(metric).plain.set_total(total);
}

/// Records a duration in a histogram without labels.
pub fn observe(metric: Metric, duration: Duration) {
    family(metric).plain.observe(duration);
}

/// Records a number of things in a histogram without labels.
pub fn observe_size(metric: Metric, size: impl TryInto<u64>) {
    family(metric).plain.observe_size(size.try_into().unwrap_or(u64::MAX));
}

/// Counts `count` more of a metric with these label values, which must come from a bounded set.
pub fn add_labelled(metric: Metric, labels: &[&str], count: u64) {
    with_series(metric, labels, |series| series.add(count));
}

/// Sets a gauge with these label values.
pub fn set_labelled(metric: Metric, labels: &[&str], value: f64) {
    with_series(metric, labels, |series| series.set(value));
}

/// Sets a gauge with these label values to a whole number.
pub fn set_count_labelled(metric: Metric, labels: &[&str], value: impl TryInto<u64>) {
    set_labelled(metric, labels, number(value));
}

/// Records a duration in a histogram with these label values.
pub fn observe_labelled(metric: Metric, labels: &[&str], duration: Duration) {
    with_series(metric, labels, |series| series.observe(duration));
}

/// A whole number as a gauge has it. What does not fit is far from anything real.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and 2^53 is not reached")]
fn number(value: impl TryInto<u64>) -> f64 {
    value.try_into().unwrap_or(u64::MAX) as f64
}

/// Counts one answered HTTP request and its duration. `route` is the route's pattern, never the path that was asked
/// for; `method` is one of HTTP's own, anything else is counted as `other`.
pub fn http_request(method: &str, route: &str, status: u16, duration: Duration) {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let method = METHODS.iter().copied().find(|known| *known == method).unwrap_or("other");
    let mut digits = [0_u8; 3];
    let status = status.clamp(100, 999);
    for (place, digit) in [status / 100, status / 10 % 10, status % 10].into_iter().enumerate() {
        digits[place] = b'0' + u8::try_from(digit).unwrap_or(0);
    }
    let status = std::str::from_utf8(&digits).unwrap_or("000");
    add_labelled(Metric::HttpRequests, &[method, route, status], 1);
    observe_labelled(Metric::HttpRequestDuration, &[method, route], duration);
}

/// Does something to the series of these label values, which is made if there is none.
fn with_series(metric: Metric, labels: &[&str], act: impl FnOnce(&Series)) {
    let hash = HASHER.hash_one(labels);
    if let Some(series) = family(metric).labelled.read().find(hash, labels) {
        return act(series);
    }
    act(&series(metric, labels));
}

/// Finds or makes the series of these label values.
fn series(metric: Metric, labels: &[&str]) -> Arc<Series> {
    assert_eq!(labels.len(), metric.labels().len(), "a metric gets a value for each of its labels");
    let mut all = family(metric).labelled.write();
    let other = vec!["other"; labels.len()];
    let known = all.find(HASHER.hash_one(labels), labels).is_some();
    let labels = if known || all.count < SERIES_MAX { labels } else { &other };
    let hash = HASHER.hash_one(labels);
    if let Some(series) = all.find(hash, labels) {
        return Arc::clone(series);
    }
    let values = labels.iter().map(|value| (*value).to_owned()).collect();
    let series = Arc::new(Series::new(metric.kind(), values));
    all.by_hash.entry(hash).or_default().push(Arc::clone(&series));
    all.count += 1;
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_method_route_and_status() {
        http_request("GET", "/test-route/{id}", 404, Duration::from_micros(600));
        http_request("BREW", "/test-route/{id}", 404, Duration::from_micros(600));
        let text = render();
        assert!(text.contains(
            "http_requests_total{method=\"GET\",route=\"/test-route/{id}\",status=\"404\"} 1\n"
        ));
        assert!(text.contains(
            "http_requests_total{method=\"other\",route=\"/test-route/{id}\",status=\"404\"} 1\n"
        ));
        let bucket =
            "http_request_duration_seconds_bucket{method=\"GET\",route=\"/test-route/{id}\",le=";
        assert!(text.contains(&format!("{bucket}\"0.0005\"}} 0\n")), "{text}");
        assert!(text.contains(&format!("{bucket}\"0.00075\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("{bucket}\"+Inf\"}} 1\n")), "{text}");
    }

    #[test]
    fn values_are_read_by_the_metrics_name() {
        set_labelled(Metric::ProjectionLag, &["test"], 2.5);
        let lag = values("kx_projection_lag_seconds");
        assert!(lag.contains(&(vec!["test".to_owned()], 2.5)), "{lag:?}");
        add(Metric::CommandsPanicked, 3);
        assert!(values("kx_commands_panicked_total").iter().any(|(_, count)| *count >= 3.0));
        assert!(values("kx_append").is_empty() && values("kx_stage_duration_seconds").is_empty());
    }

    #[test]
    fn the_series_of_a_metric_are_bounded() {
        for number in 0..SERIES_MAX + 50 {
            add_labelled(Metric::CommandsRejected, &[&format!("code-{number}")], 1);
        }
        let count = family(Metric::CommandsRejected).labelled.read().all().count();
        assert!(count <= SERIES_MAX + 1, "{count} series");
        assert!(render().contains("kx_commands_rejected_total{code=\"other\"} "));
    }

    #[test]
    fn every_metric_has_its_own_name_and_place() {
        for (place, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, place, "{}", metric.name());
            let same = Metric::ALL.iter().filter(|other| other.name() == metric.name()).count();
            assert_eq!(same, 1, "{} is named once", metric.name());
            let total = metric.name().ends_with("_total");
            assert_eq!(
                total,
                metric.kind().name() == "counter",
                "{}: counters end with _total",
                metric.name()
            );
        }
    }

    #[test]
    fn a_handle_counts_in_the_series_that_its_labels_name() {
        let handle = Handle::new(Metric::DeadLetters, &["by a handle"]);
        handle.add(2);
        add_labelled(Metric::DeadLetters, &["by a handle"], 3);
        assert!(render().contains("kx_dead_letters_total{reason=\"by a handle\"} 5\n"));
    }

    #[test]
    fn a_sum_is_shown_with_its_millionths_and_sizes_with_their_own_bounds() {
        add_labelled(Metric::TradeVolume, &["TEST/SUM"], 2_000_000);
        add_labelled(Metric::TradeVolume, &["TEST/SUM"], 45);
        observe_size(Metric::BatchCommands, 3_u64);
        observe_size(Metric::BatchCommands, 1_000_000_u64);
        let text = render();
        assert!(text.contains("kx_trade_volume_total{market=\"TEST/SUM\"} 2.000045\n"), "{text}");
        for line in ["bucket{le=\"2\"} 0", "bucket{le=\"4\"} 1", "sum 1000003", "count 2"] {
            assert!(text.contains(&format!("kx_batch_commands_{line}\n")), "{line}: {text}");
        }
    }
}
