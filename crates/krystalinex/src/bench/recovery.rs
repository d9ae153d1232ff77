//! Sections `recovery` and `start`: how fast an exchange is there again, and what it takes in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use engine::State;
use store::Db;
use units::Sequence;

use super::core;
use super::exchange::Exchange;
use super::machine;
use super::seed;
use super::sql;
use super::stand::Stand;
use super::table::{Row, Table, Target};
use crate::verify::journal_check::ReadRow;
use crate::verify::stream;

const SECTION: &str = "recovery";
/// How long the projections of the whole journal may take.
const PROJECT_MAX: Duration = Duration::from_secs(900);

/// Measures recovery with many resting orders and accounts.
///
/// # Errors
///
/// The database or the exchange fails.
pub(crate) async fn run(table: &mut Table, stand: &Stand, quick: bool) -> anyhow::Result<()> {
    let (orders, accounts) = if quick { (100_000, 10_000) } else { (1_000_000, 100_000) };
    let config = stand.database().await?;
    let db = Db::connect(config.clone()).await?;
    store::migrate::run(&db).await?;
    let mut commands = core::resting_commands(orders, accounts).peekable();
    let opening = commands.peek().map(|command| command.action.clone()).context("not empty")?;
    let incarnation = super::orders::incarnation(&[opening]);
    let head = seed::journal(&db, incarnation, commands).await?;
    eprintln!("  a journal of {head} rows is written");
    journal_rate(table, &db, orders).await?;
    evolve_rate(table, &db, if quick { 2 } else { 5 }).await?;
    exchange(table, &config, &db, head, orders).await
}

/// Reads, checks and applies the whole journal, each on its own thread.
async fn journal_rate(table: &mut Table, db: &Db, orders: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut rows = stream::rows(db, Sequence::new(0))?;
    let (mut state, mut commands) = (State::new(), 0_u64);
    while let Some(lot) = rows.recv().await {
        for row in lot? {
            let batch = row.batch().context("the row was just written")?;
            commands += apply(&mut state, batch);
        }
    }
    let rate = machine::ratio(commands, 1) / started.elapsed().as_secs_f64();
    let resting: usize = state.markets().map(|market| market.orders).sum();
    ensure!(resting == orders, "{orders} orders rest, not {resting}");
    let row = Row::new(SECTION, "journal read, checked and evolved", rate, "commands/s");
    table.push(row.reach(Target::AtLeast(500_000.0)).note(format!("{commands} commands")));
    Ok(())
}

fn apply(state: &mut State, batch: &journal::Batch) -> u64 {
    batch.open(state);
    for entry in &batch.entries {
        engine::evolve(state, &entry.command, &entry.event, &mut ());
    }
    u64::try_from(batch.entries.len()).unwrap_or(0)
}

/// Applies batches that are in memory already.
async fn evolve_rate(table: &mut Table, db: &Db, runs: usize) -> anyhow::Result<()> {
    let mut rows = stream::rows(db, Sequence::new(0))?;
    let mut read = Vec::new();
    while let Some(lot) = rows.recv().await {
        read.extend(lot?);
    }
    let measured = tokio::task::spawn_blocking(move || {
        let batches: Vec<_> = read.iter().filter_map(ReadRow::batch).collect();
        let run = |_| {
            let mut state = State::new();
            let started = Instant::now();
            let commands: u64 = batches.iter().map(|batch| apply(&mut state, batch)).sum();
            (started.elapsed(), commands)
        };
        (0..runs).map(run).min()
    });
    let (time, commands) = measured.await?.context("there is a run")?;
    let rate = machine::ratio(commands, 1) / time.as_secs_f64();
    let row = Row::new(SECTION, "evolving alone", rate, "commands/s");
    table
        .push(row.reach(Target::AtLeast(3e6)).note(format!("{commands} commands, best of {runs}")));
    Ok(())
}

/// Lets an exchange project the journal and snapshot the state, and starts it again.
async fn exchange(
    table: &mut Table,
    config: &store::DbConfig,
    db: &Db,
    head: Sequence,
    orders: usize,
) -> anyhow::Result<()> {
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let started = Instant::now();
    let exchange = Exchange::start(data.path(), Some(config)).await?;
    let from_zero = exchange.ready_after().as_secs_f64();
    table.push(Row::new(SECTION, "ready without a snapshot", from_zero, "s"));
    while sql::projected(db).await? < head {
        ensure!(started.elapsed() < PROJECT_MAX, "the projections do not catch up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rate = machine::ratio(u64::try_from(orders)?, 1) / started.elapsed().as_secs_f64();
    table.push(
        Row::new("projection", "orders projected from the journal", rate, "orders/s")
            .note("from the start of the process; each rests"),
    );
    exchange.stop().await?;
    let exchange = Exchange::start(data.path(), Some(config)).await?;
    let ready = exchange.ready_after().as_secs_f64();
    let resident = machine::resident_bytes(exchange.pid()) / (1 << 20);
    let row = Row::new(SECTION, "ready from a snapshot", ready, "s").reach(Target::AtMost(5.0));
    table.push(row.note(format!("{orders} resting orders; {resident} MiB resident then")));
    exchange.stop().await
}

/// Measures a cold and a warm start with a cluster of its own, and what an idle exchange takes.
///
/// # Errors
///
/// The exchange does not start or stop.
pub(crate) async fn start(table: &mut Table, quick: bool) -> anyhow::Result<()> {
    let runs = if quick { 1 } else { 5 };
    let (mut cold, mut warm, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let data = tempfile::tempdir().context("cannot make a temporary folder")?;
        let exchange = Exchange::start(data.path(), None).await?;
        cold.push(exchange.ready_after().as_secs_f64());
        exchange.stop().await?;
        let exchange = Exchange::start(data.path(), None).await?;
        warm.push(exchange.ready_after().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(3)).await;
        idle.push(machine::ratio(machine::resident_bytes(exchange.pid()), 1 << 20));
        exchange.stop().await?;
    }
    let note = format!("median of {runs}");
    let row = |what: &str, values: &[f64], unit| {
        Row::new("start", what, machine::median(values), unit).note(&*note)
    };
    table.push(row("ready, the cluster is made first", &cold, "s").reach(Target::AtMost(8.0)));
    table.push(row("ready, warm", &warm, "s").reach(Target::AtMost(2.0)));
    table.push(row("resident when idle", &idle, "MiB").reach(Target::AtMost(60.0)));
    Ok(())
}
