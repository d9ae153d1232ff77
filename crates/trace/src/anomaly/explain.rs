//! Says in words why a request was slow: which stage, how far from its baseline, and what else was unusual.
//!
//! Invariant: only what was measured is said. Without a baseline there is no "usually", and nothing is called a cause that
//! was merely there at the same time.

use std::collections::HashMap;

use super::context::Finding;
use super::detector::operation;
use super::{Figures, Part};
use crate::record::Request;
use crate::waterfall::{Stage, Timed, stages};

/// What is known about what is usual, and about the minute.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What is usual for the request's operation.
    pub usual: HashMap<Part, Figures>,
    /// What was unusual at that minute; `None` where nobody has seen the minute, or it is not over yet.
    pub findings: Option<Vec<Finding>>,
}

/// One stage, explained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explained {
    /// The stage.
    pub stage: Stage,
    /// How long it took, in microseconds.
    pub observed: u64,
    /// What is usual, where it is known.
    pub usual: Option<Figures>,
    /// How many times the median it took.
    pub factor: Option<f64>,
    /// Whether it took longer than 99 of 100 do, by enough to be seen.
    pub is_unusual: bool,
    /// Whether it was worked out of two machines' clocks.
    pub estimated: bool,
}

/// The whole request, explained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// How long it took, in microseconds.
    pub observed: u64,
    /// What is usual, where it is known.
    pub usual: Option<Figures>,
    /// How many times the median it took.
    pub factor: Option<f64>,
}

/// Why a request took as long as it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What it asked for.
    pub operation: String,
    /// In words: some sentences.
    pub words: Vec<String>,
    /// The whole.
    pub whole: Whole,
    /// The stages, in the order of the way.
    pub stages: Vec<Explained>,
    /// The stage in which most was lost, where one was unusual.
    pub main: Option<Stage>,
    /// What else was unusual; `None` where it is not known.
    pub findings: Option<Vec<Finding>>,
}

/// Less than this beyond the p99 is not worth a word, in microseconds.
const SEEN: u64 = 1_000;

/// Explains a request.
#[must_use]
pub fn explain(request: &Request, known: &Known) -> Explanation {
    let usual = |part: Part| known.usual.get(&part).copied().filter(Figures::is_known);
    let explained = |timed: &Timed| {
        let (observed, usual) = (u64::from(timed.micros), usual(Some(timed.stage)));
        Explained {
            stage: timed.stage,
            observed,
            usual,
            factor: usual.map(|usual| factor(observed, usual.p50)),
            is_unusual: usual.is_some_and(|usual| is_beyond(observed, usual)),
            estimated: timed.estimated,
        }
    };
    let stages: Vec<Explained> = stages(request).iter().map(explained).collect();
    let observed = u64::from(request.ended);
    let of_whole = usual(None);
    let whole = Whole {
        observed,
        usual: of_whole,
        factor: of_whole.map(|usual| factor(observed, usual.p50)),
    };
    let lost = |each: &&Explained| each.observed - each.usual.map_or(0, |usual| usual.p50);
    let main = stages.iter().filter(|each| each.is_unusual).max_by_key(lost).copied();
    let operation = operation(request);
    let mut words = vec![of_the_whole(&operation, &whole)];
    words.extend(of_the_stages(&stages, main.as_ref()));
    words.push(of_the_minute(known.findings.as_deref()));
    Explanation {
        operation,
        words,
        whole,
        stages,
        main: main.map(|main| main.stage),
        findings: known.findings.clone(),
    }
}

fn is_beyond(observed: u64, usual: Figures) -> bool {
    observed > usual.p99.saturating_add(SEEN)
}

fn factor(observed: u64, usual: u64) -> f64 {
    let real = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX));
    real(observed) / real(usual.max(1))
}

/// Writes microseconds as people read them.
#[must_use]
pub fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

fn times(factor: f64) -> String {
    if factor < 10.0 { format!("{factor:.1} times") } else { format!("{factor:.0} times") }
}

fn of_the_whole(operation: &str, whole: &Whole) -> String {
    let observed = took(whole.observed);
    let Some(usual) = whole.usual else {
        return format!("{operation} took {observed}; what is usual for it is not known yet.");
    };
    let (p50, p99) = (took(usual.p50), took(usual.p99));
    let judged = if is_beyond(whole.observed, usual) {
        format!("{} its median", times(factor(whole.observed, usual.p50)))
    } else {
        "which is as usual".to_owned()
    };
    format!(
        "{operation} took {observed}, {judged}: half of them take at most {p50}, 99 of 100 at most {p99}."
    )
}

fn of_the_stages(stages: &[Explained], main: Option<&Explained>) -> Vec<String> {
    let mut words = Vec::new();
    let Some((main, usual)) = main.and_then(|main| Some((main, main.usual?))) else {
        if stages.iter().any(|each| each.usual.is_some()) {
            words.push("No stage took longer than 99 of 100 do.".to_owned());
        } else if let Some(longest) = stages.iter().max_by_key(|each| each.observed) {
            let (name, observed) = (longest.stage.name(), took(longest.observed));
            words.push(format!("The longest stage was {name} with {observed}."));
        }
        return words;
    };
    words.push(format!(
        "The stage {} took {}, {} its median of {}; 99 of 100 take at most {}, the mean is {} with a standard deviation of {}{}.",
        main.stage.name(),
        took(main.observed),
        times(factor(main.observed, usual.p50)),
        took(usual.p50),
        took(usual.p99),
        took(usual.mean),
        took(usual.sigma),
        if main.estimated { " (estimated: two machines' clocks)" } else { "" },
    ));
    let others: Vec<String> = stages
        .iter()
        .filter(|each| each.is_unusual && each.stage != main.stage)
        .filter_map(|each| {
            let usual = each.usual?;
            Some(format!(
                "{} ({}, usually {})",
                each.stage.name(),
                took(each.observed),
                took(usual.p50)
            ))
        })
        .collect();
    words.push(match others.as_slice() {
        [] => "Every other stage was as usual.".to_owned(),
        all => format!("Slow too: {}.", all.join(", ")),
    });
    words
}

fn of_the_minute(findings: Option<&[Finding]>) -> String {
    let Some(findings) = findings else {
        return "What else was so at that minute is not known, or not yet: it is noted when the minute is over."
            .to_owned();
    };
    if findings.is_empty() {
        return "Nothing else was unusual at that minute, as far as it was measured.".to_owned();
    }
    let all: Vec<&str> = findings.iter().map(|each| each.words.as_str()).collect();
    format!("At the same minute: {}.", all.join("; "))
}
