//! The built-in trace store. Nothing stands on it: what is lost here is a picture, never money.
//!
//! Invariant: a write here never waits for the disk (`synchronous_commit` is off for it), so that it takes none of the
//! journal's time.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use trace::{BatchTiming, Kind, ProjectionTiming, Span, Value};
use uuid::Uuid;

use crate::numbers::{bits_to_i64, i64_to_bits, to_i64};
use crate::{Db, StoreError};

/// Rows that one statement of the sweeper deletes at most.
const SWEEP_ROWS: i64 = 1_000;

/// What is written at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Requests of one server, packed.
    pub requests: Option<RequestsRow>,
    /// Traces whose ids are not ours, and when they were used, in microseconds since 1970.
    pub foreign: Vec<(u128, u64)>,
    /// Journal rows: sequence, incarnation, packed times.
    pub batches: Vec<(u64, u64, Vec<u8>)>,
    /// Projections: the first and the last journal row, and when they were written.
    pub projections: Vec<(u64, u64, ProjectionTiming)>,
}

/// Requests of one server, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestsRow {
    /// When the first began, in microseconds since 1970.
    pub begun: u64,
    /// When they were taken together.
    pub ended: u64,
    /// The server.
    pub instance: String,
    /// How many they are.
    pub requests: u32,
    /// How long the slowest took, in microseconds.
    pub slowest: u64,
    /// What [`trace::pack_requests`] has made of them.
    pub payload: Vec<u8>,
}

fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes what was noted, in one transaction.
///
/// # Errors
///
/// [`StoreError`]; nothing is written then.
pub async fn write(db: &Db, batch: &Batch) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    if let Some(row) = &batch.requests {
        let text = "INSERT INTO trace_requests
            (begun_at, ended_at, instance, requests, slowest_micros, payload) VALUES ($1, $2, $3, $4, $5, $6)";
        let statement = transaction.prepare_cached(text).await?;
        let requests = i32::try_from(row.requests).unwrap_or(i32::MAX);
        let (begun, ended, slowest) = (time(row.begun), time(row.ended), to_i64(row.slowest)?);
        transaction
            .execute(
                &statement,
                &[&begun, &ended, &row.instance, &requests, &slowest, &row.payload],
            )
            .await?;
    }
    if !batch.foreign.is_empty() {
        let ids: Vec<Uuid> = batch.foreign.iter().map(|(id, _)| Uuid::from_u128(*id)).collect();
        let times: Vec<SystemTime> = batch.foreign.iter().map(|(_, at)| time(*at)).collect();
        let text = "INSERT INTO trace_foreign (trace_id, begun_at)
            SELECT * FROM unnest($1::uuid[], $2::timestamptz[])";
        let statement = transaction.prepare_cached(text).await?;
        transaction.execute(&statement, &[&ids, &times]).await?;
    }
    write_batches(&transaction, batch).await?;
    write_projections(&transaction, batch).await?;
    Ok(transaction.commit().await?)
}

async fn write_batches(
    transaction: &deadpool_postgres::Transaction<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    if batch.batches.is_empty() {
        return Ok(());
    }
    let mut sequences = Vec::with_capacity(batch.batches.len());
    for (sequence, ..) in &batch.batches {
        sequences.push(to_i64(*sequence)?);
    }
    let incarnations: Vec<i64> =
        batch.batches.iter().map(|(_, incarnation, _)| bits_to_i64(*incarnation)).collect();
    let payloads: Vec<&[u8]> = batch.batches.iter().map(|(.., bytes)| bytes.as_slice()).collect();
    let text = "INSERT INTO trace_batches (sequence, incarnation, noted_at, payload)
        SELECT s, i, clock_timestamp(), p FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS t (s, i, p)
        ON CONFLICT DO NOTHING";
    let statement = transaction.prepare_cached(text).await?;
    transaction.execute(&statement, &[&sequences, &incarnations, &payloads]).await?;
    Ok(())
}

