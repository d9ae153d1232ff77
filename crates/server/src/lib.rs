//! The HTTP and WebSocket API.
//!
//! Invariant: a server decides nothing about money. It checks form and asks the sequencer; what it answers is rendered
//! from the journal. Anything it keeps in memory may be lost with it.

pub mod access;
mod account;
mod admin;
pub mod app;
mod audit;
pub mod auth;
pub mod body;
mod command;
pub mod config;
mod convert;
mod docs;
pub mod edge;
mod flags;
mod health;
pub mod inbox;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod market_data;
mod openapi;
mod operations;
mod orders;
mod prices;
pub mod problem;
mod public;
mod rates;
mod serve;
mod sweep;
pub mod tls;
pub mod token;
mod trace_view;
mod vault;
mod wallet;
mod way;
pub mod ws;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

pub use app::{App, Clock, Parts, SystemClock};
pub use config::{
    InvalidRateLimits, JwtSecret, KeyRules, Mode, PasswordCost, RateLimits, ServerConfig,
    WithdrawalRules,
};
pub use serve::{ServeError, bind, serve, serve_on, serve_router};

use problem::{Code, Problem};

/// Every route with its description.
fn described() -> OpenApiRouter<App> {
    use utoipa::OpenApi as _;
    OpenApiRouter::with_openapi(openapi::Api::openapi())
        .merge(auth::routes())
        .merge(account::routes())
        .merge(keys::routes())
        .merge(wallet::routes())
        .merge(orders::routes())
        .merge(convert::routes())
        .merge(public::routes())
        .merge(trace_view::routes())
        .merge(prices::routes())
        .merge(market_data::routes::routes())
        .merge(health::routes())
        .merge(admin::routes())
        .merge(operations::described())
}

/// Returns the API's description.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut openapi = described().into_openapi();
    openapi::complete(&mut openapi);
    openapi
}

/// Returns the application's routes, behind the edge.
pub fn router(app: App) -> Router {
    let (routes, mut openapi) = described().split_for_parts();
    openapi::complete(&mut openapi);
    routes
        .merge(openapi::pages(&openapi))
        .merge(operations::pages())
        .merge(ws::routes())
        .fallback(async || Problem::new(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .layer(axum::middleware::from_fn_with_state(app.clone(), edge::edge))
        .with_state(app)
}
