//! The book that was published beside a recording: what the replay's book must be.
//!
//! Invariant: numbers are compared exactly, from their text.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decimal::Decimal;
use super::output::{BookText, Levels};

#[derive(Deserialize)]
struct Raw {
    bids: Vec<[Box<RawValue>; 2]>,
    asks: Vec<[Box<RawValue>; 2]>,
}

type Level = (Decimal, Decimal);

/// Returns the published book beside `NAME.in`: `NAME.out`, if it is there.
pub(crate) fn beside(path: &Path) -> Option<PathBuf> {
    let published = path.with_extension("out");
    (path.extension()? == "in" && published.is_file()).then_some(published)
}

/// Compares the book with the published one, as deep as that is: the differences in words, and the levels that
/// were compared.
///
/// # Errors
///
/// The published book cannot be read.
pub(crate) fn compare(path: &Path, book: &BookText) -> anyhow::Result<(Vec<String>, usize)> {
    let about = || format!("cannot read the published book {}", path.display());
    let text = std::fs::read_to_string(path).with_context(about)?;
    let raw: Raw = serde_json::from_str(&text).with_context(about)?;
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, theirs, ours, falling) in
        [("bid", raw.bids, &book.bids, true), ("ask", raw.asks, &book.asks, false)]
    {
        let mut theirs = theirs
            .iter()
            .map(level)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|reason| anyhow::anyhow!("{}: {reason}", about()))?;
        theirs.sort_by(order);
        if falling {
            theirs.reverse();
        }
        let ours = texts(ours);
        for (index, published) in theirs.iter().enumerate() {
            compared += 1;
            if ours.get(index) != Some(published) {
                let have = ours.get(index).map_or("nothing".to_owned(), level_text);
                let text = level_text(published);
                let place = index + 1;
                differences
                    .push(format!("{name} {place}: the book has {have}; published is {text}"));
            }
        }
    }
    Ok((differences, compared))
}

fn level([price, quantity]: &[Box<RawValue>; 2]) -> Result<Level, String> {
    let number = |raw: &RawValue| {
        let text = raw.get().trim_matches('"');
        let written = Decimal::parse(text.as_bytes());
        written.map(|written| written.value).map_err(|reason| format!("{text} {reason}"))
    };
    Ok((number(price)?, number(quantity)?))
}

fn texts(levels: &Levels) -> Vec<Level> {
    let number = |text: &str| Decimal::parse(text.as_bytes()).map(|written| written.value);
    let level =
        |[price, quantity]: &[String; 2]| Some((number(price).ok()?, number(quantity).ok()?));
    levels.iter().filter_map(level).collect()
}

fn order(a: &Level, b: &Level) -> std::cmp::Ordering {
    let scale = a.0.scale().max(b.0.scale());
    a.0.units_at(scale).cmp(&b.0.units_at(scale))
}

fn level_text((price, quantity): &Level) -> String {
    format!("{quantity} at {price}")
}
