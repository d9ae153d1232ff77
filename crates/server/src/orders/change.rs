//! Changing and cancelling orders.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Action, Event, OrderRef, PlacedOrder, Reject};
use serde::{Deserialize, Serialize};
use units::{AccountId, CommandId, MarketId};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wire::body::AmendOrderRequest;
use wire::enums::OrderStatus;
use wire::render::MarketWords;

use super::render::{self, OrderBody};
use super::{place, read, wait_projected};
use crate::app::App;
use crate::body::{self, IdempotencyKey, Json, Query, Segment};
use crate::command::{Answer, Ask, Decided, command_id, submit};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// Cancels an order. What was filled before stays filled.
#[utoipa::path(delete, path = "/api/v1/orders/{id}", tag = "Orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order's id, or `client:` and its client order id")), responses(
    (status = 200, body = OrderBody, description = "Cancelled: the order as it ended"),
    (status = 202, description = "The order is not decided yet: when it is, it ends cancelled without a fill"),
    (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`order_closed`, with the order")))]
pub(super) async fn cancel(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let order = read::find_id(&app, principal.account, &id)?;
    let command = command_id(principal.user, "DELETE /api/v1/orders/{id}", key.as_deref());
    // A repeat must find its first outcome, not the order that it has cancelled.
    if app.live.read(|state| state.known(command).is_none()) {
        check_open(&app, principal.account, order).await?;
    }
    let ask = Ask {
        id: command,
        keyed: false,
        body_hash: body::hash(id.as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::CancelOrder { account: principal.account, order: OrderRef::Id(order) },
    };
    let Answer::Decided(decided) = submit(&app, ask).await? else {
        return Ok(not_decided());
    };
    match decided.event() {
        Event::OrderCancelled { .. } => {
            changed(&app, &decided, principal.account, order, None).await
        }
        Event::CancelRemembered => Ok(not_decided()),
        Event::Rejected(reject) => Err(refused(&app, principal.account, order, *reject).await),
        _ => Err(Problem::new(Code::Defect)),
    }
}

/// Refuses to cancel what is not there or is closed, so that a cancel for nothing is never remembered.
async fn check_open(app: &App, account: AccountId, order: CommandId) -> Result<(), Problem> {
    let found = read::find(app, account, order).await?.ok_or(Problem::new(Code::NotFound))?;
    match found.order.status {
        OrderStatus::Open | OrderStatus::PartiallyFilled | OrderStatus::Pending => Ok(()),
        _ => Err(Problem::refused(Reject::OrderClosed).order(found.value())),
    }
}

fn not_decided() -> Response {
    StatusCode::ACCEPTED.into_response()
}

async fn refused(app: &App, account: AccountId, order: CommandId, reject: Reject) -> Problem {
    let problem = Problem::refused(reject);
    match read::find(app, account, order).await {
        Ok(Some(found)) => problem.order(found.value()),
        _ => problem,
    }
}

/// Answers with the order as a change has left it.
async fn changed(
    app: &App,
    decided: &Decided,
    account: AccountId,
    order: CommandId,
    placed: Option<&PlacedOrder>,
) -> Result<Response, Problem> {
    let followed = decided.effects().and_then(|(effects, at)| {
        let changes = effects.orders.iter().rev();
        let (_, view) =
            changes.into_iter().find(|(place, view)| *place == at && view.id == order)?;
        app.live
            .read(|state| Some(OrderBody::from(MarketWords::of(state, view.market)?.order(view))))
    });
    let mut body = match followed {
        Some(body) => body,
        // A repeat: the journal row says what was done, the order as it stands is in the projections.
        None => {
            wait_projected(app, decided.sequence()).await;
            read::find(app, account, order).await?.ok_or(Problem::new(Code::NotFound))?
        }
    };
    if let Some(placed) = placed {
        let fills = app.live.read(|state| {
            let market = state.market_by_symbol(&body.order.market)?;
            let words = MarketWords::of(state, market)?;
            Some(render::fills(&words, order, body.order.side.into(), placed, decided.time()))
        });
        body.fills = Some(fills.unwrap_or_default());
    }
    body.sequence = Some(decided.sequence().get());
    Ok(with_sequence(app, decided.sequence(), Out(body).into_response()))
}

/// Changes an open order's price or total quantity. Less quantity keeps its place; anything else goes to the back, under
/// the same id, and may trade on the way.
#[utoipa::path(patch, path = "/api/v1/orders/{id}", tag = "Orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order's id, or `client:` and its client order id"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body change it once")),
    request_body = AmendOrderRequest, responses(
    (status = 200, body = OrderBody), (status = 202, description = "Not decided yet"),
    (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`order_closed`, with the order"),
    (status = 422, body = ProblemBody, description = "Refused: the order is as it was")))]
pub(super) async fn amend(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Segment(id): Segment,
    Json { value: request, hash }: Json<AmendOrderRequest>,
) -> Result<Response, Problem> {
    let order = read::find_id(&app, principal.account, &id)?;
    let found = read::find(&app, principal.account, order).await?;
    let found = found.ok_or(Problem::new(Code::NotFound))?;
    let change = app.live.read(|state| {
        let market = place::market(state, &found.order.market)?;
        let words = render::words(state, market)?;
        let change = wire::order::amend(&request, principal.account, OrderRef::Id(order), &words);
        Ok::<_, Problem>(change?)
    })?;
    let ask = Ask {
        id: command_id(principal.user, "PATCH /api/v1/orders/{id}", key.as_deref()),
        keyed: false,
        // The order is part of what is asked.
        body_hash: hash ^ body::hash(wire::id::format(order).as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::AmendOrder(change),
    };
    let Answer::Decided(decided) = submit(&app, ask).await? else {
        return Ok(not_decided());
    };
    match decided.event() {
        Event::OrderReduced { .. } => changed(&app, &decided, principal.account, order, None).await,
        Event::OrderReplaced { placed, .. } => {
            changed(&app, &decided, principal.account, order, Some(placed)).await
        }
        Event::Rejected(reject) => Err(refused(&app, principal.account, order, *reject).await),
        _ => Err(Problem::new(Code::Defect)),
    }
}

/// Where to cancel.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelAllQuery {
    /// In one market alone.
    market: Option<String>,
}

/// What was cancelled.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CancelledAll {
    /// The orders that were cancelled at once.
    cancelled: Vec<Uuid>,
    /// Whether more are being cancelled after these.
    more: bool,
    /// The journal row.
    sequence: u64,
}

