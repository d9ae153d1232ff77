//! Section `reads`: what is read most, against a bare axum handler that returns the same bytes in the same run.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::http::{self, Connection};
use super::load;
use super::machine;
use super::orders::now_seconds;
use super::stand::{self, Loaded};
use super::table::{Row, Table, Target};

const CONNECTIONS: usize = 64;

/// Measures the section.
///
/// # Errors
///
/// The exchange does not answer.
pub(crate) async fn run(table: &mut Table, loaded: &Loaded, quick: bool) -> anyhow::Result<()> {
    let (pairs, time) = match quick {
        true => (2, Duration::from_secs(2)),
        false => (5, Duration::from_secs(5)),
    };
    let tokens = stand::tokens()?;
    for (what, path) in [
        ("/health", "/health"),
        ("a book", "/api/v1/markets/BTC-USD/book"),
        ("a ticker", "/api/v1/markets/BTC-USD/ticker"),
        ("own balances", "/api/v1/wallet/balances"),
    ] {
        let address = loaded.exchange.address();
        let requests: Vec<_> = loaded
            .users
            .iter()
            .map(|user| {
                let token = user.token(&tokens, now_seconds());
                http::request("GET", path, address, Some(&token), None)
            })
            .collect();
        let reply = Connection::open(address).await?.call(&requests[0]).await?;
        ensure!(reply.status == 200, "{path} is answered {}", reply.status);
        let bytes = reply.body.len();
        let bare = Bare::start(reply.body).await?;
        let (mut ratios, mut rates, mut errors) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..pairs {
            let theirs = load::run(bare.address, scripts(&requests), time).await?;
            let ours = load::run(address, scripts(&requests), time).await?;
            ratios.push(ours.rate() / theirs.rate());
            rates.push(ours.rate());
            errors = ours.errors_text();
        }
        let rate = machine::median(&rates);
        let note = format!("{rate:.0} reads/s of {bytes} bytes; median of {pairs} pairs; {errors}");
        let what = format!("{what}, against a bare handler");
        let row = Row::new("reads", what, machine::median(&ratios), "×");
        table.push(row.reach(Target::AtLeast(0.6)).note(note.trim_end_matches("; ")));
    }
    Ok(())
}

/// Gives each connection its share of the users' requests.
fn scripts(requests: &[Vec<u8>]) -> Vec<load::Script> {
    let share = |first| requests.iter().skip(first).step_by(CONNECTIONS).cloned().collect();
    (0..CONNECTIONS.min(requests.len())).map(share).collect()
}

/// A server that answers everything with the same bytes; its runtime ends with it.
struct Bare {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Bare {
    async fn start(body: Vec<u8>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("kx-bare")
            .enable_all()
            .build()
            .context("no runtime for the bare handler")?;
        let body = Bytes::from(body);
        let answer = move || {
            let body = body.clone();
            async move { ([(CONTENT_TYPE, "application/json")], body) }
        };
        let router = Router::new().fallback(get(answer));
        let listener = runtime.spawn(tokio::net::TcpListener::bind("127.0.0.1:0")).await??;
        let address = listener.local_addr()?;
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, runtime: Some(runtime) })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
