//! Orders as answers: from the command and its event, from the effects of a row, from the followed state, from the
//! projections.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use engine::{
    CancelReason, Command, Ending, NewOrder, OrderStatus, OrderView, PlacedOrder, Side, State, Step,
};
use serde::Serialize;
use store::lookup::{FillRow, OrderRow};
use units::{Amount, CommandId, OrderId, QuantityLots, Sequence, Time};
use utoipa::ToSchema;
use wire::body;
use wire::enums;
use wire::render::MarketWords;

use crate::problem::{Code, Problem};

/// An order, with what came of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrderAnswer)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderBody {
    /// The order.
    #[serde(flatten)]
    pub order: body::Order,
    /// The code of its refusal, for a rejected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject_code: Option<String>,
    /// Its trades as the incoming order; only in the answer that placed or changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fills: Option<Vec<body::Fill>>,
    /// The journal row that this shows; only in the answer that placed or changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

/// Room for an order's answer, in bytes, and for the headers that it ends up with: on the hot path neither grows step by step.
const BODY_BYTES: usize = 1_024;
const HEADERS: usize = 20;

/// Answers with an order, and says where it is.
///
/// # Errors
///
/// A defect, where it cannot be written.
pub(crate) fn response(status: StatusCode, order: &OrderBody) -> Result<Response, Problem> {
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    serde_json::to_writer(&mut bytes, order).map_err(|error| {
        tracing::error!(%error, "an order cannot be written");
        Problem::new(Code::Defect)
    })?;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/orders/{}", order.order.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

impl From<body::Order> for OrderBody {
    fn from(order: body::Order) -> Self {
        Self { order, reject_code: None, fills: None, sequence: None }
    }
}

impl OrderBody {
    /// Returns it as plain JSON, for a problem that is about it.
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Returns the market's words, which the state has of every market that was ever named.
///
/// # Errors
///
/// A defect where it has not.
pub(crate) fn words(state: &State, market: units::MarketId) -> Result<MarketWords<'_>, Problem> {
    MarketWords::of(state, market).ok_or_else(|| {
        tracing::error!(%market, "a market that an order names is not in the state");
        Problem::new(Code::Defect)
    })
}

/// What is asked, as an order of which nothing is decided.
fn asked(id: CommandId, new: &NewOrder, at: Time) -> OrderView<'_> {
    OrderView {
        id,
        order_id: OrderId::new(0),
        account: new.account,
        market: new.market,
        side: new.side,
        order_type: new.order_type,
        time_in_force: new.time_in_force,
        post_only: new.post_only,
        price: new.price,
        quantity: new.quantity,
        quote_amount: new.quote_amount,
        filled: QuantityLots::ZERO,
        filled_notional: Amount::ZERO,
        trigger: new.trigger,
        triggered: false,
        display: new.display,
        self_trade_prevention: new.self_trade_prevention,
        client_order_id: new.client_order_id.as_ref().map(Cow::Borrowed),
        status: OrderStatus::Open,
        reason: None,
        created_at: at,
        created_in: Sequence::new(0),
        updated_at: at,
        account_sequence: 0,
    }
}

/// Renders an order that was answered before it was decided, or refused.
pub(crate) fn undecided(
    state: &State,
    command: &Command,
    new: &NewOrder,
    at: Time,
    status: enums::OrderStatus,
) -> Result<OrderBody, Problem> {
    let mut order = words(state, new.market)?.order(&asked(command.id, new, at));
    order.number = None;
    order.status = status;
    Ok(order.into())
}

/// Renders an order from the command and the event that placed it: nothing else, so that it can be done again.
pub(crate) fn placed(
    state: &State,
    command: &Command,
    new: &NewOrder,
    placed: &PlacedOrder,
    (sequence, at): (Sequence, Time),
) -> Result<OrderBody, Problem> {
    let words = words(state, new.market)?;
    let mut view = asked(command.id, new, at);
    view.order_id = placed.order_id;
    for step in &placed.steps {
        let Step::Fill(fill) = step else { continue };
        let notional = words.market.notional(fill.price, fill.quantity).unwrap_or_default();
        view.filled = view.filled.checked_add(fill.quantity).unwrap_or(view.filled);
        view.filled_notional =
            view.filled_notional.checked_add(notional).unwrap_or(view.filled_notional);
    }
    (view.status, view.reason) = standing(placed.ending, view.filled);
    let fills = fills(&words, command.id, new.side, placed, at);
    let order = words.order(&view);
    Ok(OrderBody { order, reject_code: None, fills: Some(fills), sequence: Some(sequence.get()) })
}

fn standing(ending: Ending, filled: QuantityLots) -> (OrderStatus, Option<CancelReason>) {
    match ending {
        Ending::Filled => (OrderStatus::Filled, None),
        Ending::Rests | Ending::Waits if filled.is_zero() => (OrderStatus::Open, None),
        Ending::Rests | Ending::Waits => (OrderStatus::PartiallyFilled, None),
        Ending::Cancelled(CancelReason::Expired) => {
            (OrderStatus::Expired, Some(CancelReason::Expired))
        }
        Ending::Cancelled(reason) => (OrderStatus::Cancelled, Some(reason)),
    }
}

