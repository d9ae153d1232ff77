//! Traces, read as whoever looks at one reads them, and all at once as they are stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use e2e::{Answer, Psql};
use serde_json::Value;
use trace::{BatchTiming, PROCESSOR, Request, SERVER, Stage, build, stages};

/// The stages of an order that was decided in time, in the order of its way.
pub(crate) const STAGES: [Stage; 8] = [
    Stage::Authenticate,
    Stage::Validate,
    Stage::Publish,
    Stage::Queue,
    Stage::Decide,
    Stage::Append,
    Stage::Broadcast,
    Stage::Answer,
];

/// A span of the public trace.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    /// When it began and ended, in microseconds after the trace.
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// Reads a public trace's spans.
pub(crate) fn spans(trace: &Value) -> Vec<Span> {
    let text = |span: &Value, name: &str| span[name].as_str().map(str::to_owned);
    let number = |span: &Value, name: &str| span[name].as_u64().expect("a span has times");
    let of = |span: &Value| Span {
        id: text(span, "spanId").expect("a span has an id"),
        parent: text(span, "parentSpanId"),
        service: text(span, "service").unwrap_or_default(),
        name: text(span, "name").unwrap_or_default(),
        kind: text(span, "kind").unwrap_or_default(),
        from: number(span, "offsetMicros"),
        until: number(span, "offsetMicros") + number(span, "durationMicros"),
    };
    trace["spans"].as_array().into_iter().flatten().map(of).collect()
}

/// Returns the longest piece of a span's time, in microseconds, in which none of the others was under way.
pub(crate) fn longest_gap<'a>(whole: &Span, others: impl Iterator<Item = &'a Span>) -> u64 {
    let mut others: Vec<(u64, u64)> = others.map(|span| (span.from, span.until)).collect();
    others.sort_unstable();
    let (mut at, mut longest) = (whole.from, 0);
    for (from, until) in others {
        longest = longest.max(from.min(whole.until).saturating_sub(at));
        at = at.max(until);
    }
    longest.max(whole.until.saturating_sub(at))
}

/// Reads the stages of an order's answer, in microseconds; none where it has no `Server-Timing`.
pub(crate) fn server_timing(answer: &Answer) -> Option<BTreeMap<String, u64>> {
    let (_, header) = answer.headers.iter().find(|(name, _)| name == "server-timing")?;
    let entry = |entry: &str| {
        let (name, rest) = entry.split_once(";dur=")?;
        let millis: f64 = rest.split(';').next()?.parse().ok()?;
        let micros = std::time::Duration::from_secs_f64(millis / 1_000.0).as_micros();
        Some((name.to_owned(), u64::try_from(micros).ok()?))
    };
    header.split(", ").map(entry).collect()
}

/// What stands in the store.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The trace of each command whose trace is complete.
    pub(crate) complete: HashMap<u128, u128>,
    /// What is known of commands whose trace is not.
    pub(crate) wanting: HashMap<u128, String>,
}

/// Reads the traces of all commands that were noted since a moment of the database's clock.
pub(crate) fn stored(psql: &Psql, since: &str) -> Stored {
    let timings = psql.rows(&format!(
        "SELECT sequence, encode(payload, 'hex') FROM trace_batches WHERE noted_at >= '{since}'"
    ));
    let mut batches: HashMap<u64, BatchTiming> = HashMap::new();
    for row in timings {
        let (sequence, payload) = row.split_once('|').expect("it is two columns");
        let timing = BatchTiming::decode(&bytes(payload)).expect("a row's times can be read");
        batches.insert(sequence.parse().expect("it is a number"), timing);
    }
    let rows = psql.rows(&format!(
        "SELECT encode(payload, 'hex') FROM trace_requests WHERE ended_at >= '{since}'"
    ));
    let mut stored = Stored::default();
    for row in rows {
        let requests = trace::unpack_requests(&bytes(&row), |_| true);
        for mut request in requests.expect("a row of requests can be read") {
            let Some(sent) = &request.sent else { continue };
            let command = sent.command;
            let timing = sent.outcome.and_then(|outcome| batches.get(&outcome.sequence));
            request.timing = timing.cloned().map(Into::into);
            match wanting(&request) {
                None => _ = stored.complete.insert(command, request.trace_id),
                Some(what) => _ = stored.wanting.insert(command, what),
            }
        }
    }
    stored.wanting.retain(|command, _| !stored.complete.contains_key(command));
    stored
}

/// Says what a request's trace has not.
fn wanting(request: &Request) -> Option<String> {
    let timed = stages(request);
    let names: Vec<Stage> = timed.iter().map(|timed| timed.stage).collect();
    if names != STAGES {
        return Some(format!("its stages are {names:?}, its status is {}", request.status));
    }
    let whole: u64 = timed.iter().map(|timed| u64::from(timed.micros)).sum();
    if whole != u64::from(request.ended) {
        return Some(format!("its stages are {whole} of {} µs", request.ended));
    }
    let spans = build(request, None, &[]);
    let services: HashSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let both = services.contains(SERVER) && services.contains(PROCESSOR);
    (spans.len() < 12 || !both).then(|| format!("{} spans of {services:?}", spans.len()))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("it is hexadecimal")).collect()
}
