//! Sections `whole`, `hot` and `single`: orders over HTTP through everything to the committed row, with the projections
//! behind, in turns with the yardstick.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store::Db;
use units::Sequence;

use super::load::{self, Outcome};
use super::machine::{self, Stolen, ThreadTimes};
use super::orders::{self, Pairing};
use super::sql;
use super::stand::{self, Loaded, Stand};
use super::table::{Row, Table, Target};
use super::yardstick::{self, Yardstick};

/// How often the projections are looked at under load.
const LOOK: Duration = Duration::from_millis(100);
/// How long the projections may be behind.
const LAG_SECONDS_MAX: f64 = 2.0;

/// Less processor time than this is not worth a line.
const CPU_MICROS_SHOWN_MIN: f64 = 0.5;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Pairs of ours and the yardstick.
    pub pairs: usize,
    /// How long each half goes on.
    pub time: Duration,
}

impl Effort {
    /// Chooses the effort.
    pub(crate) fn new(quick: bool) -> Self {
        match quick {
            true => Self { pairs: 2, time: Duration::from_secs(5) },
            false => Self { pairs: 5, time: Duration::from_secs(15) },
        }
    }
}

/// One loaded run and what was seen beside it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) outcome: Outcome,
    lag_seconds: f64,
    pub(super) stolen: f64,
    process: ThreadTimes,
    sessions: BTreeMap<String, Duration>,
}

/// The runs of one load.
pub(super) struct Series {
    seen: Vec<Seen>,
    yardstick: Vec<yardstick::Run>,
}

impl Series {
    /// The median over our runs.
    pub(super) fn median(&self, of: impl Fn(&Seen) -> f64) -> f64 {
        machine::median(&self.seen.iter().map(of).collect::<Vec<_>>())
    }

    /// The median over the yardstick's runs.
    pub(super) fn yardstick(&self, of: impl Fn(&yardstick::Run) -> f64) -> f64 {
        machine::median(&self.yardstick.iter().map(of).collect::<Vec<_>>())
    }

    /// The median over the pairs of ours divided by the yardstick's.
    pub(super) fn ratio(
        &self,
        ours: impl Fn(&Seen) -> f64,
        theirs: impl Fn(&yardstick::Run) -> f64,
    ) -> f64 {
        let pairs = self.seen.iter().zip(&self.yardstick);
        machine::median(&pairs.map(|(seen, run)| ours(seen) / theirs(run)).collect::<Vec<_>>())
    }
}

/// Measures the whole way at 64 and 256 connections, and with one hot wallet.
///
/// # Errors
///
/// The exchange or the yardstick fails.
pub(crate) async fn run(
    table: &mut Table,
    stand: &Stand,
    loaded: &Loaded,
    yardstick: &Yardstick,
    quick: bool,
) -> anyhow::Result<()> {
    let effort = Effort::new(quick);
    let held = Held { section: "whole", ratio: 2.0, aimed_at: "3 aimed at", p99_ms: Some(40.0) };
    let any = series(stand, loaded, yardstick, effort, 64, Pairing::Any).await?;
    report(table, "64 connections", &any, &held);
    let wide = series(stand, loaded, yardstick, effort, 256, Pairing::Any).await?;
    report(table, "256 connections", &wide, &Held { p99_ms: None, ..held });
    let hot = series(stand, loaded, yardstick, effort, 64, Pairing::Hot).await?;
    let factor = hot.ratio(|seen| seen.outcome.rate(), |run| run.rate)
        / any.ratio(|seen| seen.outcome.rate(), |run| run.rate);
    let note = format!("{:.0} orders/s; {}", hot.median(|seen| seen.outcome.rate()), errors(&hot));
    let row = Row::new("hot", "one wallet in every trade, against many", factor, "×");
    table.push(row.reach(Target::AtLeast(0.9)).note(note));
    table.push(errors_row("hot", "64 connections", &hot));
    shares(table, "whole", &any);
    Ok(())
}

/// Loads an exchange in turns with the yardstick.
///
/// # Errors
///
/// Either fails.
pub(super) async fn series(
    stand: &Stand,
    loaded: &Loaded,
    yardstick: &Yardstick,
    effort: Effort,
    connections: usize,
    pairing: Pairing,
) -> anyhow::Result<Series> {
    let mut series = Series { seen: Vec::new(), yardstick: Vec::new() };
    for _ in 0..effort.pairs {
        series.yardstick.push(yardstick.run(16, effort.time).await?);
        series.seen.push(loaded_run(stand, loaded, effort.time, connections, pairing).await?);
        settled(&loaded.db).await?;
    }
    Ok(series)
}