/// Renders the fills of an incoming order.
pub(crate) fn fills(
    words: &MarketWords<'_>,
    order: CommandId,
    side: Side,
    placed: &PlacedOrder,
    at: Time,
) -> Vec<body::Fill> {
    let fee_asset = match side {
        Side::Buy => words.base,
        Side::Sell => words.quote,
    };
    let fill = |step: &Step| {
        let Step::Fill(fill) = step else { return None };
        let notional = words.market.notional(fill.price, fill.quantity).unwrap_or_default();
        Some(body::Fill {
            trade_id: fill.trade_id.get(),
            market: words.market.symbol.to_string(),
            order_id: wire::id::to_uuid(order),
            order_number: placed.order_id.get(),
            side: side.into(),
            liquidity: enums::Liquidity::Taker,
            price: words.price(fill.price),
            quantity: words.quantity(fill.quantity),
            notional: words.notional(notional),
            fee: wire::decimal::format_amount(fee_asset, fill.taker_fee),
            fee_asset: fee_asset.symbol.to_string(),
            time: at.into(),
        })
    };
    placed.steps.iter().filter_map(fill).collect()
}

/// Renders an order of the projections.
pub(crate) fn row(state: &State, row: &OrderRow) -> Result<OrderBody, Problem> {
    let unknown = |what: &str| {
        tracing::error!(order = %row.id, what, "a projected order has a word that is not known");
        Problem::new(Code::Defect)
    };
    let status = enums::OrderStatus::parse(&row.status).ok_or_else(|| unknown("status"))?;
    let side = enums::Side::parse(&row.side).ok_or_else(|| unknown("side"))?;
    let order_type =
        enums::OrderType::parse(&row.order_type).ok_or_else(|| unknown("order_type"))?;
    let prevention = enums::SelfTradePrevention::parse(&row.self_trade_prevention)
        .ok_or_else(|| unknown("self_trade_prevention"))?;
    let time_in_force = match row.time_in_force.as_str() {
        "gtc" => engine::TimeInForce::Gtc,
        "ioc" => engine::TimeInForce::Ioc,
        "fok" => engine::TimeInForce::Fok,
        "gtd" => engine::TimeInForce::Gtd(row.good_till.unwrap_or(Time::MAX)),
        _ => return Err(unknown("time_in_force")),
    };
    let client_order_id = row.client_order_id.as_deref().and_then(engine::ClientOrderId::new);
    let rejected = status == enums::OrderStatus::Rejected;
    let reason = row.reason.as_deref().filter(|_| !rejected);
    let view = OrderView {
        id: wire::id::from_uuid(row.id),
        order_id: OrderId::new(row.order_id.unwrap_or_default()),
        account: units::AccountId::default(),
        market: row.market,
        side: side.into(),
        order_type: order_type.into(),
        time_in_force,
        post_only: row.post_only,
        price: row.price,
        quantity: row.quantity,
        quote_amount: row.quote_amount,
        filled: row.filled,
        filled_notional: row.filled_notional,
        trigger: row.trigger,
        triggered: row.triggered,
        display: row.display,
        self_trade_prevention: prevention.into(),
        client_order_id: client_order_id.map(Cow::Owned),
        status: OrderStatus::Open,
        reason: reason.and_then(enums::CancelReason::parse).map(Into::into),
        created_at: row.created_at,
        created_in: row.created_in.unwrap_or_default(),
        updated_at: row.updated_at,
        account_sequence: 0,
    };
    let mut order = words(state, row.market)?.order(&view);
    order.status = status;
    order.number = row.order_id;
    let mut body = OrderBody::from(order);
    body.reject_code = row.reason.clone().filter(|_| rejected);
    Ok(body)
}

/// Renders a fill of the projections.
pub(crate) fn fill_row(state: &State, row: &FillRow) -> Result<body::Fill, Problem> {
    let words = words(state, row.market)?;
    let (side, fee_asset) =
        if row.buy { (enums::Side::Buy, words.base) } else { (enums::Side::Sell, words.quote) };
    let liquidity = if row.taker { enums::Liquidity::Taker } else { enums::Liquidity::Maker };
    Ok(body::Fill {
        trade_id: row.trade_id,
        market: words.market.symbol.to_string(),
        order_id: row.order,
        order_number: row.order_id,
        side,
        liquidity,
        price: words.price(row.price),
        quantity: words.quantity(row.quantity),
        notional: words.notional(row.notional),
        fee: wire::decimal::format_amount(fee_asset, row.fee),
        fee_asset: fee_asset.symbol.to_string(),
        time: row.time.into(),
    })
}
