//! `krystalinex migrate`: brings the database's schema to this release's version.

use std::process::ExitCode;

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Brings the database's schema to this release's version. Safe while an exchange runs; `up` does it by itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Only says where the schema stands; exit code 1 when something is missing.
    #[arg(long)]
    status: bool,
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, or a migration fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let result = work(&opened, args.status).await;
    opened.close().await?;
    result
}

async fn work(opened: &Opened, only_status: bool) -> anyhow::Result<ExitCode> {
    if only_status {
        let status = store::migrate::status(&opened.db).await?;
        println!(
            "the database is at version {}, this release at {}",
            status.database, status.program
        );
        status.missing.iter().for_each(|name| println!("missing: {name}"));
        return Ok(if status.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) });
    }
    match store::migrate::run(&opened.db).await? {
        0 => println!("The schema is up to date."),
        count => println!("{count} migration(s) done."),
    }
    Ok(ExitCode::SUCCESS)
}