async fn write_projections(
    transaction: &deadpool_postgres::Transaction<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    if batch.projections.is_empty() {
        return Ok(());
    }
    let (mut parts, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut begun, mut took) = (Vec::new(), Vec::new());
    for (first, last, timing) in &batch.projections {
        parts.push(timing.part.as_str());
        firsts.push(to_i64(*first)?);
        lasts.push(to_i64(*last)?);
        begun.push(time(timing.begun));
        took.push(to_i64(timing.micros)?);
    }
    let text = "INSERT INTO trace_projections (part, first_sequence, last_sequence, begun_at, micros)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::bigint[])";
    let statement = transaction.prepare_cached(text).await?;
    transaction.execute(&statement, &[&parts, &firsts, &lasts, &begun, &took]).await?;
    Ok(())
}

/// Writes spans that another service has sent; one that is there already stays as it is. Returns how many were new.
///
/// # Errors
///
/// [`StoreError`]; none is written then.
pub async fn write_spans(db: &Db, spans: &[Span]) -> Result<u64, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let text = "INSERT INTO trace_spans
        (trace_id, span_id, parent_id, service, name, kind, begun_at, micros, failed, attributes)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    let statement = transaction.prepare_cached(text).await?;
    let mut new = 0;
    for span in spans {
        let kind = i16::try_from(span.kind.number()).unwrap_or(1);
        let attributes: serde_json::Map<String, Json> = span.attributes.iter().map(json).collect();
        new += transaction
            .execute(
                &statement,
                &[
                    &Uuid::from_u128(span.trace_id),
                    &bits_to_i64(span.span_id),
                    &bits_to_i64(span.parent_id),
                    &span.service,
                    &span.name,
                    &kind,
                    &time(span.begun),
                    &to_i64(span.micros)?,
                    &span.failed,
                    &Json::Object(attributes),
                ],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(new)
}

fn json((name, value): &(String, Value)) -> (String, Json) {
    let value = match value {
        Value::Text(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Bool(value) => Json::from(*value),
    };
    (name.clone(), value)
}

/// Returns the spans that other services have sent of a trace, at most `limit`.
///
/// # Errors
///
/// [`StoreError`].
pub async fn spans(db: &Db, trace_id: u128, limit: u32) -> Result<Vec<Span>, StoreError> {
    let client = db.get().await?;
    let text =
        "SELECT span_id, parent_id, service, name, kind, begun_at, micros, failed, attributes
        FROM trace_spans WHERE trace_id = $1 ORDER BY begun_at LIMIT $2";
    let statement = client.prepare_cached(text).await?;
    let rows = client.query(&statement, &[&Uuid::from_u128(trace_id), &i64::from(limit)]).await?;
    let span = |row: &tokio_postgres::Row| {
        let attributes = match row.get::<_, Json>(8) {
            Json::Object(map) => map.into_iter().map(attribute).collect(),
            _ => Vec::new(),
        };
        Span {
            trace_id,
            span_id: i64_to_bits(row.get(0)),
            parent_id: i64_to_bits(row.get(1)),
            service: row.get(2),
            name: row.get(3),
            kind: Kind::of_number(row.get::<_, i16>(4).into()),
            begun: micros(row.get(5)),
            micros: u64::try_from(row.get::<_, i64>(6)).unwrap_or(0),
            attributes,
            follows: Vec::new(),
            failed: row.get(7),
        }
    };
    Ok(rows.iter().map(span).collect())
}

fn attribute((name, value): (String, Json)) -> (String, Value) {
    let value = match value {
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) if number.is_i64() => Value::Integer(number.as_i64().unwrap_or(0)),
        Json::String(text) => Value::Text(text),
        other => Value::Text(other.to_string()),
    };
    (name, value)
}

/// Returns the traces of a service other than ours whose spans began in a span of time, newest first.
///
/// # Errors
///
/// [`StoreError`].
pub async fn traces_of(
    db: &Db,
    service: &str,
    from: u64,
    until: u64,
    limit: u32,
) -> Result<Vec<u128>, StoreError> {
    let client = db.get().await?;
    let text = "SELECT trace_id FROM trace_spans WHERE service = $1 AND begun_at BETWEEN $2 AND $3
        GROUP BY trace_id ORDER BY max(begun_at) DESC LIMIT $4";
    let statement = client.prepare_cached(text).await?;
    let (from, until) = (time(from), time(until));
    let rows = client.query(&statement, &[&service, &from, &until, &i64::from(limit)]).await?;
    Ok(rows.iter().map(|row| row.get::<_, Uuid>(0).as_u128()).collect())
}

/// Returns the names of the spans that other services have sent lately, by service.
///
/// # Errors
///
/// [`StoreError`].
pub async fn operations(db: &Db) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let client = db.get().await?;
    let text = "SELECT DISTINCT service, name FROM (SELECT service, name FROM trace_spans
        ORDER BY received_at DESC LIMIT 10000) AS lately ORDER BY service, name LIMIT 1000";
    let statement = client.prepare_cached(text).await?;
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query(&statement, &[]).await? {
        all.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(all)
}

