//! Finding traces again: by their id, or by what is looked for.
//!
//! Invariant: a search reads a bounded number of rows, newest first; what lies beyond is not found, and the answer is no
//! larger than asked.

use std::collections::{BTreeMap, HashSet};

use store::traces::RequestsRow;
use store::{Db, StoreError};
use trace::{Decided, PROCESSOR, Request, SERVER, Span, build, stages, time_of, unpack_requests};
use units::CommandId;

use crate::writer::ROW_MICROS;

/// Rows of requests that one look at the store brings.
const ROWS_AT_ONCE: u32 = 64;
/// Rows that a search reads at most: a quarter of an hour of one busy server.
const ROWS_MAX: usize = 2_048;
/// Spans of other services that are shown of one trace.
const OTHERS_MAX: u32 = 256;
/// Requests that are shown of one trace: somebody may send all of theirs with one id.
const REQUESTS_MAX: usize = 64;
/// How far the clock with which a trace id was made may be from the one by which its request was noted, in microseconds.
const SKEW: u64 = 100_000;

/// Finds a trace's spans, in the order in which they began; none where nothing is known of it.
///
/// # Errors
///
/// [`StoreError`].
pub async fn find(db: &Db, trace_id: u128) -> Result<Vec<Span>, StoreError> {
    let requests = requests_of(db, trace_id).await?;
    spans_of(db, trace_id, requests.into_iter().map(|(_, request)| request).collect()).await
}

/// Finds the slowest request of a trace, with its times, and the process that has answered it.
pub(crate) async fn slowest(
    db: &Db,
    trace_id: u128,
) -> Result<Option<(String, Request)>, StoreError> {
    let requests = requests_of(db, trace_id).await?;
    let Some((instance, mut request)) =
        requests.into_iter().max_by_key(|(_, request)| request.ended)
    else {
        return Ok(None);
    };
    add_times(db, &mut request).await?;
    Ok(Some((instance, request)))
}

/// Finds the requests of a trace, and the process that has answered each.
async fn requests_of(db: &Db, trace_id: u128) -> Result<Vec<(String, Request)>, StoreError> {
    let mut moments = store::traces::uses_of_foreign(db, trace_id).await?;
    moments.push(time_of(trace_id).saturating_mul(1_000));
    let mut seen = HashSet::new();
    let mut requests = Vec::new();
    for moment in moments {
        if requests.len() >= REQUESTS_MAX {
            break;
        }
        for row in store::traces::requests_at(db, moment, SKEW).await? {
            if seen.insert((row.begun, row.instance.clone())) {
                let of_row = unpack(&row, |id| id == trace_id).into_iter();
                requests.extend(of_row.map(|request| (row.instance.clone(), request)));
            }
        }
    }
    requests.truncate(REQUESTS_MAX);
    Ok(requests)
}

/// Adds the times of the row that a request's command is in, and returns where that is.
async fn add_times(db: &Db, request: &mut Request) -> Result<Option<Decided>, StoreError> {
    let Some(sent) = &request.sent else { return Ok(None) };
    let decided = match sent.outcome {
        Some(outcome) => Some(outcome.into()),
        None if sent.was_given_up() => decided_later(db, sent.command).await?,
        None => None,
    };
    if let Some(decided) = decided {
        let begun = request.origin.wall(request.begun);
        let timing = store::traces::batch(db, decided.sequence, begun).await?;
        request.timing = timing.map(Into::into);
    }
    Ok(decided)
}

/// Finds where a command was decided whose request was answered before that.
async fn decided_later(db: &Db, command: u128) -> Result<Option<Decided>, StoreError> {
    let found = store::lookup::decided_at(db, CommandId::new(command)).await?;
    Ok(found.and_then(|(sequence, place)| {
        Some(Decided { sequence: sequence.get(), index: u32::try_from(place).ok()? })
    }))
}

/// Reads what stands in a row; a row in an unknown form has nothing.
fn unpack(row: &RequestsRow, wanted: impl Fn(u128) -> bool) -> Vec<Request> {
    unpack_requests(&row.payload, wanted).unwrap_or_default()
}

/// Builds the spans of a trace's requests, and adds those of others.
async fn spans_of(
    db: &Db,
    trace_id: u128,
    requests: Vec<Request>,
) -> Result<Vec<Span>, StoreError> {
    let mut spans = Vec::new();
    for mut request in requests {
        let begun = request.origin.wall(request.begun);
        let mut projections = Vec::new();
        let decided = add_times(db, &mut request).await?;
        if let Some(decided) = decided {
            projections = store::traces::projections(db, decided.sequence, begun).await?;
        }
        spans.extend(build(&request, decided, &projections));
    }
    let others = store::traces::spans(db, trace_id, OTHERS_MAX).await?;
    Ok(in_order(spans, others))
}

