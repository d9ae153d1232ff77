//! Watches what is noted for anomalies, and this process' own gauges, minute by minute.
//!
//! Invariant: what cannot be written waits, up to a limit; nothing here holds up anybody but the writer of traces.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::Db;
use store::anomalies::Report;
use telemetry::Metric;
use tokio::time::Instant;
use trace::anomaly::{Anomaly, ContextRow, Detector, News, SIGNALS, Signal, Source};
use trace::{Request, Stage, Timed};

/// Minutes after which changed baselines are written: what a crash forgets.
const SAVE_EVERY: u64 = 5;
/// Reports that wait at most: an hour's.
const WAITING_MAX: usize = 60;
/// How long it is left alone after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Who this process is.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whose baselines it goes on with: the same after a restart.
    pub source: String,
    /// Its own name among its like, and in time.
    pub instance: String,
    /// What it is.
    pub service: String,
    /// What was built: release and commit.
    pub build: String,
    /// When it began.
    pub started: SystemTime,
}

/// Watches one process.
#[derive(Debug)]
pub struct Watch {
    process: Process,
    detector: Detector,
    has_noted: bool,
    is_restored: bool,
    again_at: Option<Instant>,
    minute: Option<u64>,
    /// The minute's highest values.
    peaks: BTreeMap<&'static str, f64>,
    /// Counters as they stood when the minute began.
    counters: HashMap<&'static str, f64>,
    waiting: VecDeque<Report>,
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Watch {
    /// Makes one that knows nothing yet: what was known is read before anything is written.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self {
            process,
            detector: Detector::default(),
            has_noted: false,
            is_restored: false,
            again_at: None,
            minute: None,
            peaks: BTreeMap::new(),
            counters: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Counts an answered request.
    pub fn note(&mut self, request: &Request, stages: &[Timed]) {
        self.has_noted = true;
        self.detector.note(request, stages);
    }

    /// Looks at the gauges, and ends the minute where it is over; at the very end whatever is learned is put down.
    pub fn tick(&mut self, now: SystemTime, is_end: bool) {
        let minute = micros(now) / 60_000_000;
        let current = *self.minute.get_or_insert(minute);
        self.look();
        if minute > current {
            self.turn(current, is_end);
            self.minute = Some(minute);
        } else if is_end {
            let baselines = self.detector.changed();
            self.wait(Report { baselines, ..self.report() });
        }
    }

    /// Looks at the gauges and counters.
    fn look(&mut self) {
        for signal in SIGNALS {
            if let Some(value) = self.read(signal) {
                let peak = self.peaks.entry(signal.name).or_insert(value);
                *peak = peak.max(value);
            }
        }
    }

    /// Reads a signal's value as it stands.
    fn read(&mut self, signal: &Signal) -> Option<f64> {
        let values = telemetry::values(signal.name).into_iter();
        let highest = |one: Option<f64>, value: f64| Some(one.map_or(value, |one| one.max(value)));
        match signal.source {
            Source::Own => None,
            Source::Gauge => values.map(|(_, value)| value).fold(None, highest),
            Source::Labelled(label) => values
                .filter(|(labels, _)| labels.iter().any(|each| each == label))
                .map(|(_, value)| value)
                .fold(None, highest),
            Source::Down => values.map(|(_, value)| 1.0 - value).fold(None, highest),
            Source::Risen => {
                let now: f64 = values.map(|(_, value)| value).sum();
                let before = *self.counters.entry(signal.name).or_insert(now);
                Some((now - before).max(0.0))
            }
        }
    }

    fn report(&self) -> Report {
        Report {
            source: self.process.source.clone(),
            instance: self.process.instance.clone(),
            ..Report::default()
        }
    }

    fn wait(&mut self, report: Report) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(report);
    }

    /// Ends a minute.
    fn turn(&mut self, minute: u64, is_end: bool) {
        let mut values: BTreeMap<String, f64> = std::mem::take(&mut self.peaks)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for signal in SIGNALS.iter().filter(|signal| signal.source == Source::Risen) {
            let now = telemetry::values(signal.name).iter().map(|(_, value)| value).sum();
            self.counters.insert(signal.name, now);
        }
        if self.has_noted {
            values.insert("requests".to_owned(), self.detector.requests() as f64);
            let append = self.detector.together(Stage::Append).quantile(0.99);
            if append > 0 {
                let seconds = Duration::from_micros(append).as_secs_f64();
                values.insert("append_p99_seconds".to_owned(), seconds);
            }
        }
        let epoch =
            telemetry::values(Metric::Epoch.name()).first().map_or(0.0, |(_, epoch)| *epoch);
        let news = self.detector.turn(minute);
        news.iter().for_each(tell);
        self.count();
        let due = is_end || minute.is_multiple_of(SAVE_EVERY);
        let baselines = if due { self.detector.changed() } else { Vec::new() };
        let context = ContextRow {
            minute,
            instance: self.process.instance.clone(),
            service: self.process.service.clone(),
            build: self.process.build.clone(),
            started: micros(self.process.started),
            epoch: epoch as u64,
            values,
        };
        self.wait(Report { news, baselines, context: Some(context), ..self.report() });
    }

    fn count(&self) {
        for severity in 1..=5_u8 {
            let open = self.detector.open().filter(|open| open.severity == severity).count();
            let label = severity.to_string();
            telemetry::set_labelled(Metric::AnomalyActive, &[&label], open as f64);
        }
    }

    /// Reads what was known before, and writes what waits. What fails is tried again later.
    pub async fn write(&mut self, db: &Db, time_max: Duration) {
        let now = Instant::now();
        let is_idle = self.is_restored && self.waiting.is_empty();
        if is_idle || self.again_at.is_some_and(|again| now < again) {
            return;
        }
        let written = tokio::time::timeout(time_max, self.write_all(db)).await;
        self.again_at = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "anomalies wait to be written");
                Some(now + AGAIN)
            }
            Err(_) => {
                tracing::debug!("anomalies wait to be written: the store takes too long");
                Some(now + AGAIN)
            }
        };
    }

    async fn write_all(&mut self, db: &Db) -> Result<(), store::StoreError> {
        if !self.is_restored {
            let (saved, open) = store::anomalies::restore(db, &self.process.source).await?;
            self.detector.restore(saved, open);
            self.is_restored = true;
            self.count();
        }
        while let Some(report) = self.waiting.front() {
            store::anomalies::write(db, report).await?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

/// Says in the log and in the metrics what is new.
fn tell((news, anomaly): &(News, Anomaly)) {
    let (operation, stage) = (anomaly.operation.as_str(), anomaly.stage.name());
    let (severity, observed) = (anomaly.severity, anomaly.observed);
    let usual = anomaly.usual.p99;
    match news {
        News::Opened | News::Worsened => {
            telemetry::add_labelled(Metric::Anomalies, &[&severity.to_string()], 1);
            tracing::warn!(
                operation, stage, severity, observed_micros = observed, usual_p99_micros = usual,
                trace_id = %crate::format_trace_id(anomaly.trace_id),
                "a stage takes far longer than usual"
            );
        }
        News::Closed(ended) => {
            let because = ended.name();
            tracing::info!(operation, stage, severity, because, "an anomaly is over");
        }
        News::Lasting => {}
    }
}
