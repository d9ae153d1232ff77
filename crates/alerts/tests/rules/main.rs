//! `config/`: what Prometheus and Alertmanager themselves say of it, and what they cannot know: that every alert is tested both
//! ways, has a level and a page that exists, and asks for metrics that exist.

mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use telemetry::{Kind, Metric};

use expression::Expression;

/// Metrics of others that rules ask for: RabbitMQ's, the PostgreSQL exporter's, Prometheus' and Alertmanager's own.
const FOREIGN: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("rabbitmq_queue_messages", &["queue", "vhost"]),
    ("rabbitmq_queue_consumers", &["queue", "vhost"]),
    ("rabbitmq_alarms_memory_used_watermark", &[]),
    ("rabbitmq_alarms_free_disk_space_watermark", &[]),
    ("rabbitmq_disk_space_available_bytes", &[]),
    ("pg_up", &[]),
    ("pg_stat_activity_count", &["datname", "state"]),
    ("pg_settings_max_connections", &[]),
    ("pg_stat_activity_max_tx_duration", &["datname", "state"]),
    ("alertmanager_notifications_failed_total", &["integration"]),
    ("prometheus_rule_evaluation_failures_total", &["rule_group"]),
];

/// Where an alert's link must lead.
const PAGE: &str = "https://github.com/krystalinex/krystalinex/blob/main/docs/ALERTS.md#";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Clone, Deserialize)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    promql_expr_test: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    expr: String,
    exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    value: f64,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Vec<Rule> {
    let files = ["config/recording-rules.yml", "config/alerting-rules.yml"];
    let all = files.iter().flat_map(|file| {
        let rules: Rules = serde_saphyr::from_str(&read(file)).expect(file);
        rules.groups.into_iter().flat_map(|group| group.rules)
    });
    all.collect()
}

fn alerts() -> Vec<(String, Rule)> {
    rules().into_iter().filter_map(|rule| Some((rule.alert.clone()?, rule))).collect()
}

/// Runs a program of Prometheus or Alertmanager in `config/` and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root().join("config")).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}: apt-get install prometheus prometheus-alertmanager")
    });
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}:\n{printed}\n{told}");
    printed
}

#[test]
fn prometheus_takes_its_configuration_and_rules() {
    run("promtool", &["check", "config", "prometheus.yml"]);
    run("promtool", &["check", "rules", "recording-rules.yml", "alerting-rules.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_are_silent_when_they_should_not() {
    run("promtool", &["test", "rules", "tests/fast.yml"]);
}

#[test]
fn alerts_over_hours_fire_when_they_should_and_are_silent_when_they_should_not() {
    run("promtool", &["test", "rules", "tests/slow.yml"]);
}

#[test]
fn every_alert_is_tested_both_ways() {
    let mut seen: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for file in ["config/tests/fast.yml", "config/tests/slow.yml"] {
        let tests: Tests = serde_saphyr::from_str(&read(file)).expect(file);
        for check in tests.tests.into_iter().flat_map(|test| test.promql_expr_test) {
            let name = check.expr.strip_prefix("count(ALERTS{alertname=\"");
            let name = name.and_then(|rest| rest.strip_suffix("\",alertstate=\"firing\"})"));
            let name = name.unwrap_or_else(|| panic!("{file}: {}", check.expr));
            let fires = check.exp_samples.iter().any(|sample| sample.value > 0.0);
            seen.entry(name.to_owned()).or_default()[usize::from(fires)] = true;
        }
    }
    for (name, _) in alerts() {
        let both = seen.remove(&name).unwrap_or_default();
        assert!(both[1], "{name}: no test sees it firing");
        assert!(both[0], "{name}: no test sees it silent");
    }
    assert!(seen.is_empty(), "tests of alerts that there are not: {seen:?}");
}

#[test]
fn every_alert_has_a_level_and_says_what_it_means() {
    let mut names = BTreeSet::new();
    for (name, rule) in alerts() {
        assert!(names.insert(name.clone()), "{name} is there twice");
        let severity = match rule.labels.get("sev").map(String::as_str) {
            Some("SEV1" | "SEV2") => "critical",
            Some("SEV3") => "warning",
            Some("SEV4") => "info",
            other => panic!("{name}: sev is {other:?}"),
        };
        assert_eq!(rule.labels.get("severity").map(String::as_str), Some(severity), "{name}");
        assert!(rule.labels.get("part").is_some_and(|part| !part.is_empty()), "{name}: part");
        let summary = rule.annotations.get("summary").expect(&name);
        // GoAlert finds the alert that a "resolved" closes by its summary.
        assert!(!summary.contains("{{"), "{name}: a summary never changes while its alert lasts");
        assert!(summary.len() <= 120, "{name}: a summary is one line on a phone");
        assert!(rule.annotations.contains_key("description"), "{name}: description");
    }
    assert!(names.len() > 50, "{}", names.len());
}

/// GitHub's anchors of a page's headings: lower case, spaces to hyphens, what is neither letter, digit, hyphen nor underscore
/// left out.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_alert_leads_to_its_own_section_and_every_section_to_an_alert() {
    let page = read("docs/ALERTS.md");
    let anchors = anchors(&page);
    let sections: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::trim).collect();
    let alerts = alerts();
    for (name, rule) in &alerts {
        let link = rule.annotations.get("runbook_url").expect(name);
        let anchor = link.strip_prefix(PAGE).unwrap_or_else(|| panic!("{name}: {link}"));
        assert_eq!(anchor, name.to_lowercase(), "{name}");
        assert!(anchors.contains(anchor), "{name}: docs/ALERTS.md has no heading for {link}");
    }
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(sections, names, "one section per alert");
    for section in page.split("\n### ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        for part in ["**Means:**", "**Users see:**", "**Look:**", "**Do:**"] {
            assert!(section.contains(part), "{name}: {part} is missing");
        }
        let (_, level) = alerts.iter().find(|(alert, _)| alert == name).expect(name);
        let level = level.labels.get("sev").map_or("", String::as_str);
        assert!(section.contains(&format!("*{level}*")), "{name}: its level is {level}");
    }
}