/// Puts our spans and others' in the order in which they began. Those of one microsecond stay as they are: others' first, for
/// a caller's span holds ours, and ours as they were built, each stage after the one before it however short that was.
fn in_order(ours: Vec<Span>, mut others: Vec<Span>) -> Vec<Span> {
    // Whoever has seen a trace knows our spans' ids: none of others' takes the place of one.
    let known: HashSet<u64> = ours.iter().map(|span| span.span_id).collect();
    others.retain(|span| !known.contains(&span.span_id));
    others.extend(ours);
    others.sort_by_key(|span| span.begun);
    others
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whose spans.
    pub service: String,
    /// The name of one of them.
    pub operation: Option<String>,
    /// When the request began at the earliest, in microseconds since 1970.
    pub from: u64,
    /// And at the latest.
    pub until: u64,
    /// How long it took at least, in microseconds.
    pub micros_min: u64,
    /// And at most.
    pub micros_max: u64,
    /// What its spans say of themselves.
    pub tags: BTreeMap<String, String>,
    /// How many traces are wanted.
    pub limit: usize,
}

/// Finds the newest traces that fit.
///
/// # Errors
///
/// [`StoreError`].
pub async fn search(db: &Db, query: &Query) -> Result<Vec<Vec<Span>>, StoreError> {
    if query.service != SERVER && query.service != PROCESSOR {
        return search_others(db, query).await;
    }
    let mut found: Vec<Request> = Vec::new();
    let (mut until, mut read) = (query.until, 0);
    // A row that began before may have what began after.
    let from = query.from.saturating_sub(ROW_MICROS);
    while found.len() < query.limit && read < ROWS_MAX {
        let rows = store::traces::requests(db, from, until, query.micros_min, ROWS_AT_ONCE).await?;
        read += rows.len();
        let Some(last) = rows.last() else { break };
        // Rows of two servers that begin in one microsecond: one of them may be left out.
        until = last.begun.saturating_sub(1);
        for row in &rows {
            let mut fitting = unpack(row, |_| true);
            fitting.retain(|request| fits(request, query));
            fitting.sort_by_key(|request| std::cmp::Reverse(request.begun));
            found.extend(fitting);
        }
    }
    let mut traces = Vec::new();
    let mut seen = HashSet::new();
    for request in found {
        if traces.len() >= query.limit {
            break;
        }
        let trace_id = request.trace_id;
        if !seen.insert(trace_id) {
            continue;
        }
        // One from elsewhere may have had several requests.
        let spans = match request.is_foreign {
            true => find(db, trace_id).await?,
            false => spans_of(db, trace_id, vec![request]).await?,
        };
        traces.push(spans);
    }
    Ok(traces)
}

async fn search_others(db: &Db, query: &Query) -> Result<Vec<Vec<Span>>, StoreError> {
    let limit = u32::try_from(query.limit).unwrap_or(u32::MAX);
    let (service, from, until) = (query.service.as_str(), query.from, query.until);
    let mut traces = Vec::new();
    for trace_id in store::traces::traces_of(db, service, from, until, limit).await? {
        let spans = find(db, trace_id).await?;
        let named = |span: &Span| {
            span.service == query.service
                && query.operation.as_ref().is_none_or(|name| *name == span.name)
                && (query.micros_min..=query.micros_max).contains(&span.micros)
        };
        if spans.iter().any(named) {
            traces.push(spans);
        }
    }
    Ok(traces)
}

fn fits(request: &Request, query: &Query) -> bool {
    let begun = request.origin.wall(request.begun);
    let root = format!("{} {}", request.method, request.route);
    let is_decided = request.sent.as_ref().is_some_and(|sent| sent.outcome.is_some());
    let named = |operation: &String| match query.service.as_str() {
        SERVER => {
            *operation == root || stages(request).iter().any(|each| each.stage.name() == operation)
        }
        _ => PROCESSOR_OPERATIONS.contains(&operation.as_str()),
    };
    let tagged = |(name, value): (&String, &String)| match name.as_str() {
        "error" => (request.status >= 500) == (value == "true"),
        "http.response.status_code" | "http.status_code" => request.status.to_string() == *value,
        "http.route" => *request.route == *value,
        "kx.market" => request
            .sent
            .as_ref()
            .and_then(|sent| sent.market.as_ref())
            .is_some_and(|of| of == value),
        "kx.action" => request.sent.as_ref().is_some_and(|sent| sent.action == *value),
        _ => false,
    };
    (query.service != PROCESSOR || is_decided)
        && (query.from..=query.until).contains(&begun)
        && (query.micros_min..=query.micros_max).contains(&request.ended.into())
        && query.operation.as_ref().is_none_or(named)
        && query.tags.iter().all(tagged)
}

/// The names of the payment processor's spans.
pub(crate) const PROCESSOR_OPERATIONS: [&str; 10] = [
    "append",
    "batch",
    "broadcast",
    "decide",
    "process",
    "project market_data",
    "project money",
    "project orders",
    "queue",
    "settle",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::span;

    #[test]
    fn spans_of_one_microsecond_keep_their_order() {
        // A request, its first stage of less than a microsecond, and the next; the caller's, one that has the number of ours.
        let ours = vec![span(1, 9, 10), Span { micros: 0, ..span(2, 1, 10) }, span(3, 1, 10)];
        let others = vec![span(8, 0, 20), span(9, 0, 10), Span { micros: 7, ..span(2, 0, 5) }];
        let ordered = in_order(ours, others);
        let ids: Vec<u64> = ordered.iter().map(|span| span.span_id).collect();
        assert_eq!(ids, [9, 1, 2, 3, 8]);
        assert_eq!(ordered[2].micros, 0, "ours stays");
    }
}
