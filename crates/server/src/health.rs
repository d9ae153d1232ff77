//! What machines ask: are we alive, ready, trading; and the metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Serialize;
use units::Sequence;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::edge::BEHIND_MAX;
use crate::prices::{self, CircuitBreaker, PriceFeeds};

/// How long the database may take to answer.
const DATABASE_TIME: Duration = Duration::from_secs(2);
/// The sequencer ticks every second; this long without a row means that it does not work.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(trading))
        .routes(routes!(metrics))
}

/// That the program runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// The release.
    version: &'static str,
}

/// Says that the program runs; asks nobody.
#[utoipa::path(get, path = "/health", tag = "Health", responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether requests may be sent here.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    /// Whether every check has passed.
    ready: bool,
    /// What PostgreSQL promises when it says that a row is committed.
    durability: Option<String>,
    /// The last journal row that this server knows.
    sequence: u64,
    /// What does not work, in words; empty when ready.
    failing: Vec<String>,
}

/// Says whether requests may be sent here: the database answers, its schema is ours, the journal is followed, the queue
/// takes commands, and no shutdown has begun.
#[utoipa::path(get, path = "/ready", tag = "Health", responses(
    (status = 200, body = Ready), (status = 503, body = Ready, description = "Not now; `failing` says why")))]
async fn ready(State(app): State<App>) -> Response {
    let mut failing = Vec::new();
    if app.is_draining() {
        failing.push("draining: the server is shutting down".to_owned());
    }
    let durability = match tokio::time::timeout(DATABASE_TIME, database(&app)).await {
        Ok(Ok(durability)) => Some(durability),
        Ok(Err(reason)) => {
            failing.push(reason);
            None
        }
        Err(_) => {
            failing.push("database: no answer in time".to_owned());
            None
        }
    };
    if let Some(reason) = app.live.stopped() {
        failing.push(format!("follower: stopped: {reason}"));
    }
    if !app.live.has_caught_up() {
        failing.push("follower: catching up with the journal".to_owned());
    } else if app.live.behind() > BEHIND_MAX {
        failing.push(format!("follower: {} ms behind", app.live.behind().as_millis()));
    }
    if app.live.read(|state| state.settings().is_none()) {
        failing.push("journal: not opened yet".to_owned());
    }
    if !app.publisher.ready() {
        failing.push("queue: takes no commands".to_owned());
    }
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let sequence = app.live.sequence().get();
    let mut response =
        (status, Json(Ready { ready, durability, sequence, failing })).into_response();
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

async fn database(app: &App) -> Result<String, String> {
    let words = |error: store::StoreError| format!("database: {error}");
    // Migrations only go forward: once the schema is ours it stays so, and need not be asked for again.
    if !app.pulse.migrated.load(Ordering::Relaxed) {
        let status = store::migrate::status(&app.db).await.map_err(words)?;
        if !status.missing.is_empty() {
            return Err(format!("migrations: not run yet: {}", status.missing.join(", ")));
        }
        app.pulse.migrated.store(true, Ordering::Relaxed);
    }
    store::lookup::durability(&app.db).await.map_err(words)
}

/// When the journal last grew, as this server saw it, and whether the schema was seen to be ours.
pub(crate) struct Pulse {
    last: Mutex<(Sequence, Instant)>,
    migrated: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        let last = Mutex::new((Sequence::new(0), Instant::now()));
        Self { last, migrated: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// Notes the newest row and returns how long it has been so.
    pub(crate) fn silence(&self, sequence: Sequence) -> Duration {
        let mut last = self.last.lock();
        if last.0 != sequence {
            *last = (sequence, Instant::now());
        }
        last.1.elapsed()
    }
}

/// Looks at the journal's growth every second for as long as the application lives, so that `/api/health/trading` can
/// tell how long it has been silent even if nobody asks often.
pub(crate) fn feel_pulse(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        while let Some(inner) = inner.upgrade() {
            let _ = inner.pulse.silence(inner.live.sequence());
            drop(inner);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}

/// Whether trading works.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trading {
    /// Whether orders are taken and decided.
    operational: bool,
    /// The last journal row that this server knows.
    sequence: u64,
    /// Its journal time.
    journal_time: wire::time::Timestamp,
    /// How long the journal has not grown, in milliseconds; it grows every second when all is well.
    silent_ms: u64,
    /// How long ago this server was known to be at the journal's head, in milliseconds.
    behind_ms: u64,
    /// Commands that wait in the queue, where that is known.
    queue_depth: Option<u64>,
    /// How long ago the last trade of any market was, in milliseconds, where that is known.
    last_trade_age_ms: Option<u64>,
    /// Markets that trade nothing.
    halted: Vec<String>,
    /// The markets.
    markets: Vec<TradingMarket>,
    /// The sources of other exchanges' prices; trading does not depend on them.
    price_feeds: PriceFeeds,
    /// The circuit breakers around what is outside.
    circuit_breakers: Vec<CircuitBreaker>,
}

/// A market's health.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradingMarket {
    /// The symbol.
    symbol: String,
    /// What it lets through.
    state: wire::enums::MarketState,
    /// Open orders, waiting stops included.
    orders: usize,
    /// The last trade's price.
    last_price: Option<String>,
}

/// Says whether orders are taken and decided.
#[utoipa::path(get, path = "/api/health/trading", tag = "Health", responses(
    (status = 200, body = Trading), (status = 503, body = Trading, description = "Not now")))]
async fn trading(State(app): State<App>) -> Response {
    let silent = app.pulse.silence(app.live.sequence());
    let behind = app.live.behind();
    let (opened, journal_time, markets) = app.live.read(|state| {
        let markets: Vec<_> = state
            .markets()
            .map(|market| {
                let words = wire::render::MarketWords::new(market.config, state.assets());
                let last =
                    words.and_then(|words| market.last_price.map(|price| words.price(price)));
                TradingMarket {
                    symbol: market.config.symbol.to_string(),
                    state: market.state.into(),
                    orders: market.orders,
                    last_price: last,
                }
            })
            .collect();
        (state.settings().is_some(), state.time(), markets)
    });
    let halted = |market: &&TradingMarket| market.state == wire::enums::MarketState::Halted;
    let operational = opened
        && silent < SILENCE_MAX
        && behind < BEHIND_MAX
        && app.live.stopped().is_none()
        && app.publisher.ready();
    let trading = Trading {
        operational,
        sequence: app.live.sequence().get(),
        journal_time: journal_time.into(),
        silent_ms: millis(silent),
        behind_ms: millis(behind),
        queue_depth: app.publisher.depth(),
        last_trade_age_ms: crate::operations::last_trade_age(&app).map(millis),
        halted: markets.iter().filter(halted).map(|market| market.symbol.clone()).collect(),
        markets,
        price_feeds: prices::health(&app.feeds),
        circuit_breakers: prices::breakers(&app.feeds, &app.mail_breaker),
    };
    let status = if operational { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(trading)).into_response()
}

/// Returns the metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "Health", responses(
    (status = 200, body = String, content_type = "text/plain")))]
async fn metrics() -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], telemetry::render()).into_response()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
