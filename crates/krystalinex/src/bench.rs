//! `krystalinex bench`: measures the exchange on this machine and says what it should reach.
//!
//! Invariant: what depends on the machine's mood is compared with a yardstick of the same run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio_util::sync::CancellationToken;

mod append;
mod auth;
mod core;
pub(crate) mod exchange;
pub(crate) mod flow;
pub(crate) mod http;
mod load;
mod logins;
mod machine;
mod orders;
mod reads;
mod recovery;
mod roles;
pub(crate) mod seed;
mod sql;
pub(crate) mod stand;
mod table;
mod tracing;
mod whole;
mod yardstick;

use crate::process::catch_signals;
use crate::verify;
use machine::Stolen;
use stand::{Loaded, Stand};
use table::{Row, Table, Target};
use yardstick::Yardstick;

/// Measures the exchange and prints a table with what should be reached.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// What to measure; everything where none is given.
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Fewer and shorter runs: for a first look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Writes the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A section of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The core alone: commands a second, latency, memory of a resting order.
    Engine,
    /// The journal's append against a plain INSERT.
    Append,
    /// Orders over HTTP through everything, with many connections, and one hot wallet.
    Whole,
    /// The same through a server and a payment processor of their own over RabbitMQ, a backlog, a takeover.
    Roles,
    /// What it takes to find out who asks, by an access token and by a signature.
    Auth,
    /// What a storm of logins costs the orders of others.
    Logins,
    /// What tracing every order costs, and a collector that never answers.
    Tracing,
    /// One connection, one order at a time.
    Single,
    /// What is read most, against a bare handler.
    Reads,
    /// A journal read again, a start from a snapshot, the projections from zero.
    Recovery,
    /// Cold and warm starts, memory when idle.
    Start,
}

/// Runs the command.
///
/// # Errors
///
/// A section cannot be measured, or the JSON cannot be written.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let asked = |section| args.sections.is_empty() || args.sections.contains(&section);
    let mut table = Table::default();
    let facts = machine::facts();
    if cfg!(debug_assertions) {
        eprintln!("This is not a release build: its numbers mean nothing.");
    }
    let stolen = Stolen::now();
    let stop = CancellationToken::new();
    catch_signals(stop.clone())?;
    // A section that cannot be measured does not take the others' figures with it, nor does whoever stops it; dropped, it
    // ends what it has started.
    let measured = tokio::select! {
        measured = measure(&mut table, args.quick, &asked) => measured,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before everything was measured")),
    };
    let (steal, idle) = stolen.since();
    table.push(Row::new("machine", "withheld by the host (steal)", steal, "%"));
    table.push(Row::new("machine", "idle", idle, "%"));
    print!("{}", table.markdown());
    if let Some(path) = &args.json {
        let results = json!({ "machine": facts, "quick": args.quick, "rows": table.json() });
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    measured?;
    Ok(if table.missed() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn measure(
    table: &mut Table,
    quick: bool,
    asked: &impl Fn(Section) -> bool,
) -> anyhow::Result<()> {
    if asked(Section::Engine) {
        let mut measured = std::mem::take(table);
        let (done, result) = tokio::task::spawn_blocking(move || {
            let result = core::run(&mut measured, quick);
            (measured, result)
        })
        .await?;
        *table = done;
        result?;
    }
    use Section::{Append, Auth, Logins, Reads, Recovery, Roles, Single, Tracing, Whole};
    let need_postgresql = [Append, Auth, Whole, Logins, Roles, Tracing, Single, Reads, Recovery];
    if need_postgresql.into_iter().any(asked) {
        on_a_cluster(table, quick, asked).await?;
    }
    if asked(Section::Start) {
        recovery::start(table, quick).await?;
    }
    Ok(())
}

/// Measures what needs PostgreSQL, on one cluster.
async fn on_a_cluster(
    table: &mut Table,
    quick: bool,
    asked: &impl Fn(Section) -> bool,
) -> anyhow::Result<()> {
    let stand = Stand::start().await?;
    if asked(Section::Append) {
        for commands in [64, 256] {
            append::run(table, stand.database().await?, commands, quick).await?;
        }
    }
    if asked(Section::Auth) {
        auth::run(table, stand.database().await?, quick).await?;
    }
    if asked(Section::Whole) || asked(Section::Single) || asked(Section::Reads) {
        let data = tempfile::tempdir().context("cannot make a temporary folder")?;
        let loaded = Loaded::start(&stand, data.path()).await?;
        if asked(Section::Reads) {
            reads::run(table, &loaded, quick).await?;
        }
        if asked(Section::Whole) || asked(Section::Single) {
            let yardstick = Yardstick::new(&stand.config()).await?;
            if asked(Section::Single) {
                whole::single(table, &stand, &loaded, &yardstick, quick).await?;
            }
            if asked(Section::Whole) {
                whole::run(table, &stand, &loaded, &yardstick, quick).await?;
            }
        }
        ended(table, loaded).await?;
    }
    if asked(Section::Logins) {
        logins::run(table, &stand, quick).await?;
    }
    if asked(Section::Roles) {
        roles::run(table, &stand, quick).await?;
    }
    if asked(Section::Tracing) {
        tracing::run(table, &stand, quick).await?;
    }
    if asked(Section::Recovery) {
        recovery::run(table, &stand, quick).await?;
    }
    Ok(())
}

/// Stops the loaded exchange and walks its journal: what was measured must also be right.
async fn ended(table: &mut Table, loaded: Loaded) -> anyhow::Result<()> {
    let resident = machine::resident_bytes(loaded.exchange.pid());
    loaded.exchange.stop().await?;
    let verified = verify::verify(&loaded.db, true).await?;
    anyhow::ensure!(
        verified.is_clean(),
        "the loaded exchange's journal does not verify:\n{verified}"
    );
    let what = "journal read, checked, decided again, evolved";
    let row = Row::new("verify", what, verified.rate(), "commands/s");
    table.push(row.note("the journal of the load: every command came to the same event"));
    // The sequencer and the follower have a state each.
    let (known, bytes) = verified.dedup_window();
    let window = u64::try_from(bytes)?.saturating_mul(2);
    let mib = |bytes| machine::ratio(bytes, 1 << 20);
    let note = format!(
        "{:.0} MiB in all; {known} commands remembered, twice: {:.0} MiB",
        mib(resident),
        mib(window)
    );
    let beside = mib(resident.saturating_sub(window));
    let row = Row::new("start", "resident after the load, beside the dedup window", beside, "MiB");
    table.push(row.reach(Target::AtMost(300.0)).note(note));
    Ok(())
}
