//! The bench's results: rows with a value, a target and a verdict, as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// What a value should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", number(least, unit)),
            Self::AtMost(most) => format!("≤ {}", number(most, unit)),
        }
    }
}

/// One result.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    section: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
    note: String,
}

impl Row {
    /// Makes a row without a target.
    pub(crate) fn new(
        section: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { section, what: what.into(), value, unit, target: None, note: String::new() }
    }

    /// Adds what the value should reach.
    pub(crate) fn reach(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Adds a remark.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if target.met(self.value) => "PASS",
            Some(_) => "below",
        }
    }

    fn json(&self) -> Value {
        let target = self.target.map(|target| match target {
            Target::AtLeast(least) => json!({ "at_least": least }),
            Target::AtMost(most) => json!({ "at_most": most }),
        });
        json!({
            "section": self.section, "what": self.what, "value": self.value, "unit": self.unit,
            "target": target, "met": self.target.map(|target| target.met(self.value)), "note": self.note,
        })
    }
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a result and prints it at once, so that a long run shows how far it is.
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("  {} {}: {} {}", row.section, row.what, number(row.value, row.unit), row.unit);
        self.rows.push(row);
    }

    /// Returns the rows as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.rows.iter().map(Row::json).collect()
    }

    /// Returns the results that miss their target.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict() == "below").count()
    }

    /// Returns the table as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| section | what | value | target | | note |\n");
        text.push_str("| --- | --- | ---: | ---: | --- | --- |\n");
        for row in &self.rows {
            let target = row.target.map_or(String::new(), |target| target.text(row.unit));
            let (value, verdict) = (number(row.value, row.unit), row.verdict());
            let Row { section, what, unit, note, .. } = row;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {section} | {what} | {value} {unit} | {target} | {verdict} | {note} |"
            );
        }
        text
    }
}

/// Writes a number with as many digits as it deserves.
fn number(value: f64, unit: &str) -> String {
    if unit.is_empty() {
        grouped(value)
    } else if unit == "×" || value.abs() < 10.0 {
        format!("{value:.2}")
    } else if value.abs() < 100.0 {
        format!("{value:.1}")
    } else {
        grouped(value)
    }
}

/// Writes a whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_is_met() {
        let mut table = Table::default();
        table.push(Row::new("a", "fast", 5_100_000.0, "commands/s").reach(Target::AtLeast(5e6)));
        table.push(Row::new("a", "slow", 2.5, "µs").reach(Target::AtMost(2.0)).note("noisy"));
        assert_eq!(table.missed(), 1);
        let text = table.markdown();
        assert!(
            text.contains("| a | fast | 5,100,000 commands/s | ≥ 5,000,000 | PASS |  |"),
            "{text}"
        );
        assert!(text.contains("| a | slow | 2.50 µs | ≤ 2.00 | below | noisy |"), "{text}");
    }
}
