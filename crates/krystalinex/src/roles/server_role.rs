//! The server: the API, on the state that it follows, with the commands given to RabbitMQ.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use follower::{FollowError, Follower, Live};
use server::mail::Inbox;
use server::{App, Mode, Parts, ServerConfig, SystemClock};
use store::Db;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{drained, open, serve};
use crate::config::Config;
use crate::exchange::host_name;
use crate::process;
use crate::traces::{self, Writer};
use crate::transport::Transport;
use crate::waiting;

/// How often it is looked whether the journal is there.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it until `shutdown`.
///
/// # Errors
///
/// The port is in use, what it stands on is not as it must be, or the journal cannot be followed.
pub(super) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let jwt_secret = config.jwt_secret.clone().context("a server needs JWT_SECRET")?;
    let mut server_config = config.for_server(jwt_secret);
    crate::process::fit_connections(&mut server_config);
    let listener = server::bind(config.server_address()).await?.into_std()?;
    let stop = CancellationToken::new();
    let until_ready = stop.child_token();
    let again = || TcpListener::from_std(listener.try_clone()?);
    let mut serving = vec![serve(again()?, waiting::router(), &server_config, until_ready.clone())];
    let inbox = inbox(&config, &server_config, &stop, &mut serving).await;
    let Some((db, transport)) = open(&config, "kx-server", &shutdown).await? else {
        stop.cancel();
        drained(serving).await;
        return Ok(());
    };
    tokio::spawn(process::measure_pool(db.clone()));
    let Some((live, following)) = follow(&db, &transport, &stop, &shutdown).await? else {
        stop.cancel();
        drained(serving).await;
        return Ok(());
    };
    let recorder = traces::recorder(&config);
    let written = Writer::start(&config, &db, Arc::clone(&recorder), ("kx-server", &host_name()));
    serving.extend(traces::serve(&config, &db, &server_config, &stop).await?);
    let app = App::new(Parts {
        config: server_config,
        recorder,
        db,
        live: Arc::clone(&live),
        publisher: Arc::clone(&transport.publisher),
        mailer: config.mailer(inbox)?,
        clock: Arc::new(SystemClock),
    });
    let draining = shutdown.clone();
    let server = again()?;
    serving.push(tokio::spawn(async move {
        server::serve_on(server, app, draining.cancelled_owned()).await;
    }));
    // The waiting page goes when the application listens: no connection falls between the two.
    until_ready.cancel();
    shutdown.cancelled().await;
    // Requests under way still wait for rows, so following ends after them.
    drained(serving).await;
    stop.cancel();
    written.stop().await;
    let _ = following.await;
    Ok(())
}

/// The development inbox, on this machine alone; in production, or where there is SMTP, nobody can look into it.
async fn inbox(
    config: &Config,
    server_config: &ServerConfig,
    stop: &CancellationToken,
    serving: &mut Vec<JoinHandle<()>>,
) -> Inbox {
    let inbox = Inbox::default();
    let (port, _) = config.inbox_port;
    if config.mode != Mode::Production && config.smtp_url.is_none() {
        match server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(listener) => {
                let router = server::inbox::router(inbox.clone());
                serving.push(serve(listener, router, &server_config.plain(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(reason = %error, "there is no development inbox: its port cannot be used");
            }
        }
    }
    inbox
}

/// Follows the journal; returns when its first row is there. `None` when told to stop before.
async fn follow(
    db: &Db,
    transport: &Transport,
    stop: &CancellationToken,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<(Arc<Live>, JoinHandle<Result<(), FollowError>>)>> {
    // It listens before the snapshot is read, so that nothing falls between the two.
    let follower = Follower::load(db.clone(), transport.subscriber()).await?;
    let live = follower.live();
    let following = tokio::spawn(follower.run(stop.clone()));
    while live.incarnation() == 0 || !live.has_caught_up() {
        if let Some(reason) = live.stopped() {
            anyhow::bail!("the journal cannot be followed: {reason}");
        }
        if shutdown.is_cancelled() {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Some((live, following)))
}
