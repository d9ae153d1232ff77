//! `krystalinex server` and `krystalinex payment-processor`: one role in its own process, as production runs them.
//!
//! Between them is RabbitMQ; what they know they know from PostgreSQL. So any number of each can run, and each can be
//! killed: servers hold nothing, and of the payment processors one decides while the others stand by.

mod alert_relay;
mod payment_processor;
mod server_role;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use server::ServerConfig;
use store::Db;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Database, Role, Sources};
use crate::database::open_waiting;
use crate::process;
use crate::transport::Transport;

/// How long a role's HTTP connections may take to end at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Runs one role alone, as production does: with the environment of the runbook's Appendix A.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// The file of assets, markets and limits that a new journal is born with; the payment processor alone reads it.
    #[arg(long, value_name = "FILE", env = "KX_MARKETS")]
    markets: Option<std::path::PathBuf>,
}

/// Runs the alert relay alone: it needs neither a database nor a broker.
#[derive(Debug, clap::Args)]
pub struct RelayArgs {
    #[command(flatten)]
    sources: Sources,
}

impl From<RelayArgs> for Args {
    fn from(args: RelayArgs) -> Self {
        Self { sources: args.sources, markets: None }
    }
}

/// Runs the role until it is told to stop.
///
/// # Errors
///
/// The configuration is wrong, a port is in use, or a part cannot be started or has failed.
pub async fn run(args: Args, role: Role) -> anyhow::Result<ExitCode> {
    let mut config = args.sources.load(role)?;
    config.markets = args.markets.or(config.markets);
    let (service, roles): (_, &[&str]) = match role {
        Role::Server => ("kx-server", &["server"]),
        Role::AlertRelay => ("kx-alert-relay", &["alert-relay"]),
        _ => ("kx-payment-processor", &["payment-processor", "projector"]),
    };
    process::start_telemetry(&config, service, roles, false);
    let shutdown = CancellationToken::new();
    process::catch_signals(shutdown.clone())?;
    tokio::spawn(process::measure_process());
    match role {
        Role::Server => server_role::run(config, shutdown).await?,
        Role::AlertRelay => alert_relay::run(config, shutdown).await?,
        _ => payment_processor::run(config, shutdown).await?,
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Opens what both roles stand on, as soon as it is there: the database with our schema, and the broker. `None` when told
/// to stop before.
async fn open(
    config: &Config,
    service: &'static str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<(Db, Transport)>> {
    let Database::External(database) = &config.database else {
        anyhow::bail!("a role alone needs DB_HOST");
    };
    let database = store::DbConfig { application_name: service.to_owned(), ..database.clone() };
    let Some(db) = open_waiting(&database, shutdown).await? else {
        return Ok(None);
    };
    let address = config.rabbitmq.clone().context("a role alone needs RABBITMQ_URL")?;
    let transport = Transport::rabbit(address, service, shutdown).await?;
    Ok(transport.map(|transport| (db, transport)))
}

/// Serves a router until `stop`.
fn serve(
    listener: TcpListener,
    router: axum::Router,
    config: &ServerConfig,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let config = config.clone();
    tokio::spawn(async move {
        server::serve_router(listener, router, &config, stop.cancelled_owned()).await;
    })
}

/// Waits until what serves HTTP has ended.
async fn drained(mut serving: Vec<JoinHandle<()>>) {
    let all = async {
        for task in &mut serving {
            let _ = task.await;
        }
    };
    if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
        tracing::warn!("some connections were still open at shutdown and are closed");
        serving.iter().for_each(JoinHandle::abort);
    }
}
