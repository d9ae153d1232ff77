//! Seeing orders and fills: the open ones from the followed state, the closed ones from the projections.

use axum::Json as Out;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use store::lookup::{self, OrderPage};
use units::{AccountId, CommandId, Time};
use utoipa::IntoParams;
use uuid::Uuid;
use wire::body::{self, Page};
use wire::enums::OrderStatus;
use wire::render::MarketWords;

use super::render::{self, OrderBody};
use super::{cursor, min_projected, place, wait_projected};
use crate::app::App;
use crate::body::{Query, Segment, page_size};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

const OPEN: &[&str] = &["open", "partially_filled"];
const CLOSED: &[&str] = &["filled", "cancelled", "expired", "rejected"];

/// Which orders.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `open` (partially filled ones too), `closed`, `all` (unless given), or one status.
    status: Option<String>,
    /// Of one market alone.
    market: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists orders, newest first.
#[utoipa::path(get, path = "/api/v1/orders", tag = "Orders", security(("bearer" = [])), params(ListQuery), responses(
    (status = 200, body = Page<OrderBody>), (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let after = cursor::read(query.cursor.as_deref())?;
    let symbol = query.market.as_deref();
    let market =
        symbol.map(|symbol| app.live.read(|state| place::market(state, symbol))).transpose()?;
    let statuses = match query.status.as_deref() {
        None | Some("all") => None,
        Some("open") => return open(&app, principal.account, market, after, size),
        Some("closed") => Some(CLOSED.to_vec()),
        Some(word) => match OrderStatus::parse(word) {
            Some(status) => Some(vec![status.as_str()]),
            None => {
                let words = OrderStatus::WORDS.join(", ");
                let rule = format!("must be one of all, closed, {words}");
                return Err(Problem::value("status", "unknown_value", rule));
            }
        },
    };
    min_projected(&app, &context).await?;
    let page = OrderPage {
        account: principal.account,
        market,
        statuses: statuses.as_deref(),
        after: after.map(|(micros, id)| (Time::from_micros(micros), id)),
        rows_max: size + 1,
    };
    let mut rows = lookup::orders(&app.db, &page)
        .await
        .map_err(|error| Problem::unavailable("cannot list orders", &error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.created_at.micros(), row.id));
    let items = app.live.read(|state| {
        rows.iter().map(|row| render::row(state, row)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Out(Page { items, next_cursor }).into_response())
}

/// Lists open orders from the followed state: what the journal says now.
fn open(
    app: &App,
    account: AccountId,
    market: Option<units::MarketId>,
    after: Option<(u64, Uuid)>,
    size: usize,
) -> Result<Response, Problem> {
    let (page, sequence) = app.live.read(|state| {
        let of = |order: &engine::OrderView<'_>| {
            (order.created_at.micros(), wire::id::to_uuid(order.id))
        };
        let mut orders: Vec<_> = state
            .open_orders(account)
            .filter(|order| market.is_none_or(|market| order.market == market))
            .filter(|order| after.is_none_or(|after| of(order) < after))
            .collect();
        orders.sort_unstable_by_key(|order| std::cmp::Reverse(of(order)));
        let next_cursor = cursor::cut(&mut orders, size, of);
        let render = |order: &engine::OrderView<'_>| {
            Ok(OrderBody::from(render::words(state, order.market)?.order(order)))
        };
        let items = orders.iter().map(render).collect::<Result<Vec<_>, Problem>>()?;
        Ok::<_, Problem>((Page { items, next_cursor }, state.sequence()))
    })?;
    Ok(with_sequence(app, sequence, Out(page).into_response()))
}

/// Shows one order, by its id or by `client:` and the client order id.
#[utoipa::path(get, path = "/api/v1/orders/{id}", tag = "Orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order's id, or `client:` and its client order id")), responses(
    (status = 200, body = OrderBody), (status = 404, body = ProblemBody)))]
pub(super) async fn one(
    State(app): State<App>,
    principal: Principal,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let id = find_id(&app, principal.account, &id)?;
    let body = find(&app, principal.account, id).await?.ok_or(Problem::new(Code::NotFound))?;
    Ok(with_sequence(&app, app.live.sequence(), Out(body).into_response()))
}

/// Reads an order's name in a path.
pub(super) fn find_id(app: &App, account: AccountId, text: &str) -> Result<CommandId, Problem> {
    let id = match text.strip_prefix("client:") {
        None => wire::id::parse(text),
        Some(client) => engine::ClientOrderId::new(client)
            .and_then(|client| app.live.read(|state| state.order_by_client_id(account, &client))),
    };
    id.ok_or(Problem::new(Code::NotFound))
}

/// Finds an order of an account: in the followed state while it is open, else in the projections.
pub(super) async fn find(
    app: &App,
    account: AccountId,
    id: CommandId,
) -> Result<Option<OrderBody>, Problem> {
    let live = app.live.read(|state| {
        let order = state.order(id).filter(|order| order.account == account)?;
        let words = MarketWords::of(state, order.market)?;
        Some(OrderBody::from(words.order(&order)))
    });
    if live.is_some() {
        return Ok(live);
    }
    let unavailable = |error| Problem::unavailable("cannot read an order", &error);
    let uuid = wire::id::to_uuid(id);
    // It may have been closed a moment ago: the projections must be as new as what the followed state said. Whether they are
    // is asked before they are read, for they may catch up meanwhile.
    let sequence = app.live.sequence();
    let behind = app.live.projected() < sequence;
    let mut row = lookup::order(&app.db, account, uuid).await.map_err(unavailable)?;
    let settled = row.as_ref().is_some_and(|row| !OPEN.contains(&row.status.as_str()));
    if !settled && behind {
        if wait_projected(app, sequence).await {
            row = lookup::order(&app.db, account, uuid).await.map_err(unavailable)?;
        } else if row.is_none() {
            // It may be there, and nobody can tell yet.
            return Err(Problem::new(Code::Behind));
        }
    }
    row.map(|row| app.live.read(|state| render::row(state, &row))).transpose()
}

/// Which fills.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct FillsQuery {
    /// Of one market alone.
    market: Option<String>,
    /// Of one order alone.
    order_id: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists fills, newest first: every trade of the account, as taker and as maker.
#[utoipa::path(get, path = "/api/v1/fills", tag = "Orders", security(("bearer" = [])), params(FillsQuery), responses(
    (status = 200, body = Page<body::Fill>), (status = 422, body = ProblemBody)))]
pub(super) async fn fills(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Query(query): Query<FillsQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let before = cursor::read(query.cursor.as_deref())?.map(|(sequence, _)| sequence);
    let symbol = query.market.as_deref();
    let market =
        symbol.map(|symbol| app.live.read(|state| place::market(state, symbol))).transpose()?;
    let order = match query.order_id.as_deref() {
        None => None,
        Some(text) => Some(
            wire::id::parse(text)
                .map(wire::id::to_uuid)
                .ok_or_else(|| Problem::value("orderId", "id_invalid", "must be an order's id"))?,
        ),
    };
    min_projected(&app, &context).await?;
    let mut rows = lookup::fills(&app.db, principal.account, market, order, before, size + 1)
        .await
        .map_err(|error| Problem::unavailable("cannot list fills", &error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.account_sequence, row.order));
    let items = app.live.read(|state| {
        rows.iter().map(|row| render::fill_row(state, row)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Out(Page { items, next_cursor }).into_response())
}