/// Returns the rows whose requests may have been under way at a moment, in microseconds since 1970, give or take `skew`.
///
/// # Errors
///
/// [`StoreError`].
pub async fn requests_at(db: &Db, moment: u64, skew: u64) -> Result<Vec<RequestsRow>, StoreError> {
    let client = db.get().await?;
    // A row has what was noted within a second, and what takes longest is cut off after 30.
    let text =
        "SELECT begun_at, ended_at, instance, requests, slowest_micros, payload FROM trace_requests
        WHERE begun_at BETWEEN $1::timestamptz - interval '60 seconds' AND $2 AND ended_at >= $1
        ORDER BY begun_at DESC LIMIT 1000";
    let statement = client.prepare_cached(text).await?;
    let (from, until) = (time(moment.saturating_sub(skew)), time(moment.saturating_add(skew)));
    let rows = client.query(&statement, &[&from, &until]).await?;
    Ok(rows.iter().map(requests_row).collect())
}

fn requests_row(row: &tokio_postgres::Row) -> RequestsRow {
    RequestsRow {
        begun: micros(row.get(0)),
        ended: micros(row.get(1)),
        instance: row.get(2),
        requests: u32::try_from(row.get::<_, i32>(3)).unwrap_or(0),
        slowest: u64::try_from(row.get::<_, i64>(4)).unwrap_or(0),
        payload: row.get(5),
    }
}

/// Returns rows of requests that begin in a span of time, newest first.
///
/// # Errors
///
/// [`StoreError`].
pub async fn requests(
    db: &Db,
    from: u64,
    until: u64,
    slowest_min: u64,
    limit: u32,
) -> Result<Vec<RequestsRow>, StoreError> {
    let client = db.get().await?;
    let text =
        "SELECT begun_at, ended_at, instance, requests, slowest_micros, payload FROM trace_requests
        WHERE begun_at BETWEEN $1 AND $2 AND slowest_micros >= $3 ORDER BY begun_at DESC LIMIT $4";
    let statement = client.prepare_cached(text).await?;
    let (from, until, least) = (time(from), time(until), to_i64(slowest_min)?);
    let rows = client.query(&statement, &[&from, &until, &least, &i64::from(limit)]).await?;
    Ok(rows.iter().map(requests_row).collect())
}

/// Returns when a trace whose id is not ours was used, newest first, at most 100 times.
///
/// # Errors
///
/// [`StoreError`].
pub async fn uses_of_foreign(db: &Db, trace_id: u128) -> Result<Vec<u64>, StoreError> {
    let client = db.get().await?;
    let text =
        "SELECT begun_at FROM trace_foreign WHERE trace_id = $1 ORDER BY begun_at DESC LIMIT 100";
    let statement = client.prepare_cached(text).await?;
    let rows = client.query(&statement, &[&Uuid::from_u128(trace_id)]).await?;
    Ok(rows.iter().map(|row| micros(row.get(0))).collect())
}

/// Returns the times of the journal row that was noted next after this moment, in microseconds since 1970. A journal that
/// was restored has rows of one number twice.
///
/// # Errors
///
/// [`StoreError`].
pub async fn batch(db: &Db, sequence: u64, after: u64) -> Result<Option<BatchTiming>, StoreError> {
    let client = db.get().await?;
    let text = "SELECT payload FROM trace_batches WHERE sequence = $1
        ORDER BY abs(extract(epoch FROM noted_at - $2::timestamptz)) LIMIT 1";
    let statement = client.prepare_cached(text).await?;
    let row = client.query_opt(&statement, &[&to_i64(sequence)?, &time(after)]).await?;
    Ok(row.and_then(|row| BatchTiming::decode(row.get(0))))
}

