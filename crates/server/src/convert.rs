//! Converting one asset into another: a quote from our own book, and a fill-or-kill limit order at its price.
//!
//! Invariant: there is no house account here, so nothing can be minted: what a quote promises is only ever given by the
//! orders in the book, wholly and at that price or better, or nothing happens.

mod quote;

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::{Action, NewOrder, OrderType, SelfTradePrevention, TimeInForce};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use wire::DecimalInput;
use wire::enums;
use wire::time::Timestamp;

use crate::app::App;
use crate::body::{self, Json};
use crate::command::{Ask, command_id};
use crate::edge::{Context, with_sequence};
use crate::orders::place;
use crate::orders::render::OrderBody;
use crate::problem::{Problem, ProblemBody};
use crate::token::Principal;

use quote::Quote;

/// How long a quote is good, in microseconds of journal time.
const QUOTE_MICROS: u64 = 10_000_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(ask)).routes(routes!(accept))
}

/// What is to be converted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuoteRequest {
    /// The asset to give.
    #[schema(required, value_type = String, example = "USD")]
    from: Option<String>,
    /// The asset to receive.
    #[schema(required, value_type = String, example = "BTC")]
    to: Option<String>,
    /// How much to give.
    #[schema(required, value_type = String, example = "250.00")]
    amount: Option<DecimalInput>,
}

/// A quote.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuoteBody {
    /// What to give to `convert` to accept it.
    quote_id: String,
    /// The market whose book it is from.
    market: String,
    /// What the order does in it.
    side: enums::Side,
    /// The worst price that it may trade at.
    price: String,
    /// How much of the market's base asset it trades.
    quantity: String,
    /// What is given at most, at the book as it is now.
    give: String,
    /// What is received at least, fees deducted, at the book as it is now.
    receive: String,
    /// Until when it is good.
    expires_at: Timestamp,
}

/// Quotes a conversion from the book as it is now.
#[utoipa::path(post, path = "/api/v1/convert/quote", tag = "Convert", security(("bearer" = [])),
    request_body = QuoteRequest, responses((status = 200, body = QuoteBody),
    (status = 422, body = ProblemBody, description = "A bad value, or `no_liquidity`")))]
async fn ask(
    State(app): State<App>,
    principal: Principal,
    Json { value: request, .. }: Json<QuoteRequest>,
) -> Result<Response, Problem> {
    let expires_at = app.live.journal_now().plus_micros(QUOTE_MICROS);
    let (body, sequence) = app.live.read(|state| {
        let (give, receive, market) = quote::market(state, &request)?;
        let priced = quote::price(state, &request, give, market)?;
        let quote = Quote {
            market: market.0,
            side: priced.side,
            price: priced.price,
            quantity: priced.quantity,
            expires_at,
            nonce: Uuid::now_v7(),
        };
        let words = crate::orders::render::words(state, market.0)?;
        let assets = state.assets();
        let text = |asset: units::AssetId, amount| {
            let config = &assets[usize::from(asset.get())];
            wire::decimal::format_amount(config, amount)
        };
        Ok::<_, Problem>((
            QuoteBody {
                quote_id: quote.sign(&app.tokens, principal.user),
                market: words.market.symbol.to_string(),
                side: priced.side.into(),
                price: words.price(priced.price),
                quantity: words.quantity(priced.quantity),
                give: text(give, priced.give),
                receive: text(receive, priced.receive),
                expires_at: expires_at.into(),
            },
            state.sequence(),
        ))
    })?;
    Ok(with_sequence(&app, sequence, Out(body).into_response()))
}

/// Which quote is accepted.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Accept {
    /// The quote.
    #[schema(required, value_type = String)]
    quote_id: Option<String>,
}

/// Accepts a quote, once: a fill-or-kill order at its price. Again, it gives the first answer again.
#[utoipa::path(post, path = "/api/v1/convert", tag = "Convert", security(("bearer" = [])), request_body = Accept,
    responses(
    (status = 201, body = OrderBody, description = "`filled`, or `cancelled` with the reason `fill_or_kill` where the book has moved"),
    (status = 200, body = OrderBody, description = "A repeat: the first answer"),
    (status = 202, body = OrderBody, description = "Not decided yet"),
    (status = 422, body = ProblemBody, description = "A bad quote, `expired`, or `insufficient_funds`")))]
async fn accept(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: request, .. }: Json<Accept>,
) -> Result<Response, Problem> {
    let text = request.quote_id.as_deref();
    let text = text.ok_or_else(|| Problem::value("quoteId", "required", "is required"))?;
    let quote = Quote::verify(&app.tokens, principal.user, text).ok_or_else(|| {
        Problem::value("quoteId", "quote_invalid", "must be the quoteId of a quote of yours")
    })?;
    let order = NewOrder {
        account: principal.account,
        market: quote.market,
        side: quote.side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Fok,
        post_only: false,
        price: Some(quote.price),
        quantity: quote.quantity,
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::default(),
        client_order_id: None,
    };
    let nonce = quote.nonce.to_string();
    let ask = Ask {
        id: command_id(principal.user, "POST /api/v1/convert", Some(&nonce)),
        keyed: true,
        body_hash: body::hash(text.as_bytes()),
        trace_id: context.trace_id,
        expires_at: Some(quote.expires_at),
        action: Action::PlaceOrder(order),
    };
    place::send(&app, ask).await
}
