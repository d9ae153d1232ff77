//! `replay --through server`: the exchange that the orders go through, and what is checked when they have.
//!
//! Invariant: the core runs beside it, so everything that the exchange comes to has something to be compared with.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail, ensure};
use engine::Side;
use serde_json::json;
use store::Db;
use store::cluster::Throwaway;
use tokio::runtime::Handle;

use super::grid::{BASE, Grid, QUOTE};
use super::server::Server;
use super::venue::{self, Venue};
use super::{Args, Tally};
use crate::bench::exchange::Exchange;
use crate::bench::http::{self, Blocking};
use crate::bench::{seed, stand};
use crate::verify;

/// How long the exchange remembers ids: its own default.
const WINDOW_MICROS: u64 = 600_000_000;

/// An exchange that lives as long as the replay.
pub(crate) struct Own {
    exchange: Exchange,
    db: Db,
    // Gone last: the exchange is on it.
    _cluster: Throwaway,
    _data: tempfile::TempDir,
}

/// Where the orders go.
pub(crate) enum Place {
    /// An exchange of our own.
    Own(Box<Own>),
    /// One that runs.
    Running,
}

/// Finds or makes the exchange and connects to it.
///
/// # Errors
///
/// It does not start, is not there, or does not let the users in.
pub(crate) fn connect<'a>(args: &Args, grid: &'a Grid) -> anyhow::Result<(Place, Server<'a>)> {
    grid.check_edge()?;
    match &args.url {
        Some(url) => Ok((Place::Running, running(args, grid, url)?)),
        None => {
            let (own, tokens) = Handle::current().block_on(own(grid))?;
            let market = format!("{BASE}/{QUOTE}");
            let server = Server::new(own.exchange.address(), grid, market, tokens)?;
            Ok((Place::Own(Box::new(own)), server))
        }
    }
}

async fn own(grid: &Grid) -> anyhow::Result<(Own, super::server::Tokens)> {
    eprintln!("starting an exchange of its own");
    let cluster = Throwaway::start().await.context("no cluster for the exchange")?;
    let config = cluster.database().await?;
    let db = Db::connect(config.clone()).await?;
    store::migrate::run(&db).await?;
    let users = seed::users(&db, 2, seed::NO_PASSWORD).await?;
    let [buyer, seller] = users.as_slice() else { bail!("there are two users") };
    let (buyer, seller) = (*buyer, *seller);
    ensure!(
        (buyer.account, seller.account) == (venue::BUYER, venue::SELLER),
        "the first two users have the first two accounts"
    );
    let opening = venue::opening(grid, WINDOW_MICROS)?.into_iter().map(seed::command);
    seed::journal(&db, venue::INCARNATION, opening).await?;
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let exchange = Exchange::start(data.path(), Some(&config)).await?;
    let tokens = stand::tokens()?;
    let token = move |side| {
        let user = if side == Side::Buy { buyer } else { seller };
        Ok(user.token(&tokens, stand::now_seconds()))
    };
    Ok((Own { exchange, db, _cluster: cluster, _data: data }, Box::new(token)))
}

/// Logs two users of a running exchange in.
fn running<'a>(args: &Args, grid: &'a Grid, url: &str) -> anyhow::Result<Server<'a>> {
    let needed =
        "--url needs --market, --buyer and --seller (EMAIL:PASSWORD of two users with funds)";
    let (Some(market), Some(buyer), Some(seller)) = (&args.market, &args.buyer, &args.seller)
    else {
        bail!(needed)
    };
    let address = address(url)?;
    let (buyer, seller) = (buyer.clone(), seller.clone());
    let tokens = move |side| login(address, if side == Side::Buy { &buyer } else { &seller });
    Server::new(address, grid, market.clone(), Box::new(tokens))
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.trim_end_matches('/').strip_prefix("http://");
    let host = host.with_context(|| format!("{url} does not begin with http://"))?;
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut addresses = host.to_socket_addrs().with_context(|| format!("{host} is no address"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

fn login(address: SocketAddr, user: &str) -> anyhow::Result<String> {
    let (email, password) = user.split_once(':').context("a user is EMAIL:PASSWORD")?;
    let body = json!({ "email": email, "password": password }).to_string();
    let request = http::request("POST", "/api/v1/auth/login", address, None, Some(&body));
    let reply = Blocking::open(address)?.call(&request)?.json()?;
    let token = reply["accessToken"].as_str().context("a login gives a token")?;
    Ok(token.to_owned())
}

/// Compares what the exchange has with what the core has, and verifies the exchange.
///
/// # Errors
///
/// The exchange does not answer any more.
pub(crate) fn finish(
    place: Place,
    mut server: Server<'_>,
    venue: &Venue,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    server.compare(venue, tally)?;
    println!("requests      {} over HTTP, one after the other", server.requests());
    drop(server);
    let Place::Own(own) = place else { return Ok(()) };
    let Own { exchange, db, .. } = *own;
    let verified = Handle::current().block_on(async {
        exchange.stop().await?;
        verify::verify(&db, false).await
    })?;
    print!("{verified}");
    if !verified.is_clean() {
        tally.differs(0, "the exchange's journal does not verify".to_owned());
    }
    Ok(())
}
