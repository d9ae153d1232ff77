//! What a PromQL expression asks for: enough of the language for the rules of `config/`. promtool has checked the rest.

use std::collections::{BTreeMap, BTreeSet};

const WORDS: &[&str] =
    &["and", "or", "unless", "offset", "bool", "group_left", "group_right", "inf", "nan"];
const LISTS: &[&str] = &["by", "on", "without", "ignoring"];

/// The metrics of an expression, each with the labels that are asked of it, and the labels that it is grouped by.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expression {
    pub(crate) metrics: BTreeMap<String, BTreeSet<String>>,
    pub(crate) by: BTreeSet<String>,
}

impl Expression {
    pub(crate) fn read(text: &str) -> Self {
        let mut all = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first.is_ascii_digit() {
                // A number or a duration.
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else if is_name(first) {
                let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                rest = all.name(name, after.trim_start());
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        all
    }

    /// Takes a name, and what belongs to it of what comes after it; returns the rest.
    fn name<'a>(&mut self, name: &str, after: &'a str) -> &'a str {
        if LISTS.contains(&name) {
            let (list, rest) = enclosed(after, '(', ')').expect("a list of labels");
            let labels = list.split(',').map(str::trim).filter(|label| !label.is_empty());
            self.by.extend(labels.map(str::to_owned));
            return rest;
        }
        if WORDS.contains(&name.to_lowercase().as_str()) {
            return after;
        }
        // `sum by (le) (…)`: what stands before a list is a function, too.
        let is_function = after.starts_with('(')
            || LISTS.iter().any(|word| {
                after.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('('))
                    && (*word == "by" || *word == "without")
            });
        if is_function {
            return after;
        }
        let labels = self.metrics.entry(name.to_owned()).or_default();
        let Some((matchers, rest)) = enclosed(after, '{', '}') else {
            return after;
        };
        for matcher in matchers.split("\",") {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            if !label.is_empty() {
                labels.insert(label.to_owned());
            }
        }
        rest
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What stands between two characters at the beginning, and what comes after.
fn enclosed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    text.strip_prefix(open)?.split_once(close)
}

#[test]
fn metrics_labels_and_groups_are_found() {
    let text = r#"sum by (le, part) (rate(a_bucket{job="x",route=~"/a|b",status!="500"}[5m])) / on(job, instance)
        max_over_time(k:b:sum[6h]) > 14.4 * 0.001 and absent(c) unless c offset 10m or vector(0) > 1e9"#;
    let expression = Expression::read(text);
    let metrics: Vec<_> = expression.metrics.keys().map(String::as_str).collect();
    assert_eq!(metrics, ["a_bucket", "c", "k:b:sum"]);
    let labels: Vec<_> = expression.metrics["a_bucket"].iter().map(String::as_str).collect();
    assert_eq!(labels, ["job", "route", "status"]);
    let by: Vec<_> = expression.by.iter().map(String::as_str).collect();
    assert_eq!(by, ["instance", "job", "le", "part"]);
}
