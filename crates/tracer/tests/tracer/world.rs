//! A database, and requests as a server notes them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::store::Db;
use ::store::cluster::Throwaway;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trace::{
    BatchRecord, BatchTiming, CommandTiming, Micros, Origin, Outcome, ProjectionRecord, Recorder,
    Request, Sent,
};
use tracer::{Exporter, Process, Settings};

/// How long anything that must happen may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A database with our schema.
pub(crate) struct World {
    pub(crate) db: Db,
    _cluster: Throwaway,
}

impl World {
    pub(crate) async fn start() -> Self {
        let cluster = Throwaway::start().await.expect("PostgreSQL is installed");
        let config = cluster.database().await.expect("a database can be made");
        let db = Db::connect(config).await.expect("it answers");
        ::store::migrate::run(&db).await.expect("the schema is good");
        Self { db, _cluster: cluster }
    }

    pub(crate) async fn execute(&self, text: &str) -> u64 {
        let client = self.db.get().await.expect("it answers");
        client.execute(text, &[]).await.unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let client = self.db.get().await.expect("it answers");
        let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
        row.expect("it counts").get(0)
    }

    /// Writes everything that a recorder has.
    pub(crate) async fn write(&self, recorder: &Arc<Recorder>) {
        let writing = self.writing(recorder, None);
        writing.stop().await;
    }

    /// Writes until it is told to stop.
    pub(crate) fn writing(&self, recorder: &Arc<Recorder>, exporter: Option<Exporter>) -> Writing {
        let store = exporter.is_none();
        let settings = Settings {
            process: Process {
                source: "test".to_owned(),
                instance: "test".to_owned(),
                service: "kx-server".to_owned(),
                build: "test".to_owned(),
                started: SystemTime::now(),
            },
            keep: Duration::from_secs(86_400),
            bytes_max: 1 << 30,
            store,
        };
        let stop = CancellationToken::new();
        let (recorder, db) = (Arc::clone(recorder), self.db.clone());
        let task = tokio::spawn(tracer::write(recorder, db, settings, exporter, stop.clone()));
        Writing { stop, task }
    }
}

/// A writer that runs.
pub(crate) struct Writing {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writing {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await;
        ended.expect("a writer ends when it is told to").expect("it does not panic");
    }
}

/// Makes a request that began so many microseconds ago and took 2,000; its command is in this journal row.
pub(crate) fn request(trace_id: u128, ago: u64, sequence: u64) -> Request {
    let sent = Sent {
        command: u128::from(sequence) << 64 | 99,
        action: "place_order".into(),
        market: Some("BTC/USD".to_owned()),
        submitted: 60,
        confirmed: Some(90),
        given_up: None,
        queued_by_journal_time: Some(500),
        outcome: Some(Outcome { sequence, index: 0, seen: 1_900 }),
    };
    Request {
        trace_id,
        span_id: trace::new_span_id(),
        parent_id: 0,
        is_foreign: false,
        origin: Origin::now(),
        begun: Micros(Micros::now().0 - ago),
        method: "POST".into(),
        route: "/api/v1/orders".into(),
        status: 201,
        authenticated: 40,
        ended: 2_000,
        sent: Some(sent),
        timing: None,
    }
}

/// Makes an id of ours that began so many microseconds ago.
pub(crate) fn id(ago: u64) -> u128 {
    let millis = u128::from(trace::time_of(trace::new_trace_id())) - u128::from(ago / 1_000);
    (millis << 80) | (trace::new_trace_id() & ((1 << 80) - 1))
}

/// Notes a request with its journal row and what was projected of it.
pub(crate) fn note(recorder: &Recorder, request: Request) {
    if let Some(sent) = &request.sent {
        let sequence = sent.outcome.expect("it was decided").sequence;
        let timing = BatchTiming {
            origin: request.origin,
            begun: request.begun.plus(200),
            commands: vec![CommandTiming {
                index: 0,
                received: 0,
                waited: 5,
                decided: 6,
                settled: 7,
            }],
            append_begun: 100,
            committed: 1_200,
        };
        recorder.batch(BatchRecord {
            sequence,
            incarnation: 1,
            timing: Arc::new(timing),
            commands: vec![(request.trace_id, sent.command)],
        });
        for part in ["orders", "money", "market_data"] {
            recorder.projection(ProjectionRecord {
                part,
                first: sequence,
                last: sequence,
                begun: request.begun.plus(2_100),
                micros: 700,
            });
        }
    }
    recorder.request(request);
}

/// Waits until something is there, looking often.
pub(crate) async fn wait<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ready().await {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a counter of this process.
pub(crate) fn counter(name: &str) -> u64 {
    let text = telemetry::render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse::<f64>().ok())
        .map_or(0, |value| format!("{value:.0}").parse().unwrap_or(0))
}
