//! `krystalinex journal show`: the journal's rows in words.

use std::process::ExitCode;

use journal::Row;
use serde_json::json;
use units::Sequence;

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 256;

/// Reads the journal.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints rows with their commands and what they did, oldest first. Each row's hash is checked.
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    sources: Sources,
    /// The first row; the last ones are shown where it is not given.
    #[arg(long)]
    from: Option<u64>,
    /// The last row; the newest where it is not given.
    #[arg(long)]
    to: Option<u64>,
    /// How many rows are shown at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// One JSON object a row.
    #[arg(long)]
    json: bool,
    /// Rows that have nothing but a tick, too.
    #[arg(long)]
    ticks: bool,
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, or a row cannot be read.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Show(show) = args.command;
    let config = show.sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let result = print_rows(&opened, &show).await;
    opened.close().await?;
    result
}

async fn print_rows(opened: &Opened, show: &Show) -> anyhow::Result<ExitCode> {
    let head = store::journal::head(&opened.db).await?.map_or(0, |(sequence, _, _)| sequence.get());
    let last = show.to.unwrap_or(head).min(head);
    let first = show.from.unwrap_or_else(|| last.saturating_sub(show.limit - 1)).max(1);
    let mut after = Sequence::new(first.saturating_sub(1));
    let mut shown = 0;
    while after.get() < last && shown < show.limit {
        let rows = store::journal::rows_after(&opened.db, after, ROWS_AT_ONCE).await?;
        let Some(newest) = rows.last() else {
            break;
        };
        after = newest.sequence;
        for row in rows.iter().filter(|row| row.sequence.get() <= last) {
            if shown < show.limit && print_row(row, show)? {
                shown += 1;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a row; `false` where it is passed over.
fn print_row(row: &Row, show: &Show) -> anyhow::Result<bool> {
    let batch = journal::read(row)?;
    let only_tick =
        batch.entries.iter().all(|entry| matches!(entry.command.action, engine::Action::Tick));
    if only_tick && !show.ticks {
        return Ok(false);
    }
    if show.json {
        let entries = batch.entries.iter().map(|entry| {
            json!({
                "id": wire::id::format(entry.command.id),
                "traceId": wire::id::format_trace(entry.command.trace_id),
                "command": format!("{:?}", entry.command.action),
                "event": format!("{:?}", entry.event),
            })
        });
        let line = json!({
            "sequence": row.sequence.get(),
            "time": row.time.micros(),
            "incarnation": row.incarnation,
            "epoch": row.epoch,
            "format": row.format,
            "rules": row.rules,
            "hash": row.hash.to_string(),
            "previousHash": row.previous_hash.to_string(),
            "entries": entries.collect::<Vec<_>>(),
        });
        println!("{line}");
        return Ok(true);
    }
    println!(
        "row {}  time {}  epoch {}  {} command(s)  {} bytes  hash {}",
        row.sequence,
        row.time,
        row.epoch,
        row.commands,
        row.payload.len(),
        row.hash
    );
    for entry in &batch.entries {
        println!(
            "  {} {:?}\n    -> {:?}",
            wire::id::format(entry.command.id),
            entry.command.action,
            entry.event
        );
    }
    Ok(true)
}
