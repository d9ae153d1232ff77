//! `krystalinex bench`: measures the exchange on this machine and says what it should reach.
//!
//! Invariant: what depends on the machine's mood is compared with a yardstick of the same run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::json;

mod core;
mod flow;
mod machine;
mod table;

use machine::Stolen;
use table::{Row, Table};

/// Measures the exchange and prints a table with what should be reached.
#[derive(Debug, Parser)]
pub struct Args {
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
    /// The core alone.
    Engine,
}

/// Runs the command.
///
/// # Errors
///
/// A section cannot be measured, or the JSON cannot be written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let all = [Section::Engine];
    let sections = if args.sections.is_empty() { all.to_vec() } else { args.sections.clone() };
    let mut table = Table::default();
    let facts = machine::facts();
    if cfg!(debug_assertions) {
        eprintln!("This is not a release build: its numbers mean nothing.");
    }
    let stolen = Stolen::now();
    for section in sections {
        eprintln!("{section:?}");
        match section {
            Section::Engine => {
                table = tokio::task::spawn_blocking(move || {
                    core::run(&mut table, args.quick).map(|()| table)
                })
                .await??;
            }
        }
    }
    let (steal, idle) = stolen.since();
    table.push(Row::new("machine", "withheld by the host (steal)", steal, "%"));
    table.push(Row::new("machine", "idle", idle, "%"));
    print!("{}", table.markdown());
    if let Some(path) = &args.json {
        let results = json!({
            "machine": facts, "quick": args.quick, "rows": table.json(),
        });
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if table.missed() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
