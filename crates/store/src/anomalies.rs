//! Anomalies, baselines and what processes saw of themselves. Nothing stands on them.
//!
//! Invariant: an anomaly that is open stands once for its server, operation and stage, however often it is written; as in
//! [`crate::traces`], a write here never waits for the disk.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use tokio_postgres::Row;
use trace::anomaly::{
    Anomaly, Baseline, ContextRow, Figures, News, Part, Saved, part_name, part_of,
};
use units::Time;
use uuid::Uuid;

use crate::numbers::to_i64;
use crate::{Db, StoreError};

/// Rows that one statement of the sweeper deletes at most.
const SWEEP_ROWS: i64 = 5_000;
/// Baselines that are read at most: those of some servers.
const BASELINES_MAX: i64 = 16_384;
/// Open anomalies that are read at most.
const OPEN_MAX: i64 = 2_048;
/// An anomaly that nobody has judged for so long is over as far as anybody can tell.
const FORSAKEN: Duration = Duration::from_secs(15 * 60);
/// Microseconds of a minute.
const MINUTE: u64 = 60_000_000;

/// What a process has to say after a minute.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whose baselines they are: a server, whatever its process is.
    pub source: String,
    /// The process.
    pub instance: String,
    /// What is new.
    pub news: Vec<(News, Anomaly)>,
    /// Baselines that have changed.
    pub baselines: Vec<Saved>,
    /// What it saw of itself.
    pub context: Option<ContextRow>,
}

/// An anomaly as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub id: i64,
    /// The server.
    pub source: String,
    /// The process.
    pub instance: String,
    /// When it began.
    pub begun_at: Time,
    /// When it was judged last.
    pub judged_at: Time,
    /// When it was over.
    pub ended_at: Option<Time>,
    /// Why it was over: `usual`, `idle`, `adopted` or `forsaken`.
    pub ended_because: Option<String>,
    /// What is known of it.
    pub anomaly: Anomaly,
}

/// Which anomalies are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Those that are open, or those that are over.
    pub open: Option<bool>,
    /// Of this severity or a worse one.
    pub severity: Option<u8>,
    /// Older than this row.
    pub before_id: Option<i64>,
}

fn minute_at(minute: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(minute.saturating_mul(60))
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn time(time: SystemTime) -> Time {
    Time::from_micros(micros(time))
}

fn minute_of(time: SystemTime) -> u64 {
    micros(time) / MINUTE
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Writes what a process has to say, in one transaction.
///
/// # Errors
///
/// [`StoreError`]; nothing is written then.
pub async fn write(db: &Db, report: &Report) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    for (news, anomaly) in &report.news {
        write_one(&transaction, report, *news, anomaly).await?;
    }
    if !report.baselines.is_empty() {
        let all = &report.baselines;
        let operations: Vec<&str> = all.iter().map(|each| each.operation.as_str()).collect();
        let parts: Vec<&str> = all.iter().map(|each| part_name(each.part)).collect();
        let payloads: Vec<Vec<u8>> = all.iter().map(|each| each.baseline.encode()).collect();
        let text = "INSERT INTO anomaly_baselines (source, operation, stage, updated_at, payload)
            SELECT $1, o, s, clock_timestamp(), p FROM unnest($2::text[], $3::text[], $4::bytea[]) AS t (o, s, p)
            ON CONFLICT (source, operation, stage)
            DO UPDATE SET updated_at = excluded.updated_at, payload = excluded.payload";
        let statement = transaction.prepare_cached(text).await?;
        transaction.execute(&statement, &[&report.source, &operations, &parts, &payloads]).await?;
    }
    if let Some(row) = &report.context {
        let signals: serde_json::Map<String, Json> =
            row.values.iter().map(|(name, value)| (name.clone(), Json::from(*value))).collect();
        let text = "INSERT INTO anomaly_context
            (minute, instance, service, build, started_at, epoch, signals) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT DO NOTHING";
        let statement = transaction.prepare_cached(text).await?;
        let started = UNIX_EPOCH + Duration::from_micros(row.started);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
            &minute_at(row.minute),
            &row.instance,
            &row.service,
            &row.build,
            &started,
            &to_i64(row.epoch)?,
            &Json::Object(signals),
        ];
        transaction.execute(&statement, &values).await?;
    }
    Ok(transaction.commit().await?)
}

