//! `krystalinex projections`: the tables that are made from the journal.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use store::projections::Progress;

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Works on the tables that are made from the journal.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes all of them anew from the journal, beside those in use, and puts them in their place when they have caught up.
    ///
    /// The exchange may go on meanwhile. Nothing is lost when this is interrupted.
    Rebuild {
        #[command(flatten)]
        sources: Sources,
    },
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, or the journal cannot be read.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Rebuild { sources } = args.command;
    let config = sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut show = |progress: Progress| {
        bar.set_length(progress.goal.get());
        bar.set_position(progress.done.get());
    };
    let rebuilt = store::projections::rebuild(&opened.db, &mut show).await;
    bar.finish_and_clear();
    let closed = opened.close().await;
    let rebuilt = rebuilt?;
    closed?;
    println!("The projections were rebuilt up to journal row {}.", rebuilt.sequence);
    Ok(ExitCode::SUCCESS)
}