/// Cancels all open orders, of one market or of all.
#[utoipa::path(delete, path = "/api/v1/orders", tag = "Orders", security(("bearer" = [])), params(CancelAllQuery),
    responses((status = 200, body = CancelledAll), (status = 202, description = "Not decided yet")))]
pub(super) async fn cancel_all(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Query(query): Query<CancelAllQuery>,
) -> Result<Response, Problem> {
    let symbol = query.market.as_deref();
    let market: Option<MarketId> =
        symbol.map(|symbol| app.live.read(|state| place::market(state, symbol))).transpose()?;
    let ask = Ask {
        id: command_id(principal.user, "DELETE /api/v1/orders", key.as_deref()),
        keyed: false,
        body_hash: body::hash(symbol.unwrap_or_default().as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::CancelAll { account: principal.account, market },
    };
    let Answer::Decided(decided) = submit(&app, ask).await? else {
        return Ok(not_decided());
    };
    let (cancelled, more) = match decided.event() {
        Event::OrdersCancelled { orders, more } => {
            (orders.iter().map(|(_, order)| wire::id::to_uuid(*order)).collect(), *more)
        }
        Event::Done => (Vec::new(), false),
        Event::Rejected(reject) => return Err(Problem::refused(*reject)),
        _ => return Err(Problem::new(Code::Defect)),
    };
    let body = CancelledAll { cancelled, more, sequence: decided.sequence().get() };
    Ok(with_sequence(&app, decided.sequence(), Out(body).into_response()))
}
