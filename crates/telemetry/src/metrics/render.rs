//! Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use super::series::{MICROS, SIZES, Series};
use super::{Kind, Metric, REGISTRY};

/// Renders every metric that was ever touched, in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in REGISTRY.iter() {
        let metric = family.metric;
        let mut all: Vec<Arc<Series>> = family.labelled.read().all().map(Arc::clone).collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let plain = metric.labels().is_empty()
            && (family.plain.is_touched() || metric.kind().name() == "counter");
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
    let value = series.value.load(Relaxed);
    match (&series.buckets, metric.kind()) {
        (Some(buckets), kind) => {
            let bounds = bounds(kind);
            let comma = if labels.is_empty() { "" } else { "," };
            let mut below = 0;
            for (place, bucket) in buckets.iter().enumerate().take(bounds.len() + 1) {
                below += bucket.load(Relaxed);
                let bound = bounds.get(place).map_or("+Inf", String::as_str);
                let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            let braces = braced(&labels);
            let _ = match kind {
                Kind::Sizes => writeln!(text, "{name}_sum{braces} {value}"),
                _ => {
                    let (whole, rest) = (value / 1_000_000_000, value % 1_000_000_000);
                    writeln!(text, "{name}_sum{braces} {whole}.{rest:09}")
                }
            };
            let _ = writeln!(text, "{name}_count{braces} {below}");
        }
        (None, Kind::Gauge) => {
            let _ = writeln!(text, "{name}{} {}", braced(&labels), f64::from_bits(value));
        }
        (None, Kind::Sum) => {
            let _ = writeln!(text, "{name}{} {}", braced(&labels), seconds(value));
        }
        (None, _) => {
            let _ = writeln!(text, "{name}{} {value}", braced(&labels));
        }
    }
}

/// The bounds of a histogram's buckets, as they are written.
fn bounds(kind: Kind) -> &'static [String] {
    static DURATIONS: LazyLock<Vec<String>> =
        LazyLock::new(|| MICROS.iter().map(|micros| seconds(*micros)).collect());
    static NUMBERS: LazyLock<Vec<String>> =
        LazyLock::new(|| SIZES.iter().map(u64::to_string).collect());
    if kind == Kind::Sizes { &NUMBERS } else { &DURATIONS }
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

/// Writes millionths as a decimal number without trailing zeros.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
