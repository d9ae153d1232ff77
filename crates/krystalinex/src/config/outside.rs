//! Settings of what is asked of other exchanges.

use std::time::Duration;

use feeds::{Settings, Source, Timing};

use super::Reader;

const STALE_SECONDS_MIN: u64 = 15;
const STALE_SECONDS_MAX: u64 = 600;

/// Which other exchanges are asked for prices. What was said is never part of the message: it may have a password in it.
pub(super) fn price_feeds(reader: &mut Reader<'_>) -> Settings {
    let seconds = |text: &str| {
        let range = STALE_SECONDS_MIN..=STALE_SECONDS_MAX;
        text.parse().ok().filter(|seconds| range.contains(seconds)).map(Duration::from_secs)
    };
    // More than one answer of a source that is asked every ten seconds must fit.
    let rule = "a whole number from 15 to 600";
    let stale = reader.read("KX_PRICE_FEEDS_STALE_SECONDS", rule, seconds).unwrap_or_default();
    let text = reader.text("KX_PRICE_FEEDS").unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let sources = match parts.map(str::parse).collect::<Result<Vec<Source>, _>>() {
        Ok(sources) => sources,
        Err(error) => {
            reader.faults.push(format!("KX_PRICE_FEEDS: {error}"));
            Vec::new()
        }
    };
    let twice = |(at, source): (usize, &Source)| {
        sources[..at].iter().any(|before| before.kind == source.kind)
    };
    if sources.iter().enumerate().any(twice) {
        reader.faults.push("KX_PRICE_FEEDS: it names a source twice".to_owned());
    }
    Settings { sources, timing: Timing { stale, ..Timing::default() } }
}
