//! What is made from the registry of metrics is fresh, and every expression of a dashboard or a rule asks for metrics that
//! there are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{File, Tree};
use crate::{dashboards, metrics_page, queries};

/// Returns a finding for every stale file, every unknown metric and every alert that a dashboard names in vain.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    let page = [(metrics_page::PATH.to_owned(), metrics_page::text(), "metrics")];
    let made = dashboards::files().into_iter().map(|(path, text)| (path, text, "dashboards"));
    for (path, text, command) in page.into_iter().chain(made) {
        if tree.file(&path).is_none_or(|file| file.text != text) {
            findings.push(format!("{path}: stale: cargo run -p xtask -- {command}"));
        }
    }
    let recorded = recorded(tree);
    for file in &tree.files {
        for expression in expressions(file) {
            let unknown = queries::names(&expression);
            let unknown = unknown.iter().filter(|name| !queries::exists(name, recorded.as_ref()));
            findings
                .extend(unknown.map(|name| format!("{}: there is no metric {name}", file.path)));
        }
        findings.extend(missing_alerts(tree, file));
    }
    findings
}

fn is_dashboard(file: &File) -> bool {
    file.path.starts_with("config/grafana/") && file.path.ends_with(".json")
}

fn is_rules(file: &File) -> bool {
    file.path.starts_with("config/") && file.path.ends_with("rules.yml")
}

/// The expressions of a dashboard or of a file of rules.
fn expressions(file: &File) -> Vec<String> {
    if is_dashboard(file) {
        let mut found = Vec::new();
        collect(&serde_json::from_str(&file.text).unwrap_or_default(), &mut found);
        return found;
    }
    if is_rules(file) { of_rules(&file.text) } else { Vec::new() }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// The values of `expr` in a file of rules: on one line, or in the deeper lines below it.
fn of_rules(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let depth = line.len() - line.trim_start().len();
        let Some(value) = line.trim_start().trim_start_matches("- ").strip_prefix("expr:") else {
            continue;
        };
        let mut expression = value.trim().trim_start_matches(['|', '>', '-']).trim().to_owned();
        while let Some(next) = lines.peek()
            && (next.trim().is_empty() || next.len() - next.trim_start().len() > depth)
        {
            let next = next.trim();
            if !next.starts_with('#') {
                expression.push(' ');
                expression.push_str(next);
            }
            lines.next();
        }
        found.push(expression);
    }
    found
}

/// The names that recording rules make; `None` where there are no such rules.
fn recorded(tree: &Tree) -> Option<BTreeSet<String>> {
    let lines = tree.files.iter().filter(|file| is_rules(file)).flat_map(|file| file.text.lines());
    let name = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        line.strip_prefix("record:").map(|name| name.trim().to_owned())
    };
    let names: BTreeSet<String> = lines.filter_map(name).collect();
    (!names.is_empty()).then_some(names)
}

/// Alerts that a dashboard leads to must have their heading.
fn missing_alerts(tree: &Tree, file: &File) -> Vec<String> {
    let (true, Some(alerts)) = (is_dashboard(file), tree.file("docs/ALERTS.md")) else {
        return Vec::new();
    };
    let headings: BTreeSet<String> = alerts
        .text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .collect();
    let linked = file.text.split("docs/ALERTS.md#").skip(1);
    let linked = linked.filter_map(|rest| rest.split(['"', ')', ' ']).next());
    let missing = linked.filter(|anchor| !headings.contains(*anchor));
    missing.map(|anchor| format!("{}: docs/ALERTS.md has no {anchor}", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn findings(files: Vec<File>) -> Vec<String> {
        let tree = Tree { files, metadata: Value::Null };
        check(&tree).into_iter().filter(|finding| !finding.contains("stale")).collect()
    }

    #[test]
    fn a_metric_that_is_not_there_is_found_in_dashboards_and_rules() {
        let rules = "groups:\n- name: x\n  rules:\n  - record: a:b\n    expr: sum(up)\n  - alert: Y\n    expr: |\n      \
                     # a comment\n      kx_nothing\n      > 1\n    for: 1m\n  - alert: Z\n    expr: a:c > kx_epoch\n";
        let dashboard =
            r#"{"panels":[{"targets":[{"expr":"rate(kx_neither[5m])"},{"expr":"a:b"}]}]}"#;
        let found = findings(vec![
            file("config/alerting-rules.yml", rules),
            file("config/grafana/dashboards/x.json", dashboard),
        ]);
        assert_eq!(
            found,
            [
                "config/alerting-rules.yml: there is no metric kx_nothing",
                "config/alerting-rules.yml: there is no metric a:c",
                "config/grafana/dashboards/x.json: there is no metric kx_neither",
            ]
        );
    }

    #[test]
    fn an_alert_without_a_heading_is_found() {
        let dashboard = r#"{"url":"https://example.org/docs/ALERTS.md#gone"}"#;
        let found = findings(vec![
            file("docs/ALERTS.md", "# Alerts\n### There\n"),
            file("config/grafana/dashboards/x.json", dashboard),
        ]);
        assert_eq!(found, ["config/grafana/dashboards/x.json: docs/ALERTS.md has no gone"]);
    }

    #[test]
    fn what_was_not_made_anew_is_found() {
        let tree = Tree { files: vec![file(metrics_page::PATH, "old")], metadata: Value::Null };
        assert!(check(&tree).iter().any(|finding| finding.starts_with("docs/METRICS.md: stale")));
    }
}
