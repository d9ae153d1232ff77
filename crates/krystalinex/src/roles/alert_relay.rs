//! The alert relay: Alertmanager's webhooks in, notices to phones and channels out.

use alerts::Relay;
use anyhow::Context;
use server::JwtSecret;
use tokio_util::sync::CancellationToken;

use super::{drained, serve};
use crate::config::Config;

/// Runs it until `shutdown`.
///
/// # Errors
///
/// The port is in use.
pub(super) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let relay = config.alert_relay.clone().context("the relay needs to know whom to tell")?;
    let listener = server::bind(relay.address).await?;
    // Nobody signs in here: the limits of its connections are all that it has of a server, and the key signs nothing.
    let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let limits = config.for_server(JwtSecret::new(&key)?).plain();
    tracing::info!(address = %relay.address, ntfy = ?relay.settings.ntfy.url, slack = relay.settings.slack.is_some(), "relaying alerts");
    let router = Relay::new(relay.settings).router();
    let serving = vec![serve(listener, router, &limits, shutdown.clone())];
    shutdown.cancelled().await;
    drained(serving).await;
    Ok(())
}
