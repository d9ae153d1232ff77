//! `krystalinex journal show`: the journal's rows in words.

use std::process::ExitCode;

use journal::{Batch, Row};
use serde_json::json;
use units::Sequence;

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Rows that are read at once.
const ROWS_AT_ONCE: u64 = 256;

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
    let limit = usize::try_from(show.limit).unwrap_or(usize::MAX);
    let rows = match show.from {
        Some(first) => first_rows(opened, show, first.max(1), last, limit).await?,
        None => last_rows(opened, show, last, limit).await?,
    };
    for (row, batch) in &rows {
        print_row(row, batch, show.json);
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds the first rows from `first` on that are shown.
async fn first_rows(
    opened: &Opened,
    show: &Show,
    first: u64,
    last: u64,
    limit: usize,
) -> anyhow::Result<Vec<(Row, Batch)>> {
    let mut found = Vec::new();
    let mut at = first;
    while at <= last && found.len() < limit {
        let rows = window(opened, show, at, last.min(at + ROWS_AT_ONCE - 1)).await?;
        found.extend(rows);
        at += ROWS_AT_ONCE;
    }
    found.truncate(limit);
    Ok(found)
}

/// Finds the last rows up to `last` that are shown: an idle journal has many that are not.
async fn last_rows(
    opened: &Opened,
    show: &Show,
    last: u64,
    limit: usize,
) -> anyhow::Result<Vec<(Row, Batch)>> {
    let mut found: Vec<(Row, Batch)> = Vec::new();
    let mut end = last;
    while end > 0 && found.len() < limit {
        let begin = end.saturating_sub(ROWS_AT_ONCE - 1).max(1);
        let mut rows = window(opened, show, begin, end).await?;
        rows.append(&mut found);
        found = rows;
        end = begin - 1;
    }
    let surplus = found.len().saturating_sub(limit);
    found.drain(..surplus);
    Ok(found)
}

/// Reads the rows from `begin` to `end` that are shown.
async fn window(
    opened: &Opened,
    show: &Show,
    begin: u64,
    end: u64,
) -> anyhow::Result<Vec<(Row, Batch)>> {
    let count = usize::try_from(end + 1 - begin)?;
    let rows = store::journal::rows_after(&opened.db, Sequence::new(begin - 1), count).await?;
    let mut shown = Vec::new();
    for row in rows {
        let batch = journal::read(&row)?;
        let only_tick =
            batch.entries.iter().all(|entry| matches!(entry.command.action, engine::Action::Tick));
        if show.ticks || !only_tick {
            shown.push((row, batch));
        }
    }
    Ok(shown)
}

fn print_row(row: &Row, batch: &Batch, json: bool) {
    if json {
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
        return;
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
}
