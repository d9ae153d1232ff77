//! What else was so at a minute: a process' own gauges, compared with their own past.
//!
//! Invariant: a finding always carries the number that it rests on; of what was not measured nothing is said.

use std::collections::BTreeMap;

/// Rows of a signal's own past that it takes to say what is usual.
const PAST_MIN: usize = 10;
/// So many times what four of five minutes do not exceed is unusual: the first minutes of an incident are in the past of
/// the later ones, and must not hide them.
const FACTOR: f64 = 3.0;
/// A process that began so short ago is told, in microseconds.
const RECENT: u64 = 5 * 60 * 1_000_000;

/// Where a signal is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The highest value of a gauge's series during the minute.
    Gauge,
    /// The highest value of those of a gauge's series that have this label.
    Labelled(&'static str),
    /// A gauge that is 1 while all is well: 1 less its lowest value.
    Down,
    /// How much a counter has risen during the minute.
    Risen,
    /// Worked out of the minute's requests.
    Own,
}

/// Something that is looked at every minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// The metric, or its own name.
    pub name: &'static str,
    /// How it is read.
    pub source: Source,
    /// What it says, before its number.
    pub words: &'static str,
    /// What its number counts; `s`: seconds.
    pub unit: &'static str,
    /// Less than this beyond its median is nothing.
    pub least: f64,
    /// Whether it is 0 while all is well, so that it needs no past.
    pub is_usually_zero: bool,
}

const fn grows(
    name: &'static str,
    source: Source,
    words: &'static str,
    unit: &'static str,
    least: f64,
) -> Signal {
    Signal { name, source, words, unit, least, is_usually_zero: false }
}

const fn never(
    name: &'static str,
    source: Source,
    words: &'static str,
    unit: &'static str,
    least: f64,
) -> Signal {
    Signal { name, source, words, unit, least, is_usually_zero: true }
}

/// Every signal. Whoever has not got its metric says nothing of it.
pub const SIGNALS: &[Signal] = &[
    grows("requests", Source::Own, "the load was high:", "requests a minute", 600.0),
    grows("append_p99_seconds", Source::Own, "the journal was slow: p99 of an append", "s", 0.01),
    grows("kx_queue_messages", Source::Gauge, "the queue was long:", "commands", 50.0),
    grows(
        "kx_command_oldest_waiting_seconds",
        Source::Gauge,
        "commands waited: the oldest for",
        "s",
        0.5,
    ),
    never("kx_database_up", Source::Down, "the database did not answer:", "", 0.5),
    grows(
        "kx_database_pool_connections",
        Source::Labelled("waiting"),
        "requests waited for a connection to the database:",
        "requests",
        2.0,
    ),
    never(
        "kx_database_connections_refused_total",
        Source::Risen,
        "the database had no connection to give:",
        "times",
        1.0,
    ),
    never(
        "kx_journal_append_retries_total",
        Source::Risen,
        "the journal was written again after an unknown outcome:",
        "times",
        1.0,
    ),
    grows(
        "kx_follower_behind_seconds",
        Source::Gauge,
        "the server was behind the journal: by",
        "s",
        0.5,
    ),
    never("kx_follower_gaps_total", Source::Risen, "rows of the fan-out were lost:", "times", 1.0),
    never("kx_follower_reloads_total", Source::Risen, "the state was loaded anew:", "times", 1.0),
    grows("kx_projection_lag_seconds", Source::Gauge, "the projections lagged: by", "s", 1.0),
    never("kx_price_feed_up", Source::Down, "a price feed was away:", "", 0.5),
    grows("kx_price_feed_age_seconds", Source::Gauge, "a price feed was old:", "s", 5.0),
    never(
        "kx_circuit_breaker_state",
        Source::Gauge,
        "a circuit breaker was not closed (1 half open, 2 open):",
        "",
        1.0,
    ),
    never("kx_deposed_total", Source::Risen, "a payment processor was deposed:", "times", 1.0),
    never(
        "kx_websocket_dropped_total",
        Source::Risen,
        "WebSocket clients were dropped:",
        "clients",
        10.0,
    ),
];

/// What one process saw of itself in one minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContextRow {
    /// The minute, counted since 1970.
    pub minute: u64,
    /// The process.
    pub instance: String,
    /// What it is.
    pub service: String,
    /// What was built: release and commit.
    pub build: String,
    /// When it began, in microseconds since 1970.
    pub started: u64,
    /// The epoch of its last claim on the journal; 0: it has none.
    pub epoch: u64,
    /// The signals, by name.
    pub values: BTreeMap<String, f64>,
}

/// Something that was unusual.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The signal, or `restart`, `deploy`, `takeover`, `anomaly`.
    pub name: String,
    /// In words, with its numbers.
    pub words: String,
    /// The number that it rests on.
    pub value: f64,
    /// What is usual; `None` where nothing is compared.
    pub usual: Option<f64>,
}

