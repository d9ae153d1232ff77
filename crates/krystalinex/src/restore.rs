//! `krystalinex restore`: what has to be said to the journal after its database was restored from a backup.
//!
//! The rows after the backup are lost, and others may still speak of them: commands that wait in RabbitMQ, servers, clients.
//! The restored journal gets a new random number, and all that is meant for the lost one is told apart by it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use store::Db;
use units::Sequence;

use crate::config::{Role, Sources};
use crate::database::Opened;
use crate::process;

/// How long the journal must stand still before nobody is at work on it: an active payment processor ticks every second.
const SILENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);

/// Begins a new journal where a restored database ends.
///
/// Restore the backup into the database first, with every server and payment processor stopped; then run this; then start
/// them. Commands that still wait in RabbitMQ for the lost rows' journal go to the dead letters undecided, and clients that
/// have seen lost rows are told to begin anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// The last row of the lost journal, where it is known: from a log line or a reply. Kept in the journal for the record.
    #[arg(long, value_name = "ROW")]
    lost_head: Option<u64>,
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, the exchange is still at work on it, or its journal is empty.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.sources.load(Role::Tool)?;
    process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let restored = restore(&opened.db, args.lost_head.map(Sequence::new)).await;
    opened.close().await?;
    let (cut, restored) = restored?;
    println!(
        "The journal goes on as a new one: row {} says that what followed row {cut} is lost.\n\
         Its incarnation is {}. Start the payment processors and the servers now, and run `krystalinex verify`.",
        restored.sequence, restored.incarnation
    );
    Ok(ExitCode::SUCCESS)
}

async fn restore(
    db: &Db,
    lost: Option<Sequence>,
) -> anyhow::Result<(Sequence, processor::Restored)> {
    let cut = head(db).await?;
    ensure!(
        lost.is_none_or(|lost| lost >= cut),
        "--lost-head is before row {cut}, the last one in the database: nothing is lost"
    );
    eprintln!("Looking whether anybody is at work on the journal ({} s) …", SILENCE.as_secs());
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        tokio::time::sleep(LOOK).await;
        ensure!(
            head(db).await? == cut,
            "a payment processor is at work on this database: stop every server and payment processor first"
        );
    }
    let restored = processor::restore(db, "krystalinex restore", rand::random(), lost).await?;
    Ok((cut, restored))
}

async fn head(db: &Db) -> anyhow::Result<Sequence> {
    Ok(store::journal::head(db).await?.map_or(Sequence::new(0), |(sequence, ..)| sequence))
}
