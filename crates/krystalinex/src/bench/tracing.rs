//! Section `tracing`: what it costs that every order has its trace, and what it costs where nobody takes them.
//!
//! Exchanges of one kind each, on one cluster, are loaded in turns; ratios are within a round, so that the machine's mood
//! is in both.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::machine;
use super::orders::Pairing;
use super::stand::{Loaded, Stand};
use super::table::{Row, Table, Target};
use super::whole::{self, Effort, Seen};

/// Connections of the load.
const CONNECTIONS: usize = 64;
/// How often the metrics are read under load.
const LOOK: Duration = Duration::from_millis(500);

/// Measures the section.
///
/// # Errors
///
/// An exchange fails.
pub(crate) async fn run(table: &mut Table, stand: &Stand, quick: bool) -> anyhow::Result<()> {
    let effort = Effort::new(quick);
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?];
    let hole = BlackHole::open().await?;
    let collector = hole.url();
    let without = Loaded::start_with(stand, folders[0].path(), &[("KX_TRACES", "off")]).await?;
    let with = Loaded::start_with(stand, folders[1].path(), &[]).await?;
    let dead = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
    let dead = Loaded::start_with(stand, folders[2].path(), &dead).await?;
    let mut rounds: Vec<[Seen; 3]> = Vec::new();
    let mut scrapes = Vec::new();
    for _ in 0..effort.pairs {
        let run = |loaded| whole::loaded_run(stand, loaded, effort.time, CONNECTIONS, Pairing::Any);
        let off = run(&without).await?;
        whole::settled(&without.db).await?;
        let scraping = scrape(&with, effort.time);
        let (on, took) = tokio::join!(run(&with), scraping);
        scrapes.extend(took);
        whole::settled(&with.db).await?;
        let away = run(&dead).await?;
        whole::settled(&dead.db).await?;
        rounds.push([off, on?, away]);
    }
    report(table, &rounds);
    let row = Row::new("tracing", "/metrics under load: median", machine::median(&scrapes), "ms");
    table.push(row.reach(Target::AtMost(20.0)).note(format!("{} scrapes", scrapes.len())));
    complete(table, &with).await?;
    for loaded in [without, with, dead] {
        loaded.exchange.stop().await?;
    }
    Ok(())
}

fn report(table: &mut Table, rounds: &[[Seen; 3]]) {
    let median = |of: &dyn Fn(&[Seen; 3]) -> f64| {
        machine::median(&rounds.iter().map(of).collect::<Vec<_>>())
    };
    let rate = |place: usize| median(&|round: &[Seen; 3]| round[place].outcome.rate());
    let ratio = |place: usize| {
        median(&|round: &[Seen; 3]| round[place].outcome.rate() / round[0].outcome.rate())
    };
    let p99 = |place: usize| median(&|round: &[Seen; 3]| round[place].outcome.latency_ms(0.99));
    let errors =
        |place: usize| -> u64 { rounds.iter().map(|round| round[place].outcome.errors()).sum() };
    let note = format!(
        "{:.0} against {:.0} orders/s; medians of {} rounds at {CONNECTIONS} connections",
        rate(1),
        rate(0),
        rounds.len()
    );
    let row =
        Row::new("tracing", "orders/s with a trace of every order, over without", ratio(1), "×");
    table.push(row.reach(Target::AtLeast(0.85)).note(note));
    let more = median(&|round: &[Seen; 3]| {
        round[1].outcome.latency_ms(0.99) - round[0].outcome.latency_ms(0.99)
    });
    let row = Row::new("tracing", "p99 with, less without", more, "ms");
    table.push(row.reach(Target::AtMost(1.0)).note(format!(
        "{:.1} against {:.1} ms",
        p99(1),
        p99(0)
    )));
    let worse = median(&|round: &[Seen; 3]| {
        round[2].outcome.latency_ms(0.99) / round[1].outcome.latency_ms(0.99)
    });
    let row =
        Row::new("tracing", "p99 with a collector that never answers, over with none", worse, "×");
    table.push(row.reach(Target::AtMost(1.1)).note(format!(
        "{:.1} ms; {:.0} orders/s",
        p99(2),
        rate(2)
    )));
    let errors = errors(0) + errors(1) + errors(2);
    let row = Row::new("tracing", "errors", machine::ratio(errors, 1), "");
    table.push(row.reach(Target::AtMost(0.0)));
}

/// Reads the metrics while the exchange is loaded; returns how long each reading took, in milliseconds.
async fn scrape(loaded: &Loaded, time: Duration) -> Vec<f64> {
    let end = Instant::now() + time;
    let mut all = Vec::new();
    while Instant::now() + LOOK < end {
        tokio::time::sleep(LOOK).await;
        let begun = Instant::now();
        if loaded.exchange.get("/metrics").await.is_ok_and(|reply| reply.status == 200) {
            all.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    all
}

/// Counts the traces of the orders that were placed: each must be there, with its row's times.
async fn complete(table: &mut Table, loaded: &Loaded) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let placed =
        loaded.exchange.metric("kx_commands_published_total{outcome=\"confirmed\"}").await?;
    let traced = store::traces::count_complete(&loaded.db).await?;
    let share = machine::ratio(traced, 1) / placed;
    let row = Row::new("tracing", "complete traces of commands that were sent", share * 100.0, "%");
    table.push(row.reach(Target::AtLeast(100.0)).note(format!("{traced} of {placed:.0}")));
    Ok(())
}

/// Takes connections and never answers. Ends with this value.
struct BlackHole {
    port: u16,
    task: JoinHandle<()>,
}

impl BlackHole {
    async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });
        Ok(Self { port, task })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.task.abort();
    }
}