/// Says what was unusual in a minute's rows (of all processes), given the rows before them, in any order.
#[must_use]
pub fn findings(at: &[ContextRow], before: &[ContextRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for signal in SIGNALS {
        // Of several processes the one that is furthest off speaks.
        let all = at.iter().filter_map(|row| {
            let value = *row.values.get(signal.name)?;
            unusual(signal, value, &past(signal, row, before))
        });
        found.extend(all.max_by(|one, other| one.value.total_cmp(&other.value)));
    }
    found.extend(changes(at, before));
    found
}

/// A signal's past in the same process, or in its like where it is young.
fn past(signal: &Signal, row: &ContextRow, before: &[ContextRow]) -> Vec<f64> {
    let of = |same: &dyn Fn(&ContextRow) -> bool| {
        let rows = before.iter().filter(|each| each.minute < row.minute && same(each));
        let mut values: Vec<f64> =
            rows.filter_map(|each| each.values.get(signal.name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let own = of(&|each| each.instance == row.instance);
    if own.len() >= PAST_MIN { own } else { of(&|each| each.service == row.service) }
}

fn unusual(signal: &Signal, value: f64, past: &[f64]) -> Option<Finding> {
    let number = |value: f64| match signal.unit {
        "s" => seconds(value),
        "" => format!("{value:.0}"),
        unit => format!("{value:.0} {unit}"),
    };
    let (words, usual) = if signal.is_usually_zero {
        if value < signal.least {
            return None;
        }
        let words = match signal.unit {
            "" if signal.source == Source::Down => signal.words.trim_end_matches(':').to_owned(),
            _ => format!("{} {}", signal.words, number(value)),
        };
        (words, 0.0)
    } else {
        if past.len() < PAST_MIN {
            return None;
        }
        let median = *past.get(past.len() / 2)?;
        let high = *past.get(past.len() * 4 / 5)?;
        if value <= high * FACTOR || value - median < signal.least {
            return None;
        }
        (format!("{} {}, usually {}", signal.words, number(value), number(median)), median)
    };
    Some(Finding { name: signal.name.to_owned(), words, value, usual: Some(usual) })
}

fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.1} ms", value * 1_000.0) } else { format!("{value:.1} s") }
}

/// Says which processes were new, of another build, or had taken the journal over.
fn changes(at: &[ContextRow], before: &[ContextRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in at {
        let end = (row.minute + 1).saturating_mul(60_000_000);
        let age = end.saturating_sub(row.started);
        let like = before.iter().filter(|each| each.service == row.service);
        let last = like
            .filter(|each| each.instance != row.instance && each.minute <= row.minute)
            .max_by_key(|each| each.minute);
        if age <= RECENT {
            let ago = age / 1_000_000;
            let (name, words) = match last {
                Some(last) if last.build != row.build => (
                    "deploy",
                    format!(
                        "{} was deployed: {} in place of {}, begun {ago} s before the minute's end",
                        row.service, row.build, last.build
                    ),
                ),
                _ => (
                    "restart",
                    format!("{} had begun {ago} s before the minute's end", row.service),
                ),
            };
            let value = f64::from(u32::try_from(ago).unwrap_or(u32::MAX));
            found.push(Finding { name: name.to_owned(), words, value, usual: None });
        }
    }
    let recent = |row: &&ContextRow| {
        at.first().is_some_and(|now| row.minute < now.minute && row.minute + 5 >= now.minute)
    };
    let now = at.iter().map(|row| row.epoch).max().unwrap_or(0);
    let then = before.iter().filter(recent).map(|row| row.epoch).max().unwrap_or(0);
    if then > 0 && now > then {
        let words = format!("the journal was taken over: epoch {now} after {then}");
        let value = f64::from(u32::try_from(now).unwrap_or(u32::MAX));
        let usual = Some(f64::from(u32::try_from(then).unwrap_or(u32::MAX)));
        found.push(Finding { name: "takeover".to_owned(), words, value, usual });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(minute: u64, name: &str, value: f64) -> ContextRow {
        ContextRow {
            minute,
            instance: "a pid 1".to_owned(),
            service: "kx-server".to_owned(),
            build: "0.1.0 abc".to_owned(),
            started: 0,
            epoch: 4,
            values: BTreeMap::from([(name.to_owned(), value)]),
        }
    }

    fn names(at: &[ContextRow], before: &[ContextRow]) -> Vec<String> {
        findings(at, before).into_iter().map(|each| each.name).collect()
    }

    #[test]
    fn a_long_queue_is_told_with_what_is_usual() {
        let before: Vec<_> =
            (100..130).map(|minute| row(minute, "kx_queue_messages", 3.0)).collect();
        let found = findings(&[row(130, "kx_queue_messages", 412.0)], &before);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].words, "the queue was long: 412 commands, usually 3 commands");
        assert!(
            names(&[row(130, "kx_queue_messages", 30.0)], &before).is_empty(),
            "too few to matter"
        );
        assert!(
            names(&[row(130, "kx_queue_messages", 412.0)], &before[..5]).is_empty(),
            "no past yet"
        );
    }

    #[test]
    fn what_should_never_be_needs_no_past() {
        let down = findings(&[row(130, "kx_database_up", 1.0)], &[]);
        assert_eq!(down[0].words, "the database did not answer");
        assert!(names(&[row(130, "kx_database_up", 0.0)], &[]).is_empty());
        assert_eq!(
            names(&[row(130, "kx_circuit_breaker_state", 2.0)], &[]),
            ["kx_circuit_breaker_state"]
        );
    }

    #[test]
    fn a_restart_a_deploy_and_a_takeover_are_told() {
        let before = [row(129, "requests", 1.0)];
        let mut new = row(130, "requests", 1.0);
        new.instance = "a pid 2".to_owned();
        new.started = 130 * 60_000_000;
        assert_eq!(names(std::slice::from_ref(&new), &before), ["restart"]);
        new.build = "0.1.0 def".to_owned();
        new.epoch = 5;
        let found = findings(&[new], &before);
        assert!(found[0].words.contains("0.1.0 def in place of 0.1.0 abc"), "{found:?}");
        assert_eq!(found[1].words, "the journal was taken over: epoch 5 after 4");
        assert!(names(&before, &[row(128, "requests", 1.0)]).is_empty());
    }
}