/// Returns when a journal row was written to the projections: each part's first time after this moment.
///
/// # Errors
///
/// [`StoreError`].
pub async fn projections(
    db: &Db,
    sequence: u64,
    after: u64,
) -> Result<Vec<ProjectionTiming>, StoreError> {
    let client = db.get().await?;
    // A transaction has a few thousand rows at most, so what has this one ends soon after it.
    let text = "SELECT DISTINCT ON (part) part, begun_at, micros FROM trace_projections
        WHERE last_sequence BETWEEN $1 AND $1 + 8192 AND first_sequence <= $1 AND begun_at >= $2
        ORDER BY part, begun_at";
    let statement = client.prepare_cached(text).await?;
    let rows = client.query(&statement, &[&to_i64(sequence)?, &time(after)]).await?;
    let timing = |row: &tokio_postgres::Row| ProjectionTiming {
        part: row.get(0),
        begun: micros(row.get(1)),
        micros: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
    };
    Ok(rows.iter().map(timing).collect())
}

/// Deletes what is older than this moment, and then the oldest requests until they take at most `bytes_max`. Returns how
/// many rows went; at most some thousands at once, so that it never holds anybody up.
///
/// # Errors
///
/// [`StoreError`].
pub async fn sweep(db: &Db, older_than: SystemTime, bytes_max: u64) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let mut gone = 0;
    for text in [
        "DELETE FROM trace_requests WHERE id IN
            (SELECT id FROM trace_requests WHERE begun_at < $1 ORDER BY begun_at LIMIT $2)",
        "DELETE FROM trace_foreign WHERE ctid IN
            (SELECT ctid FROM trace_foreign WHERE begun_at < $1 LIMIT $2)",
        "DELETE FROM trace_batches WHERE ctid IN
            (SELECT ctid FROM trace_batches WHERE noted_at < $1 LIMIT $2)",
        "DELETE FROM trace_projections WHERE ctid IN
            (SELECT ctid FROM trace_projections WHERE begun_at < $1 LIMIT $2)",
        "DELETE FROM trace_spans WHERE ctid IN
            (SELECT ctid FROM trace_spans WHERE received_at < $1 LIMIT $2)",
    ] {
        gone += client.execute(text, &[&older_than, &SWEEP_ROWS]).await?;
    }
    let size =
        "SELECT pg_total_relation_size('trace_requests') + pg_total_relation_size('trace_batches')
        + pg_total_relation_size('trace_foreign') + pg_total_relation_size('trace_spans')";
    let size: i64 = client.query_one(size, &[]).await?.get(0);
    if u64::try_from(size).unwrap_or(0) > bytes_max {
        // The oldest twentieth; what was deleted before and is not vacuumed yet counts, so it is taken step by step.
        let oldest = "SELECT begun_at FROM trace_requests ORDER BY begun_at
            OFFSET (SELECT count(*) / 20 FROM trace_requests) LIMIT 1";
        if let Some(row) = client.query_opt(oldest, &[]).await? {
            let until: SystemTime = row.get(0);
            for text in [
                "DELETE FROM trace_requests WHERE begun_at < $1",
                "DELETE FROM trace_foreign WHERE begun_at < $1",
                "DELETE FROM trace_batches WHERE noted_at < $1",
                "DELETE FROM trace_projections WHERE begun_at < $1",
                "DELETE FROM trace_spans WHERE received_at < $1",
            ] {
                gone += client.execute(text, &[&until]).await?;
            }
        }
    }
    Ok(gone)
}

/// Counts the kept requests whose command is in a journal row with times: the complete traces.
///
/// # Errors
///
/// [`StoreError`].
pub async fn count_complete(db: &Db) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let rows = client.query("SELECT sequence FROM trace_batches", &[]).await?;
    let timed: std::collections::HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let mut complete = 0;
    let mut last = 0_i64;
    loop {
        let text = "SELECT id, payload FROM trace_requests WHERE id > $1 ORDER BY id LIMIT 64";
        let rows = client.query(text, &[&last]).await?;
        if rows.is_empty() {
            return Ok(complete);
        }
        for row in rows {
            last = row.get(0);
            let requests = trace::unpack_requests(row.get(1), |_| true).unwrap_or_default();
            let outcomes = requests.iter().filter_map(|request| request.sent.as_ref()?.outcome);
            let known = outcomes
                .filter(|outcome| to_i64(outcome.sequence).is_ok_and(|at| timed.contains(&at)));
            complete += u64::try_from(known.count()).unwrap_or(0);
        }
    }
}