/// The names by which Prometheus knows a metric of ours, and its labels.
fn ours() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for metric in Metric::ALL {
        let labels: BTreeSet<String> =
            metric.labels().iter().map(|label| (*label).to_owned()).collect();
        if metric.kind().name() == Kind::Histogram.name() {
            let mut with_le = labels.clone();
            with_le.insert("le".to_owned());
            all.insert(format!("{}_bucket", metric.name()), with_le);
            all.insert(format!("{}_sum", metric.name()), labels.clone());
            all.insert(format!("{}_count", metric.name()), labels);
        } else {
            all.insert(metric.name().to_owned(), labels);
        }
    }
    for (name, labels) in FOREIGN {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        all.entry((*name).to_owned()).or_insert(labels);
    }
    all
}

#[test]
fn every_metric_in_a_rule_exists_with_its_labels() {
    let rules = rules();
    let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule.record.as_deref()).collect();
    let ours = ours();
    let mut used = BTreeSet::new();
    for rule in &rules {
        let name = rule.alert.as_deref().or(rule.record.as_deref()).expect("a name");
        let expression = Expression::read(&rule.expr);
        assert!(!expression.metrics.is_empty(), "{name} asks for nothing");
        for (metric, labels) in &expression.metrics {
            used.insert(metric.clone());
            if metric.contains(':') {
                assert!(recorded.contains(metric.as_str()), "{name}: nobody records {metric}");
                continue;
            }
            let known = ours.get(metric).unwrap_or_else(|| panic!("{name}: there is no {metric}"));
            for label in labels.iter().filter(|label| !matches!(label.as_str(), "job" | "instance"))
            {
                assert!(known.contains(label), "{name}: {metric} has no label {label}");
            }
        }
        let all: BTreeSet<&String> =
            expression.metrics.keys().filter_map(|metric| ours.get(metric)).flatten().collect();
        for label in
            expression.by.iter().filter(|label| !matches!(label.as_str(), "job" | "instance"))
        {
            assert!(all.contains(label), "{name}: no metric in it has the label {label}");
        }
    }
    for (name, _) in FOREIGN {
        assert!(used.contains(*name), "no rule asks for {name}: take it out of the list");
    }
}

#[test]
fn alertmanager_takes_its_configuration_and_sends_each_severity_where_it_belongs() {
    run("amtool", &["check-config", "alertmanager.yml"]);
    let cases = [
        ("severity=critical", "goalert,ntfy"),
        ("severity=warning", "ntfy"),
        ("severity=info", "ntfy"),
        ("severity=other", "ntfy"),
    ];
    for (label, receivers) in cases {
        let arguments = ["config", "routes", "test", "--config.file=alertmanager.yml", label];
        assert_eq!(run("amtool", &arguments).trim(), receivers, "{label}");
    }
    // Whoever hands notices on cannot report its own failure by itself.
    for alert in ["NotificationsFailing", "AlertmanagerFailing"] {
        let alert = format!("alertname={alert}");
        let file = "--config.file=alertmanager.yml";
        let arguments = ["config", "routes", "test", file, &alert, "severity=warning"];
        assert_eq!(run("amtool", &arguments).trim(), "goalert,ntfy");
    }
}

#[derive(Deserialize)]
struct Alertmanager {
    inhibit_rules: Vec<Inhibition>,
}

#[derive(Deserialize)]
struct Inhibition {
    source_matchers: Vec<String>,
    target_matchers: Vec<String>,
}

/// The values that a matcher such as `part=~"a|b"` names.
fn values<'a>(matcher: &'a str, label: &str) -> Vec<&'a str> {
    let rest = matcher.strip_prefix(label).map(|rest| rest.trim_start_matches("=~"));
    let rest = rest.map(|rest| rest.trim_start_matches('=').trim_matches('"'));
    rest.map_or(Vec::new(), |rest| rest.split('|').collect())
}

#[test]
fn an_inhibition_names_what_there_is_and_never_holds_money_back() {
    let text = read("config/alertmanager.yml");
    let config: Alertmanager = serde_saphyr::from_str(&text).expect("it is YAML");
    let alerts = alerts();
    let parts: BTreeSet<&str> =
        alerts.iter().filter_map(|(_, rule)| rule.labels.get("part")).map(String::as_str).collect();
    let money: BTreeSet<&str> = alerts
        .iter()
        .filter(|(_, rule)| rule.labels.get("part").is_some_and(|part| part == "money"))
        .map(|(name, _)| name.as_str())
        .collect();
    let exists = |name: &str| alerts.iter().any(|(alert, _)| alert == name);
    assert!(money.len() >= 6 && !config.inhibit_rules.is_empty());
    for rule in &config.inhibit_rules {
        for source in &rule.source_matchers {
            let named = values(source, "alertname");
            assert!(!named.is_empty() && named.iter().all(|name| exists(name)), "{source}");
        }
        assert!(!rule.target_matchers.is_empty(), "it would hold everything back");
        for target in &rule.target_matchers {
            let (named, about) = (values(target, "alertname"), values(target, "part"));
            assert!(named.len() + about.len() > 0, "{target}");
            assert!(named.iter().all(|name| exists(name)), "{target}");
            assert!(about.iter().all(|part| parts.contains(part)), "{target}");
            assert!(!about.contains(&"money"), "{target}");
            assert!(named.iter().all(|name| !money.contains(name)), "{target}");
        }
    }
}
