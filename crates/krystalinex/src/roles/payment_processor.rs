//! The payment processor: the sequencer, active or in standby; a share of the projections; the snapshots.

use std::sync::Arc;

use processor::Status;
use server::JwtSecret;
use tokio_util::sync::CancellationToken;

use super::{drained, open, serve};
use crate::config::Config;
use crate::exchange::{Exchange, Settings};
use crate::traces::{self, Writer};
use crate::{markets, process};

/// Runs it until `shutdown`.
///
/// # Errors
///
/// The port is in use, what it stands on is not as it must be, or the sequencer has failed.
pub(super) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let markets = markets::load(config.markets.as_deref())?;
    let listener = server::bind(config.processor_address()).await?;
    let status = Arc::new(Status::default());
    let stop = CancellationToken::new();
    // Nobody signs in here: the limits of its connections are all that it has of a server, and the key signs nothing.
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let limits = config.for_server(JwtSecret::new(&key)?).plain();
    let router = processor::health_router(Arc::clone(&status));
    let serving = vec![serve(listener, router, &limits, stop.clone())];
    let ended = process(&config, &markets, &status, &shutdown).await;
    stop.cancel();
    drained(serving).await;
    ended
}

async fn process(
    config: &Config,
    markets: &markets::Markets,
    status: &Arc<Status>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    // What is waited for is no reason to restart the process.
    let beating = status.beat_until(shutdown.clone());
    let opened = open(config, "kx-payment-processor", shutdown).await;
    drop(beating);
    let Some((db, transport)) = opened? else {
        return Ok(());
    };
    tokio::spawn(process::measure_pool(db.clone()));
    let recorder = traces::recorder(config);
    let settings = Settings::new(config, markets, &recorder);
    let traces = Writer::start(config, &db, recorder, ("kx-payment-processor", &settings.owner));
    let mut exchange = Exchange::start(db, settings, transport, Arc::clone(status)).await?;
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = exchange.failed() => Err(failed),
    };
    exchange.stop().await;
    traces.stop().await;
    ended
}
