//! Prices of other exchanges beside our own, for comparison alone.
//!
//! Invariant: nothing that trades, converts or values reads what is here. Where no source says a price that is believed, there
//! is none.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use breaker::Breaker;
use feeds::{Answer, Feeds, Markets, Own, Price};
use follower::Live;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::render::MarketWords;
use wire::time::Timestamp;

use crate::app::App;
use crate::edge::with_sequence;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(prices))
}

/// Our own markets, as the feeds see them.
struct Followed {
    live: Arc<Live>,
    /// Prices that are made up are no witness against real ones.
    simulated: bool,
}

impl Markets for Followed {
    fn markets(&self) -> Vec<Own> {
        let mut own = last_prices(&self.live);
        if self.simulated {
            own.iter_mut().for_each(|own| own.price = None);
        }
        own
    }
}

fn last_prices(live: &Live) -> Vec<Own> {
    let own = |(symbol, price): (String, Option<String>)| Own {
        symbol,
        price: price.as_deref().and_then(Price::parse),
    };
    last_texts(live).0.into_iter().map(own).collect()
}

/// Reads every market's last price as text, and the row that they are of.
fn last_texts(live: &Live) -> (Vec<(String, Option<String>)>, units::Sequence) {
    live.read(|state| {
        let markets = state.markets().map(|market| {
            let words = MarketWords::new(market.config, state.assets());
            let price = words.and_then(|words| market.last_price.map(|price| words.price(price)));
            (market.config.symbol.to_string(), price)
        });
        (markets.collect(), state.sequence())
    })
}

/// Starts the feeds that are configured.
pub(crate) fn start(settings: feeds::Settings, live: &Arc<Live>, simulated: bool) -> Feeds {
    Feeds::start(settings, Followed { live: Arc::clone(live), simulated })
}

/// Prices of other exchanges beside our own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prices {
    /// `ok`: the first source gives all; `degraded`: some come from another or are not there; `not_available`: there are none;
    /// `off`: no source is configured.
    status: &'static str,
    /// The markets.
    prices: Vec<MarketPrice>,
}

/// A market's own price and that of another exchange.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarketPrice {
    /// The market.
    market: String,
    /// Our own last price; absent until the market has traded.
    last_price: Option<String>,
    /// `available`; `suspicious`: sources say something, and it is not believed; `not_available`; `off`.
    availability: &'static str,
    /// What another exchange's market last traded at, as it said itself; null where there is none. Never an offer.
    outside: Option<OutsidePrice>,
}

/// What another exchange's market last traded at.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutsidePrice {
    /// The price.
    price: String,
    /// `binance` or `kraken`.
    source: &'static str,
    /// What they call the market. Its quote asset may be another than ours: `BTCUSDT` beside `BTC/USD`.
    instrument: String,
    /// When it was heard here.
    as_of: Timestamp,
    /// How long ago that is, in milliseconds.
    age_ms: u64,
    /// How far our own last price is above it, in percent of it, with two decimals; absent until the market has traded.
    difference_percent: Option<String>,
}

/// Shows what other exchanges' markets trade at, for comparison. Trading, conversions and balances do not depend on it.
#[utoipa::path(get, path = "/api/v1/public/prices", tag = "Markets", responses((status = 200, body = Prices)))]
async fn prices(State(app): State<App>) -> Response {
    let (markets, sequence) = last_texts(&app.live);
    let status = app.feeds.status().name();
    let prices = markets.into_iter().map(|(market, last)| beside(&app.feeds, market, last));
    let prices = Prices { status, prices: prices.collect() };
    with_sequence(&app, sequence, Out(prices).into_response())
}

fn beside(feeds: &Feeds, market: String, last_price: Option<String>) -> MarketPrice {
    let (availability, outside) = match feeds.answer(&market) {
        Answer::Off => ("off", None),
        Answer::Suspicious => ("suspicious", None),
        Answer::NotAvailable => ("not_available", None),
        Answer::Available(outside) => ("available", Some(outside)),
    };
    let own = last_price.as_deref().and_then(Price::parse);
    let outside = outside.map(|outside| OutsidePrice {
        price: outside.price.to_string(),
        source: outside.source,
        instrument: outside.instrument,
        as_of: units::Time::from_micros(outside.heard_ms.saturating_mul(1_000)).into(),
        age_ms: u64::try_from(outside.age.as_millis()).unwrap_or(u64::MAX),
        difference_percent: own.map(|own| own.percent_above(outside.price)),
    });
    MarketPrice { market, last_price, availability, outside }
}

/// How the sources of prices are. They never make trading unhealthy.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PriceFeeds {
    /// `ok`, `degraded`, `not_available` or `off`.
    status: &'static str,
    /// The sources, the preferred one first.
    feeds: Vec<PriceFeed>,
}

/// How one source is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PriceFeed {
    /// Whose.
    name: &'static str,
    /// `starting`, `up`, `suspicious`, `stale` or `down`.
    state: &'static str,
    /// How long ago it last said a price that was taken, in milliseconds; null: never.
    age_ms: Option<u64>,
    /// What is wrong, in words.
    trouble: Option<&'static str>,
}

/// How a circuit breaker stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct CircuitBreaker {
    /// What it is around.
    name: &'static str,
    /// `closed`: calls go through; `half_open`: one at a time; `open`: none.
    state: &'static str,
}

/// Says how the sources are.
pub(crate) fn health(feeds: &Feeds) -> PriceFeeds {
    let say = |feed: feeds::FeedHealth| PriceFeed {
        name: feed.kind.name(),
        state: feed.state.name(),
        age_ms: feed.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        trouble: feed.trouble,
    };
    let feeds_health = feeds.health().into_iter().map(say).collect();
    PriceFeeds { status: feeds.status().name(), feeds: feeds_health }
}

/// Says how the breakers around what is outside stand.
pub(crate) fn breakers(feeds: &Feeds, mail: &Breaker) -> Vec<CircuitBreaker> {
    let all = std::iter::once((mail.name(), mail.state())).chain(feeds.breakers());
    all.map(|(name, state)| CircuitBreaker { name, state: state.name() }).collect()
}
