//! What was noted is written twice a second, and what is old is swept away.

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
    let mut unwritten: Option<Batch> = None;
    let mut watch = Watch::new(settings.process.clone());
    loop {
        let stopping = tokio::select! {
            _ = due.tick() => false,
            () = stop.cancelled() => true,
        };
        // While the store is away, what comes waits in the recorder, as long as there is room.
        if unwritten.is_none() || stopping {
            let noted = recorder.take();
            note(&recorder, &noted, &mut watch);
            if let Some(exporter) = &exporter {
                exporter.send(&noted);
            }
            if settings.store && !noted.is_empty() {
                let batch = pack(&noted, &settings);
                unwritten = match unwritten.take() {
                    // Only at the end: what could not be written before is given up for what is newer.
                    Some(old) => {
                        drop_traces("store", old.requests.map_or(0, |row| row.requests).into());
                        Some(batch)
                    }
                    None => Some(batch),
                };
            }
        }
        if let Some(batch) = &unwritten {
            match tokio::time::timeout(WRITE_MAX, store::traces::write(&db, batch)).await {
                Ok(Ok(())) => {
                    let count = batch.requests.as_ref().map_or(0, |row| row.requests);
                    telemetry::add(Metric::Traces, count.into());
                    unwritten = None;
                }
                Ok(Err(error)) => tracing::debug!(%error, "traces wait to be written"),
                Err(_) => tracing::debug!("traces wait to be written: the store takes too long"),
            }
        }
        if settings.store {
            watch.tick(SystemTime::now(), stopping);
            // Where traces cannot be written, this cannot either: it waits.
            if unwritten.is_none() {
                watch.write(&db, WRITE_MAX).await;
            }
        }
        if stopping {
            return;
        }
        if settings.store && Instant::now() >= sweep_at {
            sweep_at = Instant::now() + SWEEP_EVERY;
            sweep(&db, &settings).await;
        }
    }
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

fn pack(noted: &Noted, settings: &Settings) -> Batch {
    let wall = |request: &Request| request.origin.wall(request.begun);
    let origin = Origin::now();
    let requests = noted.requests.iter().map(wall).min().map(|begun| RequestsRow {
        begun,
        ended: origin.wall(trace::Micros::now()),
        instance: settings.process.instance.clone(),
        requests: u32::try_from(noted.requests.len()).unwrap_or(u32::MAX),
        slowest: noted.requests.iter().map(|request| request.ended).max().unwrap_or(0).into(),
        payload: trace::pack_requests(&noted.requests),
    });
    let foreign = noted.requests.iter().filter(|request| request.is_foreign);
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
        requests,
        foreign: foreign.map(|request| (request.trace_id, wall(request))).collect(),
        batches: batches
            .map(|each| (each.sequence, each.incarnation, each.timing.encode()))
            .collect(),
        projections: projections.collect(),
    }
}
