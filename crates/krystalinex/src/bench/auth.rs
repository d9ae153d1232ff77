//! Section `auth`: what it costs to find out who asks, by the very functions that every request of the server passes, on
//! one thread. The way over the network and the handler are not in it, nor is the database: sessions are not looked up,
//! and a key is in memory once it was used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use engine::State;
use follower::Live;
use hmac::{Hmac, KeyInit, Mac};
use queue::InProcessQueue;
use serde_json::json;
use server::auth::password::Passwords;
use server::config::JwtSecret;
use server::edge::{self, Auth};
use server::mail::Inbox;
use server::{App, Clock, Parts, PasswordCost, ServerConfig, SystemClock, keys};
use sha2::{Digest, Sha256};
use store::{Db, DbConfig};
use trace::Recorder;
use units::Hash32;
use uuid::Uuid;

use super::exchange::JWT_SECRET;
use super::http::{self, Connection};
use super::machine;
use super::orders::{User, now_seconds};
use super::seed;
use super::stand;
use super::table::{Row, Table, Target};

const SECTION: &str = "auth";
/// What finding out who asks may take, at the median.
const MICROS_MAX: f64 = 50.0;
/// Requests before those that are counted.
const WARM_UP: usize = 500;
/// How long the key may take to be in memory.
const AT_HAND_MAX: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery";
const ORDER: &str =
    r#"{"market":"BTC/USD","side":"buy","orderType":"limit","price":"50000.00","quantity":"0.01"}"#;

/// Measures the section in an empty database, on a thread of its own.
///
/// # Errors
///
/// The database fails, or a request is refused.
pub(crate) async fn run(table: &mut Table, config: DbConfig, quick: bool) -> anyhow::Result<()> {
    // A signature is remembered for 11 seconds, and no more than some 260,000 are.
    let count = if quick { 20_000 } else { 100_000 };
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(config, count))
    });
    let (tokens, signed) = measured.await??;
    for (what, micros) in [("an access token (JWT)", tokens), ("an API key's signature", signed)] {
        let p50 = machine::median(&micros);
        let note = format!(
            "p99 {:.1} µs; {} requests, one thread",
            machine::quantile(&micros, 0.99),
            micros.len()
        );
        let row = Row::new(SECTION, format!("who asks, by {what}: p50"), p50, "µs");
        table.push(row.reach(Target::AtMost(MICROS_MAX)).note(note));
    }
    Ok(())
}

/// Returns what each request took, in microseconds: those with a token, and those that a key has signed.
async fn measure(config: DbConfig, count: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let db = Db::connect(config).await?;
    store::migrate::run(&db).await?;
    let hash = Passwords::new(PasswordCost::default()).hash(PASSWORD.to_owned()).await;
    let hash = hash.map_err(|problem| anyhow::anyhow!("no hash: {}", problem.code().name()))?;
    let users = seed::users(&db, 100, &hash).await?;
    let app = app(db)?;
    let tokens = tokens(&app, &users, count)?;
    let key = make_key(&app, users.first().context("there are users")?).await?;
    Ok((tokens, signatures(&app, &key, count).await?))
}

/// A server's application, that follows no journal.
fn app(db: Db) -> anyhow::Result<App> {
    let live = Live::new(State::new(), Hash32::default());
    Ok(App::new(Parts {
        config: ServerConfig::new(JwtSecret::new(JWT_SECRET)?),
        db,
        live,
        publisher: Arc::new(InProcessQueue::new(1)),
        mailer: Arc::new(Inbox::default()),
        clock: Arc::new(SystemClock),
        recorder: Arc::new(Recorder::default()),
    }))
}

fn tokens(app: &App, users: &[User], count: usize) -> anyhow::Result<Vec<f64>> {
    let tokens = stand::tokens()?;
    let mut micros = Vec::with_capacity(count);
    for (number, user) in users.iter().cycle().take(WARM_UP + count).enumerate() {
        let value = format!("Bearer {}", user.token(&tokens, now_seconds()));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value)?);
        let begun = Instant::now();
        let who = edge::authenticate(app, &headers);
        let took = begun.elapsed();
        match who {
            Auth::User(principal) if principal.user == user.id => {}
            other => bail!("a token of {} is taken for {other:?}", user.id),
        }
        if number >= WARM_UP {
            micros.push(took.as_secs_f64() * 1e6);
        }
    }
    Ok(micros)
}

/// A key as its owner has it.
struct OwnKey {
    id: Uuid,
    secret: String,
}

/// Makes a key as a user does, over the API.
async fn make_key(app: &App, user: &User) -> anyhow::Result<OwnKey> {
    let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(server::serve_on(listener, app.clone(), std::future::pending()));
    let token = user.token(&stand::tokens()?, now_seconds());
    let body = json!({ "label": "bench", "scopes": ["read", "trade"], "password": PASSWORD });
    let path = "/api/v1/auth/api-keys";
    let request = http::request("POST", path, address, Some(&token), Some(&body.to_string()));
    let made = Connection::open(address).await?.call(&request).await?.json()?;
    serving.abort();
    let id = made["key"]["id"].as_str().context("a key has an id")?.parse()?;
    let secret = made["secret"].as_str().context("a new key shows its secret")?.to_owned();
    Ok(OwnKey { id, secret })
}

async fn signatures(app: &App, key: &OwnKey, count: usize) -> anyhow::Result<Vec<f64>> {
    let begun = Instant::now();
    let mut number = 0;
    // Nothing is kept in memory before the server hears of keys that end.
    while !keys::is_at_hand(app, key.id) {
        ensure!(begun.elapsed() < AT_HAND_MAX, "the key does not come to stay in memory");
        timed(app, key, number).await?;
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..WARM_UP {
        timed(app, key, number).await?;
        number += 1;
    }
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        micros.push(timed(app, key, number).await?.as_secs_f64() * 1e6);
        number += 1;
    }
    Ok(micros)
}

/// Signs a request, as a client does, and returns how long the server takes to find out who has.
async fn timed(app: &App, key: &OwnKey, number: u64) -> anyhow::Result<Duration> {
    let request = key.signed(number)?;
    let begun = Instant::now();
    let found = keys::authenticate(app, IpAddr::V4(Ipv4Addr::LOCALHOST), request).await;
    let took = begun.elapsed();
    match found {
        Ok((principal, _)) if principal.key == key.id => Ok(took),
        Ok((principal, _)) => bail!("taken for {principal:?}"),
        Err(problem) => bail!("a signed request is refused: {}", problem.code().name()),
    }
}

impl OwnKey {
    /// An order with an idempotency key of its own, signed as docs/API-KEYS.md says.
    fn signed(&self, number: u64) -> anyhow::Result<Request> {
        let (target, idempotency_key) = ("/api/v1/orders", format!("order-{number}"));
        let timestamp = SystemClock.now().as_millis().to_string();
        let body = hex(&Sha256::digest(ORDER));
        let text = format!("{timestamp}\nPOST\n{target}\n{body}\n{idempotency_key}");
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())?;
        let signature = hex(&mac.chain_update(text).finalize().into_bytes());
        let request = Request::post(target)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", idempotency_key)
            .header("x-kx-key", self.id.to_string())
            .header("x-kx-timestamp", timestamp)
            .header("x-kx-signature", signature);
        Ok(request.body(Body::from(ORDER))?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
