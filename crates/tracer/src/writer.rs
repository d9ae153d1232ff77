//! What was noted is written twice a second, and what is old is swept away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use store::Db;
use store::traces::{Batch, RequestsRow};
use telemetry::Metric;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use trace::{Noted, Origin, ProjectionTiming, Recorder, Request, stages};

use crate::export::Exporter;
use crate::watch::{Process, Watch};

/// How often what was noted is written.
const EVERY: Duration = Duration::from_millis(500);
/// How often what is old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long one write may take.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// How far the first and the last request of a row may be apart, in microseconds.
pub(crate) const ROW_MICROS: u64 = 10_000_000;
/// Requests of one row: some hundred kilobytes, which is what looking for one of them costs.
const ROW_REQUESTS: usize = 4_096;

/// How traces are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this process is among its like.
    pub process: Process,
    /// How long they are kept.
    pub keep: Duration,
    /// How many bytes they may take in the database, about.
    pub bytes_max: u64,
    /// Whether they are kept in the database at all.
    pub store: bool,
}

/// Writes what the recorder has until `stop`, and then once more.
pub async fn write(
    recorder: Arc<Recorder>,
    db: Db,
    settings: Settings,
    exporter: Option<Exporter>,
    stop: CancellationToken,
) {
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep_at = Instant::now() + SWEEP_EVERY;
    // One; at the end two.
    let mut unwritten: VecDeque<Batch> = VecDeque::new();
    let mut watch = Watch::new(settings.process.clone());
    loop {
        let stopping = tokio::select! {
            _ = due.tick() => false,
            () = stop.cancelled() => true,
        };
        // While the store is away, what comes waits in the recorder, as long as there is room.
        if unwritten.is_empty() || stopping {
            let noted = recorder.take();
            note(&recorder, &noted, &mut watch);
            if let Some(exporter) = &exporter {
                exporter.send(&noted);
            }
            if settings.store && !noted.is_empty() {
                unwritten.push_back(pack(noted, &settings));
            }
        }
        while let Some(batch) = unwritten.front() {
            if !is_written(&db, batch).await {
                break;
            }
            telemetry::add(Metric::Traces, count(batch));
            unwritten.pop_front();
        }
        if settings.store {
            watch.tick(SystemTime::now(), stopping);
            // Where traces cannot be written, this cannot either: it waits.
            if unwritten.is_empty() {
                watch.write(&db, WRITE_MAX).await;
            }
        }
        if stopping {
            drop_traces("store", unwritten.iter().map(count).sum());
            return;
        }
        if settings.store && Instant::now() >= sweep_at {
            sweep_at = Instant::now() + SWEEP_EVERY;
            sweep(&db, &settings).await;
        }
    }
}

async fn is_written(db: &Db, batch: &Batch) -> bool {
    match tokio::time::timeout(WRITE_MAX, store::traces::write(db, batch)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::debug!(%error, "traces wait to be written"),
        Err(_) => tracing::debug!("traces wait to be written: the store takes too long"),
    }
    false
}

/// Returns how many requests are in a batch.
fn count(batch: &Batch) -> u64 {
    batch.requests.iter().map(|row| u64::from(row.requests)).sum()
}

async fn sweep(db: &Db, settings: &Settings) {
    let Some(older_than) = SystemTime::now().checked_sub(settings.keep) else { return };
    let sweeping = async {
        let rows = store::traces::sweep(db, older_than, settings.bytes_max).await?;
        Ok::<_, store::StoreError>(rows + store::anomalies::sweep(db, older_than).await?)
    };
    match tokio::time::timeout(SWEEP_EVERY / 2, sweeping).await {
        Ok(Ok(0)) => {}
        Ok(Ok(rows)) => tracing::info!(rows, "old traces and anomalies were deleted"),
        Ok(Err(error)) => tracing::warn!(%error, "old traces could not be deleted"),
        Err(_) => tracing::warn!("deleting old traces takes too long"),
    }
}

fn drop_traces(reason: &'static str, count: u64) {
    if count > 0 {
        telemetry::add_labelled(Metric::TracesDropped, &[reason], count);
    }
}

/// Counts the stages of what was noted, and what found no room.
fn note(recorder: &Recorder, noted: &Noted, watch: &mut Watch) {
    drop_traces("no_room", noted.dropped);
    for request in &noted.requests {
        let stages = stages(request);
        watch.note(request, &stages);
        let Some(sent) = &request.sent else { continue };
        for timed in &stages {
            let took = Duration::from_micros(timed.micros.into());
            telemetry::observe_labelled(Metric::StageDuration, &[timed.stage.name()], took);
        }
        if let Some(market) = &sent.market {
            recorder.latency().observe(market, &stages);
        }
    }
}

fn pack(noted: Noted, settings: &Settings) -> Batch {
    let origin = Origin::now();
    let foreign = noted.requests.iter().filter(|request| request.is_foreign);
    let foreign = foreign.map(|request| (request.trace_id, wall(request))).collect();
    let batches = noted.batches.iter();
    let projections = noted.projections.iter().map(|each| {
        let timing = ProjectionTiming {
            part: each.part.to_owned(),
            begun: origin.wall(each.begun),
            micros: each.micros.into(),
        };
        (each.first, each.last, timing)
    });
    Batch {
        foreign,
        batches: batches
            .map(|each| (each.sequence, each.incarnation, each.timing.encode()))
            .collect(),
        projections: projections.collect(),
        requests: rows(noted.requests, settings),
    }
}

fn wall(request: &Request) -> u64 {
    request.origin.wall(request.begun)
}

/// Packs requests into rows. One is found by when it began, so a row has those that began within some seconds, however long they
/// have waited for the store.
fn rows(mut requests: Vec<Request>, settings: &Settings) -> Vec<RequestsRow> {
    requests.sort_by_key(wall);
    let together = |first: &Request, next: &Request| wall(next) - wall(first) < ROW_MICROS;
    let mut rows = Vec::new();
    let mut rest = requests.as_slice();
    while let Some(first) = rest.first() {
        let most = rest.len().min(ROW_REQUESTS);
        let end = rest.iter().take(most).position(|next| !together(first, next)).unwrap_or(most);
        let (row, later) = rest.split_at(end);
        rest = later;
        let ended = |request: &Request| wall(request).saturating_add(request.ended.into());
        rows.push(RequestsRow {
            begun: wall(first),
            ended: row.iter().map(ended).max().unwrap_or(0),
            instance: settings.process.instance.clone(),
            requests: u32::try_from(row.len()).unwrap_or(u32::MAX),
            slowest: row.iter().map(|request| request.ended).max().unwrap_or(0).into(),
            payload: trace::pack_requests(row),
        });
    }
    rows
}