async fn write_one(
    transaction: &deadpool_postgres::Transaction<'_>,
    report: &Report,
    news: News,
    anomaly: &Anomaly,
) -> Result<(), StoreError> {
    let text = "INSERT INTO anomalies (source, instance, operation, stage, severity, begun_at, judged_at,
            ended_at, ended_because, minutes, requests, observed_micros, worst_micros, usual_p50_micros,
            usual_p99_micros, usual_mean_micros, usual_sigma_micros, usual_minutes, trace_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        ON CONFLICT (source, operation, stage) WHERE ended_at IS NULL DO UPDATE SET
            instance = excluded.instance, severity = least(anomalies.severity, excluded.severity),
            judged_at = excluded.judged_at, minutes = excluded.minutes, requests = excluded.requests,
            observed_micros = excluded.observed_micros, worst_micros = excluded.worst_micros,
            trace_id = excluded.trace_id
        RETURNING id";
    let statement = transaction.prepare_cached(text).await?;
    let usual = anomaly.usual;
    // A minute is over at its end.
    let judged = minute_at(anomaly.judged + 1);
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 17] = [
        &report.source,
        &report.instance,
        &anomaly.operation,
        &anomaly.stage.name(),
        &i16::from(anomaly.severity),
        &minute_at(anomaly.begun),
        &judged,
        &small(anomaly.windows),
        &to_i64(anomaly.requests)?,
        &to_i64(anomaly.observed)?,
        &to_i64(anomaly.worst)?,
        &to_i64(usual.p50)?,
        &to_i64(usual.p99)?,
        &to_i64(usual.mean)?,
        &to_i64(usual.sigma)?,
        &small(usual.windows),
        &Uuid::from_u128(anomaly.trace_id),
    ];
    let id: i64 = transaction.query_one(&statement, &values).await?.get(0);
    if let News::Closed(ended) = news {
        let text = "UPDATE anomalies SET ended_at = $2, ended_because = $3 WHERE id = $1";
        let statement = transaction.prepare_cached(text).await?;
        transaction.execute(&statement, &[&id, &judged, &ended.name()]).await?;
    }
    Ok(())
}

const COLUMNS: &str = "id, source, instance, operation, stage, severity, begun_at, judged_at, ended_at,
    ended_because, minutes, requests, observed_micros, worst_micros, usual_p50_micros, usual_p99_micros,
    usual_mean_micros, usual_sigma_micros, usual_minutes, trace_id";

/// Reads a row; `None` where its stage is none of ours.
fn kept(row: &Row) -> Option<Kept> {
    let number = |place: usize| u64::try_from(row.get::<_, i64>(place)).unwrap_or(0);
    let count = |place: usize| u32::try_from(row.get::<_, i32>(place)).unwrap_or(0);
    let (begun_at, judged_at): (SystemTime, SystemTime) = (row.get(6), row.get(7));
    let anomaly = Anomaly {
        operation: row.get(3),
        stage: part_of(row.get(4))??,
        severity: u8::try_from(row.get::<_, i16>(5)).unwrap_or(5),
        begun: minute_of(begun_at),
        judged: minute_of(judged_at).saturating_sub(1),
        windows: count(10),
        requests: number(11),
        observed: number(12),
        worst: number(13),
        usual: Figures {
            p50: number(14),
            p99: number(15),
            mean: number(16),
            sigma: number(17),
            windows: count(18),
        },
        trace_id: row.get::<_, Uuid>(19).as_u128(),
    };
    Some(Kept {
        id: row.get(0),
        source: row.get(1),
        instance: row.get(2),
        begun_at: time(begun_at),
        judged_at: time(judged_at),
        ended_at: row.get::<_, Option<SystemTime>>(8).map(time),
        ended_because: row.get(9),
        anomaly,
    })
}

/// Returns what a server knew when it was last written: baselines, and the anomalies that are open.
///
/// # Errors
///
/// [`StoreError`].
pub async fn restore(db: &Db, source: &str) -> Result<(Vec<Saved>, Vec<Anomaly>), StoreError> {
    let client = db.get().await?;
    let text = "SELECT operation, stage, payload FROM anomaly_baselines WHERE source = $1 LIMIT $2";
    let rows = client.query(text, &[&source, &BASELINES_MAX]).await?;
    let saved = rows.iter().filter_map(|row| {
        let part = part_of(row.get(1))?;
        Some(Saved { operation: row.get(0), part, baseline: Baseline::decode(row.get(2))? })
    });
    let text = format!(
        "SELECT {COLUMNS} FROM anomalies WHERE source = $1 AND ended_at IS NULL ORDER BY id LIMIT $2"
    );
    let open = client.query(&text, &[&source, &OPEN_MAX]).await?;
    let open = open.iter().filter_map(|row| Some(kept(row)?.anomaly));
    Ok((saved.collect(), open.collect()))
}

