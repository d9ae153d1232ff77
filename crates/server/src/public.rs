//! What everybody can see of the exchange as a whole. The market data itself is in `market_data`.

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::body::Market;
use wire::time::Timestamp;

use crate::app::App;
use crate::edge::{BEHIND_MAX, with_sequence};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(markets)).routes(routes!(status))
}

/// The markets.
#[derive(Serialize, ToSchema)]
pub(crate) struct Markets {
    /// Every market, with its rules.
    markets: Vec<Market>,
}

/// Lists the markets with their rules.
#[utoipa::path(get, path = "/api/v1/markets", tag = "Markets", responses((status = 200, body = Markets)))]
async fn markets(State(app): State<App>) -> Response {
    let (markets, sequence) = app.live.read(|state| {
        let of = |view| wire::render::market(&view, state.assets());
        (state.markets().filter_map(of).collect(), state.sequence())
    });
    with_sequence(&app, sequence, Out(Markets { markets }).into_response())
}

/// How the exchange is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// `operational`, or `degraded` while this server does not know the journal's newest rows.
    status: &'static str,
    /// Whether money here is play money.
    sandbox: bool,
    /// Whether a market maker quotes around prices that are made up.
    simulated_prices: bool,
    /// The last journal row that this server knows.
    sequence: u64,
    /// Its journal time: the exchange's clock.
    time: Timestamp,
    /// The release.
    version: &'static str,
    /// The assets.
    assets: Vec<Asset>,
}

/// An asset.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asset {
    /// The ticker.
    symbol: String,
    /// Decimals of the ledger.
    scale: u8,
    /// Decimals that deposits, withdrawals and transfers may have.
    transfer_scale: u8,
}

/// Says how the exchange is.
#[utoipa::path(get, path = "/api/v1/public/status", tag = "Markets", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>) -> Response {
    let degraded = app.live.stopped().is_some() || app.live.behind() > BEHIND_MAX;
    let status = app.live.read(|state| Status {
        status: if degraded { "degraded" } else { "operational" },
        sandbox: state.settings().is_some_and(|settings| settings.sandbox),
        simulated_prices: app.config.simulated_prices,
        sequence: state.sequence().get(),
        time: state.time().into(),
        version: env!("CARGO_PKG_VERSION"),
        assets: state
            .assets()
            .iter()
            .map(|asset| Asset {
                symbol: asset.symbol.to_string(),
                scale: asset.scale,
                transfer_scale: asset.transfer_scale,
            })
            .collect(),
    });
    let sequence = units::Sequence::new(status.sequence);
    with_sequence(&app, sequence, Out(status).into_response())
}
