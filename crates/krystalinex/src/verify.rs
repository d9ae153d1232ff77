//! `krystalinex verify`: recomputes every invariant of the exchange from its journal and names the first row that is
//! wrong.
//!
//! Invariant: it changes nothing that the exchange has. What it compares with was made by this run alone, from the
//! journal's first row.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use store::audit::chain::NotedHead;
use store::{Db, StoreError, journal, snapshots};
use units::{Hash32, Sequence};

use crate::config::{Role, Sources};
use crate::database::Opened;

pub(crate) mod journal_check;
mod projections;
mod report;
pub(crate) mod stream;
#[cfg(test)]
mod tests;

use journal_check::Walk;
use report::{Area, Report};

/// Verifies a journal and everything that was made from it.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Leaves the projections out: the journal, the state and the snapshots alone.
    #[arg(long)]
    journal_only: bool,
}

/// Runs the command: exit code 1 where anything is wrong.
///
/// # Errors
///
/// The configuration is wrong, or the database cannot be read.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let verified = verify(&opened.db, args.journal_only).await;
    opened.close().await?;
    let verified = verified?;
    print!("{verified}");
    Ok(if verified.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What a verification came to.
#[derive(Debug)]
pub(crate) struct Verified {
    report: Report,
    commands: u64,
    window: (usize, usize),
    last: Sequence,
    last_hash: Hash32,
    journal_time: Duration,
    whole_time: Duration,
}

impl Verified {
    /// Returns whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.report.is_clean()
    }

    /// Returns how many commands the state remembers at the end, and the bytes that takes.
    pub(crate) fn dedup_window(&self) -> (usize, usize) {
        self.window
    }

    /// Returns the commands a second that were read, checked, decided again and applied.
    pub(crate) fn rate(&self) -> f64 {
        let commands = f64::from(u32::try_from(self.commands).unwrap_or(u32::MAX));
        commands / self.journal_time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { report, commands, last, last_hash, .. } = self;
        let (journal, whole) = (self.journal_time.as_secs_f64(), self.whole_time.as_secs_f64());
        writeln!(
            f,
            "journal   {last} rows, {commands} commands; the last row's hash is {last_hash}"
        )?;
        write!(f, "{report}")?;
        writeln!(
            f,
            "time      {whole:.2} s; the journal {journal:.2} s, {:.0} commands/s",
            self.rate()
        )?;
        match report.is_clean() {
            true => writeln!(f, "Everything agrees."),
            false => writeln!(f, "WRONG: see above; the first fault of each kind is named."),
        }
    }
}

/// Verifies the journal in a database, and what was made from it.
///
/// # Errors
///
/// The database cannot be read.
pub(crate) async fn verify(db: &Db, journal_only: bool) -> anyhow::Result<Verified> {
    let started = Instant::now();
    let mut report = Report::default();
    let walk = walk(db, &mut report).await?;
    let journal_time = started.elapsed();
    if !journal_only {
        projections::compare(db, &mut report).await?;
        audit_chain(db, walk.audit_heads(), &mut report).await?;
    }
    Ok(Verified {
        commands: walk.commands(),
        window: walk.dedup_window(),
        last: walk.last(),
        last_hash: walk.last_hash(),
        journal_time,
        whole_time: started.elapsed(),
        report,
    })
}

/// Checks the hash chain of the audit log, in itself and against the heads that the journal has noted.
async fn audit_chain(db: &Db, noted: &[NotedHead], report: &mut Report) -> anyhow::Result<()> {
    let checked = store::audit::chain::check(db, noted).await;
    let checked = checked.context("the audit log cannot be read")?;
    report.counted(Area::AuditLog, checked.links);
    report.counted(Area::AuditHeads, checked.noted);
    if let Some(fault) = checked.fault {
        report.fault(Area::AuditLog, fault);
    }
    if let Some(fault) = checked.noted_fault {
        report.fault(Area::AuditHeads, fault);
    }
    Ok(())
}

/// Walks along the journal up to its head.
async fn walk(db: &Db, report: &mut Report) -> anyhow::Result<Walk> {
    let stored = snapshots::list(db, None).await.context("the snapshots cannot be read")?;
    for snapshot in &stored {
        // What it says of itself; whether that is the journal's state is compared on the way.
        match snapshots::load(db, snapshot).await {
            Ok(_) => report.counted(Area::SnapshotBytes, 1),
            Err(StoreError::Corrupt(text)) => report.fault(Area::SnapshotBytes, text),
            Err(error) => return Err(error).context("a snapshot cannot be read"),
        }
    }
    let snapshots: Vec<_> = stored.iter().map(|stored| stored.snapshot).collect();
    let head = journal::head(db).await.context("the journal's head cannot be read")?;
    let bar = bar(head.map_or(0, |(head, ..)| head.get()));
    let mut walk = Walk::new(&snapshots);
    let mut rows = stream::rows(db, Sequence::new(0))?;
    'journal: while let Some(lot) = rows.recv().await {
        let lot = match lot {
            Ok(lot) => lot,
            Err(StoreError::Corrupt(text)) => {
                report.fault(Area::Chain, text);
                break;
            }
            Err(error) => return Err(error).context("the journal cannot be read"),
        };
        for row in lot {
            if !walk.row(row, report) {
                break 'journal;
            }
        }
        bar.set_position(walk.last().get());
    }
    walk.finish(report);
    if walk.last() == Sequence::new(0) && report.is_clean() {
        report.fault(Area::Chain, "the journal is empty".to_owned());
    }
    bar.finish_and_clear();
    Ok(walk)
}

fn bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows).with_message("journal");
    let style = "{msg:9} {wide_bar} row {pos} of {len} eta {eta}";
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