/// Lists anomalies, the newest first.
///
/// # Errors
///
/// [`StoreError`].
pub async fn list(db: &Db, filter: Filter, limit: usize) -> Result<Vec<Kept>, StoreError> {
    let client = db.get().await?;
    let text = format!(
        "SELECT {COLUMNS} FROM anomalies
        WHERE ($1::boolean IS NULL OR (ended_at IS NULL) = $1)
            AND ($2::smallint IS NULL OR severity <= $2) AND ($3::bigint IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4"
    );
    let statement = client.prepare_cached(&text).await?;
    let severity = filter.severity.map(i16::from);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        client.query(&statement, &[&filter.open, &severity, &filter.before_id, &limit]).await?;
    Ok(rows.iter().filter_map(kept).collect())
}

/// Returns the anomalies that were open in a minute, counted since 1970, the most severe first, at most 50.
///
/// # Errors
///
/// [`StoreError`].
pub async fn open_at(db: &Db, minute: u64) -> Result<Vec<Kept>, StoreError> {
    let client = db.get().await?;
    let text = format!(
        "SELECT {COLUMNS} FROM anomalies WHERE begun_at <= $1 AND coalesce(ended_at, 'infinity') > $1
        ORDER BY severity, id LIMIT 50"
    );
    let statement = client.prepare_cached(&text).await?;
    let rows = client.query(&statement, &[&minute_at(minute)]).await?;
    Ok(rows.iter().filter_map(kept).collect())
}

/// Returns what is usual for an operation: this server's own baselines, or where it has none another's.
///
/// # Errors
///
/// [`StoreError`].
pub async fn usual(
    db: &Db,
    instance: &str,
    operation: &str,
) -> Result<BTreeMap<&'static str, (Part, Figures)>, StoreError> {
    let client = db.get().await?;
    // A source is its host and port, an instance its host and process: the host is what they share.
    let host = instance.split(" pid ").next().unwrap_or(instance);
    let text = "SELECT stage, payload FROM anomaly_baselines WHERE operation = $1
        ORDER BY (split_part(source, ':', 1) = $2) DESC, updated_at DESC LIMIT 640";
    let statement = client.prepare_cached(text).await?;
    let mut all = BTreeMap::new();
    for row in client.query(&statement, &[&operation, &host]).await? {
        let read = part_of(row.get(0)).zip(Baseline::decode(row.get(1)));
        let Some((part, baseline)) = read else { continue };
        let figures = baseline.figures();
        if figures.is_known() {
            all.entry(part_name(part)).or_insert((part, figures));
        }
    }
    Ok(all)
}

/// Returns what processes saw of themselves from one minute to another, both included, the newest first.
///
/// # Errors
///
/// [`StoreError`].
pub async fn context(db: &Db, from: u64, until: u64) -> Result<Vec<ContextRow>, StoreError> {
    let client = db.get().await?;
    let text =
        "SELECT minute, instance, service, build, started_at, epoch, signals FROM anomaly_context
        WHERE minute BETWEEN $1 AND $2 ORDER BY minute DESC LIMIT 4000";
    let statement = client.prepare_cached(text).await?;
    let rows = client.query(&statement, &[&minute_at(from), &minute_at(until)]).await?;
    let row = |row: &Row| {
        let values = match row.get::<_, Json>(6) {
            Json::Object(map) => {
                map.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()
            }
            _ => BTreeMap::new(),
        };
        ContextRow {
            minute: minute_of(row.get(0)),
            instance: row.get(1),
            service: row.get(2),
            build: row.get(3),
            started: micros(row.get(4)),
            epoch: u64::try_from(row.get::<_, i64>(5)).unwrap_or(0),
            values,
        }
    };
    Ok(rows.iter().map(row).collect())
}

/// Ends anomalies that nobody judges any more, and deletes what is older than this moment. Returns how many rows went.
///
/// # Errors
///
/// [`StoreError`].
pub async fn sweep(db: &Db, older_than: SystemTime) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let seconds = i32::try_from(FORSAKEN.as_secs()).unwrap_or(i32::MAX);
    let text = "UPDATE anomalies SET ended_at = judged_at, ended_because = 'forsaken'
        WHERE ended_at IS NULL AND judged_at < clock_timestamp() - make_interval(secs => $1::integer)";
    client.execute(text, &[&seconds]).await?;
    let mut gone = 0;
    for text in [
        "DELETE FROM anomalies WHERE id IN
            (SELECT id FROM anomalies WHERE ended_at < $1 ORDER BY begun_at LIMIT $2)",
        "DELETE FROM anomaly_context WHERE ctid IN
            (SELECT ctid FROM anomaly_context WHERE minute < $1 LIMIT $2)",
        "DELETE FROM anomaly_baselines WHERE ctid IN
            (SELECT ctid FROM anomaly_baselines WHERE updated_at < $1 LIMIT $2)",
    ] {
        gone += client.execute(text, &[&older_than, &SWEEP_ROWS]).await?;
    }
    Ok(gone)
}
