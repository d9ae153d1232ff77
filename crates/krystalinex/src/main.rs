//! The exchange in one binary: its roles and its tools.
#![expect(
    unreachable_pub,
    reason = "nothing of a binary can be reached from outside; `pub` says what a module is for"
)]

mod admin;
mod banner;
mod bench;
mod config;
mod control;
mod database;
mod demo;
mod exchange;
mod explain;
mod journal_show;
mod markets;
mod markets_apply;
mod migrate;
mod process;
mod projections;
mod replay;
mod restore;
mod roles;
mod status;
mod traces;
mod transport;
mod up;
mod verify;
mod waiting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Gives memory back that other threads have freed, which mimalloc kept: a payment processor under load takes a third less than with
/// that, an idle exchange as well (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// KrystalineX, a crypto exchange whose every trade can be seen through.
///
/// `krystalinex up` runs all of it. Every setting can be given in the environment; `krystalinex config` lists them.
#[derive(Debug, Parser)]
#[command(version = process::BUILD, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole exchange in one process, with a PostgreSQL of its own.
    Up(up::Args),
    /// Run the server alone.
    Server(roles::Args),
    /// Run the payment processor alone.
    PaymentProcessor(roles::Args),
    /// Run the relay that hands Alertmanager's alerts to ntfy and Slack.
    AlertRelay(roles::RelayArgs),
    /// Bring the database's schema up to date.
    Migrate(migrate::Args),
    /// Apply or check a file of assets, markets and limits.
    Markets(markets_apply::Args),
    /// Give roles and lock users out.
    Admin(admin::Args),
    /// Say in words why a request was slow.
    Explain(explain::Args),
    /// Read the journal.
    Journal(journal_show::Args),
    /// Rebuild the tables that are made from the journal.
    Projections(projections::Args),
    /// Feed recorded orders to the exchange.
    Replay(Box<replay::Args>),
    /// Begin a new journal on a database that was restored from a backup.
    Restore(restore::Args),
    /// Recompute every invariant and name the first row that is wrong.
    Verify(verify::Args),
    /// Say how a running exchange is.
    Status(status::Args),
    /// Measure the exchange on this machine.
    Bench(bench::Args),
    /// List every setting with its default.
    Config,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("krystalinex: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(cli.command));
    // A task that hangs in the background must not hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(code) => code,
        Err(error) => {
            // The log is for machines; whoever has started this reads standard error.
            tracing::error!(reason = %format_args!("{error:#}"), "the process ends");
            process::say(&format!("krystalinex: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Server(args) => roles::run(args, config::Role::Server).await,
        Command::PaymentProcessor(args) => roles::run(args, config::Role::PaymentProcessor).await,
        Command::AlertRelay(args) => roles::run(args.into(), config::Role::AlertRelay).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Markets(args) => markets_apply::run(args).await,
        Command::Admin(args) => admin::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Journal(args) => journal_show::run(args).await,
        Command::Projections(args) => projections::run(args).await,
        Command::Replay(args) => replay::run(*args).await,
        Command::Restore(args) => restore::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Config => {
            print!("{}", config::reference());
            Ok(ExitCode::SUCCESS)
        }
    }
}
