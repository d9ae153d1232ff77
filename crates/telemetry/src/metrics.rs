//! The registry of metrics and its Prometheus text.
//!
//! Counting costs one relaxed atomic addition for a metric without labels, and one look-up more for one with labels.
//! Nothing is buffered, so memory does not depend on whether anybody scrapes.

mod name;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::RwLock;

pub use name::{Kind, Metric};

/// Series that one labelled metric may have; what would exceed it is counted with every label `other`.
const SERIES_MAX: usize = 1_000;

/// Upper bounds of every histogram's buckets, in microseconds: fine below a second, where the promises are.
const BUCKETS_MICROS: [u64; 24] = [
    100, 250, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000,
    50_000, 75_000, 100_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000,
];

/// One series: a plain value, or a histogram.
struct Series {
    labels: Vec<String>,
    /// A counter's count, a gauge's bits, a histogram's sum of nanoseconds.
    value: AtomicU64,
    /// Whether it was ever touched: a gauge that nobody has set is not shown.
    touched: AtomicU64,
    buckets: Option<Box<[AtomicU64; BUCKETS_MICROS.len() + 1]>>,
}

impl Series {
    fn new(kind: Kind, labels: Vec<String>) -> Self {
        let buckets = matches!(kind, Kind::Histogram)
            .then(|| Box::new([const { AtomicU64::new(0) }; BUCKETS_MICROS.len() + 1]));
        Self { labels, value: AtomicU64::new(0), touched: AtomicU64::new(0), buckets }
    }

    fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.as_ref().and_then(|buckets| buckets.get(place)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.value.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.touched.store(1, Relaxed);
    }

    fn add(&self, count: u64) {
        self.value.fetch_add(count, Relaxed);
        self.touched.store(1, Relaxed);
    }

    fn set(&self, value: f64) {
        self.value.store(value.to_bits(), Relaxed);
        self.touched.store(1, Relaxed);
    }
}

/// A metric with all its series.
struct Family {
    metric: Metric,
    plain: Series,
    labelled: RwLock<HashMap<String, Arc<Series>>>,
}

static REGISTRY: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let family = |metric: &Metric| Family {
        metric: *metric,
        plain: Series::new(metric.kind(), Vec::new()),
        labelled: RwLock::new(HashMap::new()),
    };
    Metric::ALL.iter().map(family).collect()
});

fn family(metric: Metric) -> &'static Family {
    REGISTRY.get(metric as usize).expect("the registry has every metric at its own place")
}

/// Counts `count` more of a metric without labels.
pub fn add(metric: Metric, count: u64) {
    family(metric).plain.add(count);
}

/// Sets a gauge without labels.
pub fn set(metric: Metric, value: f64) {
    family(metric).plain.set(value);
}

/// Records a duration in a histogram without labels.
pub fn observe(metric: Metric, duration: Duration) {
    family(metric).plain.observe(duration);
}

/// Counts `count` more of a metric with these label values, which must come from a bounded set.
pub fn add_labelled(metric: Metric, labels: &[&str], count: u64) {
    series(metric, labels).add(count);
}

/// Sets a gauge with these label values.
pub fn set_labelled(metric: Metric, labels: &[&str], value: f64) {
    series(metric, labels).set(value);
}

/// Records a duration in a histogram with these label values, which must come from a bounded set.
pub fn observe_labelled(metric: Metric, labels: &[&str], duration: Duration) {
    series(metric, labels).observe(duration);
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
            Kind::Counter => bits as f64,
            _ => return None,
        };
        (series.touched.load(Relaxed) == 1).then(|| (series.labels.clone(), value))
    };
    let labelled = family.labelled.read();
    labelled.values().filter_map(|each| value(each)).chain(value(&family.plain)).collect()
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
    series(Metric::HttpRequestDuration, &[method, route]).observe(duration);
}

/// Finds or makes the series of these label values.
fn series(metric: Metric, labels: &[&str]) -> Arc<Series> {
    let family = family(metric);
    assert_eq!(labels.len(), metric.labels().len(), "a metric gets a value for each of its labels");
    let key = labels.join("\u{1f}");
    if let Some(series) = family.labelled.read().get(&key) {
        return Arc::clone(series);
    }
    let mut all = family.labelled.write();
    let full = all.len() >= SERIES_MAX && !all.contains_key(&key);
    let (key, values) = if full {
        let other = vec!["other"; labels.len()];
        (other.join("\u{1f}"), other)
    } else {
        (key, labels.to_vec())
    };
    let make =
        || Series::new(metric.kind(), values.iter().map(|value| (*value).to_owned()).collect());
    Arc::clone(all.entry(key).or_insert_with(|| Arc::new(make())))
}

/// Renders every metric that was ever touched, in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in REGISTRY.iter() {
        let metric = family.metric;
        let mut all: Vec<Arc<Series>> = family.labelled.read().values().map(Arc::clone).collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let plain = metric.labels().is_empty()
            && (family.plain.touched.load(Relaxed) == 1 || matches!(metric.kind(), Kind::Counter));
        if !plain && all.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP {} {}", metric.name(), metric.help());
        let _ = writeln!(text, "# TYPE {} {}", metric.name(), metric.kind().name());
        if plain {
            render_series(&mut text, metric, &family.plain);
        }
        for series in all {
            render_series(&mut text, metric, &series);
        }
    }
    text
}

fn render_series(text: &mut String, metric: Metric, series: &Series) {
    let name = metric.name();
    let labels = label_text(metric.labels(), &series.labels);
    match (&series.buckets, metric.kind()) {
        (Some(buckets), _) => {
            let mut below = 0;
            for (place, bucket) in buckets.iter().enumerate() {
                below += bucket.load(Relaxed);
                let bound = BUCKETS_MICROS
                    .get(place)
                    .map_or_else(|| "+Inf".to_owned(), |micros| seconds(*micros));
                let comma = if labels.is_empty() { "" } else { "," };
                let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            let nanos = series.value.load(Relaxed);
            let braces = braced(&labels);
            let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let _ = writeln!(text, "{name}_sum{braces} {whole}.{rest:09}");
            let _ = writeln!(text, "{name}_count{braces} {below}");
        }
        (None, Kind::Gauge) => {
            let value = f64::from_bits(series.value.load(Relaxed));
            let _ = writeln!(text, "{name}{} {value}", braced(&labels));
        }
        (None, _) => {
            let _ = writeln!(text, "{name}{} {}", braced(&labels), series.value.load(Relaxed));
        }
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn label_text(names: &[&str], values: &[String]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    text
}

/// Writes microseconds as decimal seconds without trailing zeros.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
        let count = family(Metric::CommandsRejected).labelled.read().len();
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
                metric.kind() == Kind::Counter,
                "{}: counters end with _total",
                metric.name()
            );
        }
    }
}
