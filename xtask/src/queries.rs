//! Which metrics a PromQL expression asks for, and whether there are such: for dashboards and for rules.

use std::collections::BTreeSet;

use telemetry::{Kind, Metric};

/// Metrics that others make: Prometheus, Alertmanager, RabbitMQ's plugin, the PostgreSQL exporter.
const OTHERS: &[&str] = &[
    "ALERTS",
    "alertmanager_alerts",
    "alertmanager_notifications_failed_total",
    "alertmanager_notifications_total",
    "pg_database_size_bytes",
    "pg_locks_count",
    "pg_settings_max_connections",
    "pg_stat_activity_count",
    "pg_stat_activity_max_tx_duration",
    "pg_stat_bgwriter_buffers_checkpoint_total",
    "pg_stat_database_blks_hit",
    "pg_stat_database_blks_read",
    "pg_stat_database_deadlocks",
    "pg_stat_database_xact_commit",
    "pg_stat_database_xact_rollback",
    "pg_up",
    "prometheus_rule_evaluation_failures_total",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_connections",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_queue_consumers",
    "rabbitmq_queue_messages",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "up",
];

/// Words behind which a list of labels stands.
const LABELLED: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"];

/// Returns the names of the metrics that an expression asks for.
pub(crate) fn names(expression: &str) -> BTreeSet<String> {
    let plain = plain(expression);
    let mut names = BTreeSet::new();
    let mut rest = plain.as_str();
    while let Some(begin) = rest.find(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c)) {
        let word = &rest[begin..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
        let (word, behind) = word.split_at(end.unwrap_or(word.len()));
        rest = behind;
        let next = behind.trim_start();
        let lower = word.to_ascii_lowercase();
        if LABELLED.contains(&lower.as_str()) {
            if next.starts_with('(') {
                rest = next.split_once(')').map_or("", |(_, behind)| behind);
            }
        } else if !is_called(next)
            && !word.starts_with(|c: char| c.is_ascii_digit())
            && !WORDS.contains(&lower.as_str())
        {
            names.insert(word.to_owned());
        }
    }
    names
}

/// Tells whether what comes next makes a function or an aggregation of a word: `sum(…)`, `sum by (le) (…)`.
fn is_called(next: &str) -> bool {
    let word = next.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    next.starts_with('(') || matches!(word, "by" | "without")
}

/// Takes texts, matchers, ranges and variables out of an expression.
fn plain(expression: &str) -> String {
    let mut plain = String::new();
    let mut chars = expression.chars();
    let (mut quote, mut braces, mut brackets) = (None, 0_u32, 0_u32);
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => _ = chars.next(),
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => braces += 1,
            (None, '}') => braces = braces.saturating_sub(1),
            (None, '[') => brackets += 1,
            (None, ']') => brackets = brackets.saturating_sub(1),
            (None, _) if braces + brackets > 0 => {}
            (None, '$') => {}
            (None, c) => plain.push(c),
        }
    }
    plain
}

/// Tells whether a metric exists. `recorded` are the names that recording rules make; `None`: not known.
pub(crate) fn exists(name: &str, recorded: Option<&BTreeSet<String>>) -> bool {
    if name.contains(':') {
        return recorded.is_none_or(|recorded| recorded.contains(name));
    }
    let foreign = OTHERS.iter().any(|known| {
        name.strip_prefix(known)
            .is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
    });
    foreign
        || Metric::ALL.iter().any(|metric| {
            let rest = name.strip_prefix(metric.name());
            match metric.kind() {
                Kind::Histogram | Kind::Sizes => {
                    rest.is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count"))
                }
                _ => rest == Some(""),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_an_expression_are_found_and_nothing_else() {
        let found = |expression| names(expression).into_iter().collect::<Vec<_>>();
        assert_eq!(
            found(
                "histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket{route=~\"a|b\"}[5m])))"
            ),
            ["http_request_duration_seconds_bucket"]
        );
        assert_eq!(
            found(
                "sum(a_total{x=\"foo}\"}) / on(job) group_left() b_total > bool 1e3 offset 5m or vector(0)"
            ),
            ["a_total", "b_total"]
        );
        assert_eq!(found("max(a:b:c) without (le) unless x"), ["a:b:c", "x"]);
        assert_eq!(found("topk(3, max without(a) (b)) > -inf"), ["b"]);
        assert_eq!(found("sum(rate(x_total[$__rate_interval])) by (y)"), ["x_total"]);
    }

    #[test]
    fn a_histogram_is_asked_for_by_its_parts_and_a_counter_by_its_name() {
        for name in ["http_requests_total", "kx_batch_commands_bucket", "kx_epoch", "up"] {
            assert!(exists(name, None), "{name}");
        }
        for name in ["http_requests", "kx_batch_commands", "kx_epoch_sum", "kx_nothing", "upp"] {
            assert!(!exists(name, None), "{name}");
        }
        let recorded = BTreeSet::from(["a:b".to_owned()]);
        assert!(exists("a:b", Some(&recorded)) && !exists("a:c", Some(&recorded)));
    }
}