pub(super) async fn loaded_run(
    stand: &Stand,
    loaded: &Loaded,
    time: Duration,
    connections: usize,
    pairing: Pairing,
) -> anyhow::Result<Seen> {
    let address = loaded.exchange.address();
    let scripts = orders::scripts(address, &loaded.users, &stand::tokens()?, connections, pairing);
    let pid = loaded.exchange.pid();
    let sampler = Lag::start(loaded.db.clone());
    let stolen = Stolen::now();
    let threads = times(pid, &loaded.others);
    let sessions = sql::times(&stand.config(), stand.postmaster()).await?;
    let outcome = load::run(address, scripts, time).await?;
    let process = spent(&threads, &times(pid, &loaded.others));
    let sessions = spent(&sessions, &sql::times(&stand.config(), stand.postmaster()).await?);
    let (stolen, _) = stolen.since();
    let lag_seconds = sampler.stop().await;
    Ok(Seen { outcome, lag_seconds, stolen, process, sessions })
}

/// The processor time of the exchange by thread, and of what works beside it.
fn times(pid: u32, others: &[(&'static str, u32)]) -> ThreadTimes {
    let mut times = machine::thread_times(pid);
    for (name, pid) in others {
        let threads = machine::thread_times(*pid);
        match threads.get("sequencer") {
            Some(sequencer) => {
                let all: Duration = threads.values().sum();
                times.insert("sequencer".to_owned(), *sequencer);
                times.insert((*name).to_owned(), all.saturating_sub(*sequencer));
            }
            None => {
                times.insert((*name).to_owned(), threads.values().sum());
            }
        }
    }
    times
}

fn spent(before: &ThreadTimes, after: &ThreadTimes) -> ThreadTimes {
    let zero = Duration::ZERO;
    let since = |(name, time): (&String, &Duration)| {
        (name.clone(), time.saturating_sub(*before.get(name).unwrap_or(&zero)))
    };
    after.iter().map(since).collect()
}

/// What a series is held to, and where its rows stand.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub section: &'static str,
    /// Orders/s over the yardstick's tps, at least.
    pub ratio: f64,
    pub aimed_at: &'static str,
    /// The p99 at most, in milliseconds, or three times the yardstick's if that is more; none: it is only shown.
    pub p99_ms: Option<f64>,
}

/// Adds a series' rows.
pub(super) fn report(table: &mut Table, what: &str, series: &Series, held: &Held) {
    let Held { section, .. } = *held;
    let rate = series.median(|seen| seen.outcome.rate());
    let tps = series.yardstick(|run| run.rate);
    let ratio = series.ratio(|seen| seen.outcome.rate(), |run| run.rate);
    let p50 = series.median(|seen| seen.outcome.latency_ms(0.5));
    let p99 = series.median(|seen| seen.outcome.latency_ms(0.99));
    let yardstick_p99 = series.yardstick(|run| run.p99_ms);
    let pairs = series.seen.len();
    let lag = series.seen.iter().map(|seen| seen.lag_seconds).fold(0.0, f64::max);
    table.push(Row::new(section, format!("{what}: orders"), rate, "orders/s").note(format!(
        "p50 {p50:.1} ms; medians of {pairs} pairs; {:.1} % withheld",
        series.median(|seen| seen.stolen)
    )));
    table.push(Row::new(section, format!("{what}: yardstick"), tps, "tps").note(format!(
        "pgbench -N -c 16: average {:.1} ms, p99 {yardstick_p99:.1} ms",
        series.yardstick(|run| run.average_ms)
    )));
    let row = Row::new(section, format!("{what}: orders/s over the yardstick's tps"), ratio, "×");
    table.push(row.reach(Target::AtLeast(held.ratio)).note(held.aimed_at));
    let row = Row::new(section, format!("{what}: p99"), p99, "ms");
    table.push(match held.p99_ms {
        Some(most) => row.reach(Target::AtMost((3.0 * yardstick_p99).max(most))),
        None => row,
    });
    table.push(errors_row(section, what, series));
    let row = Row::new(section, format!("{what}: projections behind, at most"), lag, "s");
    table.push(row.reach(Target::AtMost(LAG_SECONDS_MAX)));
}

/// A row of the errors.
fn errors_row(section: &'static str, what: &str, series: &Series) -> Row {
    let errors = series.seen.iter().map(|seen| seen.outcome.errors()).sum();
    let row = Row::new(section, format!("{what}: errors"), machine::ratio(errors, 1), "");
    row.reach(Target::AtMost(0.0)).note(errors_text(series))
}

fn errors(series: &Series) -> String {
    match errors_text(series) {
        text if text.is_empty() => "no error".to_owned(),
        text => text,
    }
}

fn errors_text(series: &Series) -> String {
    let texts = series.seen.iter().map(|seen| seen.outcome.errors_text());
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Prints where the processor time of an order goes.
pub(super) fn shares(table: &mut Table, section: &'static str, series: &Series) {
    let generator = series.median(|seen| seen.outcome.cpu_micros());
    table.push(Row::new(section, "CPU of an order: load generator", generator, "µs"));
    for (place, of) in [
        ("exchange, thread", (|seen: &Seen| &seen.process) as fn(&Seen) -> &ThreadTimes),
        ("PostgreSQL, session", |seen: &Seen| &seen.sessions),
    ] {
        let names: std::collections::BTreeSet<_> =
            series.seen.iter().flat_map(|seen| of(seen).keys().cloned()).collect();
        for name in names {
            let micros = series.median(|seen| {
                let time = of(seen).get(&name).copied().unwrap_or_default();
                time.as_secs_f64() * 1e6 / machine::ratio(seen.outcome.done().max(1), 1)
            });
            if micros >= CPU_MICROS_SHOWN_MIN {
                let row =
                    Row::new(section, format!("CPU of an order: {}", part(&name)), micros, "µs");
                table.push(row.note(format!("{place} {name}")));
            }
        }
    }
}

/// Says which part of the exchange a thread or a session works for.
fn part(name: &str) -> &str {
    match name {
        "sequencer" => "sequencer",
        "tokio-rt-worker" => "server, follower and projector",
        "kx-payment-processor" => "journal, in PostgreSQL",
        "kx-server" => "projection, in PostgreSQL",
        "lapin" | "lapin-io-loop" | "io_loop" => "server's connection to RabbitMQ",
        other => other,
    }
}

/// Measures one connection that sends one order at a time, in turns with `pgbench -N -c 1`.
///
/// # Errors
///
/// The exchange or the yardstick fails.
pub(crate) async fn single(
    table: &mut Table,
    stand: &Stand,
    loaded: &Loaded,
    yardstick: &Yardstick,
    quick: bool,
) -> anyhow::Result<()> {
    let effort = Effort::new(quick);
    let mut series = Series { seen: Vec::new(), yardstick: Vec::new() };
    for _ in 0..effort.pairs {
        series.yardstick.push(yardstick.run(1, effort.time / 2).await?);
        let seen = loaded_run(stand, loaded, effort.time / 2, 1, Pairing::Any).await?;
        series.seen.push(seen);
        settled(&loaded.db).await?;
    }
    let p50 = series.median(|seen| seen.outcome.latency_ms(0.5));
    let average = series.yardstick(|run| run.average_ms);
    let note = format!(
        "{:.0} orders/s; medians of {} pairs; pgbench -N -c 1: average {average:.2} ms, p50 {:.2} ms",
        series.median(|seen| seen.outcome.rate()),
        effort.pairs,
        series.yardstick(|run| run.p50_ms)
    );
    let row = Row::new("single", "one connection, one order at a time: p50", p50, "ms");
    table.push(row.reach(Target::AtMost(average)).note(note));
    table.push(errors_row("single", "one connection", &series));
    Ok(())
}

/// Waits until the projections have what the journal has, so that the next run begins even.
pub(super) async fn settled(db: &Db) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let (head, progress) = places(db).await?;
        if progress >= head {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn places(db: &Db) -> anyhow::Result<(Sequence, Sequence)> {
    let head = store::journal::head(db).await?.map_or(Sequence::new(0), |(head, ..)| head);
    Ok((head, sql::projected(db).await?))
}

/// Watches how far the projections are behind: the age of the oldest row that they do not have.
struct Lag {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<f64>,
}

impl Lag {
    fn start(db: Db) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut heads: VecDeque<(Instant, Sequence)> = VecDeque::new();
            let mut most = 0.0_f64;
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((head, progress)) = places(&db).await {
                    let now = Instant::now();
                    heads.push_back((now, head));
                    // Of the heads that were seen, those that are projected by now tell nothing more.
                    while heads.front().is_some_and(|(_, seen)| *seen <= progress) {
                        heads.pop_front();
                    }
                    let oldest = heads.front().map_or(now, |(seen, _)| *seen);
                    most = most.max(now.duration_since(oldest).as_secs_f64());
                }
                tokio::time::sleep(LOOK).await;
            }
            most
        });
        Self { stop, task }
    }

    async fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or(f64::INFINITY)
    }
}
