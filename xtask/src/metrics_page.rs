//! docs/METRICS.md, made from the registry.

use std::fmt::Write as _;

use telemetry::{Kind, Metric};

/// Where it stands.
pub(crate) const PATH: &str = "docs/METRICS.md";

const HEAD: &str = "# Metrics

Every metric that KrystalineX has, made from the registry (`crates/telemetry/src/metrics/name.rs`) by `cargo run -p xtask -- metrics`; do
not edit it. `tidy` fails when it is stale, and when a dashboard or a rule names a metric that is not here.

The server shows them at `:5000/metrics`, the payment processor at `:3001/metrics`, in Prometheus' text format. Both show what
their process has: under `krystalinex up` that is one process, so both show the same. Counters and histograms begin at 0 with their
process. A gauge that nobody has set yet is not shown. Durations are in seconds. The values of a label are few: a metric has at most
1,000 series, and what would exceed that is counted with every label `other`.

| metric | kind | labels | what it says |
| --- | --- | --- | --- |
";

/// Returns the page.
pub(crate) fn text() -> String {
    let mut text = HEAD.to_owned();
    for metric in Metric::ALL {
        let labels: Vec<String> =
            metric.labels().iter().map(|label| format!("`{label}`")).collect();
        let kind = match metric.kind() {
            Kind::Sizes => "histogram of numbers",
            kind => kind.name(),
        };
        let (name, labels, help) = (metric.name(), labels.join(", "), metric.help());
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}
