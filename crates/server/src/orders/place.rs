//! Placing an order: the hot path. No SQL but where a key is looked up.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Action, Command, Event, NewOrder, Reject};
use store::lookup::PendingOrder;
use units::AccountId;
use wire::body::PlaceOrderRequest;
use wire::enums;
use wire::render::MarketWords;

use super::render::{self, OrderBody};
use crate::app::App;
use crate::body::{IdempotencyKey, Json};
use crate::command::{Answer, Ask, Decided, command_id, submit};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

const ROUTE: &str = "POST /api/v1/orders";

/// Places an order and waits for what becomes of it.
#[utoipa::path(post, path = "/api/v1/orders", tag = "Orders", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again")),
    request_body = PlaceOrderRequest, responses(
    (status = 201, body = OrderBody, description = "Accepted, with its fills; also an immediate-or-cancel order without a fill"),
    (status = 200, body = OrderBody, description = "A repeat: the first answer"),
    (status = 202, body = OrderBody, description = "Not decided yet: `pending`; ask for it by its id"),
    (status = 422, body = ProblemBody, description = "A bad value, or refused: the order is `rejected`"),
    (status = 503, body = ProblemBody, description = "`unavailable`, `behind`: nothing has happened; `outcome_unknown`: repeat it with the same key")))]
pub(super) async fn place(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Json { value: body, hash }: Json<PlaceOrderRequest>,
) -> Result<Response, Problem> {
    let new = read(&app, &body, principal.account)?;
    let ask = Ask {
        id: command_id(principal.user, ROUTE, key.as_deref()),
        keyed: key.is_lasting(),
        body_hash: hash,
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::PlaceOrder(new),
    };
    send(&app, ask).await
}

/// Sends an order and answers with what becomes of it.
pub(crate) async fn send(app: &App, ask: Ask) -> Result<Response, Problem> {
    match submit(app, ask).await? {
        Answer::Decided(decided) => answer(app, &decided),
        Answer::Pending(command) => pending(app, &command).await,
    }
}

/// Reads the request against the market's rules.
pub(crate) fn read(
    app: &App,
    body: &PlaceOrderRequest,
    account: AccountId,
) -> Result<NewOrder, Problem> {
    let symbol = body.market.as_deref();
    let symbol = symbol.ok_or_else(|| Problem::value("market", "required", "is required"))?;
    app.live.read(|state| {
        let market = market(state, symbol)?;
        let words = render::words(state, market)?;
        Ok(wire::order::place(body, account, market, &words)?)
    })
}

/// Finds a market by its symbol, in either form.
pub(crate) fn market(state: &engine::State, symbol: &str) -> Result<units::MarketId, Problem> {
    let found = wire::symbol::from_text(symbol).and_then(|symbol| state.market_by_symbol(&symbol));
    found.ok_or_else(|| {
        let mut problem =
            Problem::value("market", "market_unknown", "must be one of the exchange's markets");
        for market in state.markets().take(8) {
            problem = problem.nearest(&*market.config.symbol);
        }
        problem
    })
}

fn answer(app: &App, decided: &Decided) -> Result<Response, Problem> {
    let command = &decided.entry().command;
    let Action::PlaceOrder(new) = &command.action else {
        return Err(Problem::new(Code::KeyReused));
    };
    let at = (decided.sequence(), decided.time());
    let body = match decided.event() {
        Event::OrderPlaced(placed) => {
            app.live.read(|state| render::placed(state, command, new, placed, at))?
        }
        Event::Rejected(reject) => return Err(refused(app, decided, command, new, *reject)),
        _ => return Err(Problem::new(Code::Defect)),
    };
    let status = if decided.repeat { StatusCode::OK } else { StatusCode::CREATED };
    let response = render::response(status, &body)?;
    Ok(with_sequence(app, decided.sequence(), response))
}

fn refused(
    app: &App,
    decided: &Decided,
    command: &Command,
    new: &NewOrder,
    reject: Reject,
) -> Problem {
    app.live.read(|state| {
        let status = match reject {
            Reject::Expired => enums::OrderStatus::Expired,
            _ => enums::OrderStatus::Rejected,
        };
        let order = match render::undecided(state, command, new, decided.time(), status) {
            Ok(mut order) => {
                order.reject_code = Some(reject.code().to_owned());
                order.value()
            }
            Err(problem) => return problem,
        };
        let problem = Problem::refused(reject).order(order);
        match MarketWords::of(state, new.market) {
            // What the state says now is not what it said then: a repeat goes without.
            Some(words) if !decided.repeat => explain(problem, reject, state, new, &words),
            _ => problem,
        }
    })
}

/// Names the value that was refused and the nearest that would pass.
fn explain(
    problem: Problem,
    reject: Reject,
    state: &engine::State,
    new: &NewOrder,
    words: &MarketWords<'_>,
) -> Problem {
    let market = words.market;
    match reject {
        Reject::NotionalTooSmall => {
            let least = words.notional(market.notional_min);
            let rule = format!("× price must be at least {least} {}", words.quote.symbol);
            let problem = problem.with_error("quantity", reject.code(), rule);
            // The least whole number of lots whose notional is enough.
            let lot = new
                .price
                .map(|price| u128::from(price.get()) * u128::from(market.quote_units_per_tick_lot));
            let lots = lot.map(|lot| market.notional_min.get().div_ceil(lot.max(1)));
            match lots.and_then(|lots| u64::try_from(lots).ok()) {
                Some(lots) => problem.nearest(words.quantity(units::QuantityLots::new(lots))),
                None => problem,
            }
        }
        Reject::QuantityInvalid => {
            let most = words.quantity(market.quantity_max);
            let rule = format!("must be above zero and at most {most}");
            problem.with_error("quantity", reject.code(), rule).nearest(most)
        }
        Reject::InsufficientFunds => {
            let asset = match new.side {
                engine::Side::Buy => market.quote,
                engine::Side::Sell => market.base,
            };
            let available = state.balance(new.account, asset).available;
            let Some(config) = state.assets().get(usize::from(asset.get())) else { return problem };
            let available = wire::decimal::format_amount(config, available);
            problem.detail(format!("{available} {} is available.", config.symbol))
        }
        Reject::PriceBand => band(problem, reject, state, new, words),
        _ => problem,
    }
}

fn band(
    problem: Problem,
    reject: Reject,
    state: &engine::State,
    new: &NewOrder,
    words: &MarketWords<'_>,
) -> Problem {
    let reference = state.market(new.market).and_then(|market| market.reference);
    let (Some(reference), Some(band), Some(price)) = (reference, words.market.band, new.price)
    else {
        return problem;
    };
    // The same rounding as the core's: the band is the ticks within reference ± band.
    let width = u128::from(reference.get()) * u128::from(band.get()) / u128::from(units::PPM);
    let width = u64::try_from(width).unwrap_or(u64::MAX);
    let edge = if price > reference {
        reference.get().saturating_add(width)
    } else {
        reference.get().saturating_sub(width).max(1)
    };
    let rule = format!(
        "must be within {} of the market's reference price {}",
        wire::decimal::format_rate(band),
        words.price(reference)
    );
    let problem = problem.with_error("price", reject.code(), rule);
    match units::PriceTicks::new(edge) {
        Some(edge) => problem.nearest(words.price(edge)),
        None => problem,
    }
}

/// Makes an order that is not decided yet visible, and says so.
async fn pending(app: &App, command: &Command) -> Result<Response, Problem> {
    let Action::PlaceOrder(new) = &command.action else {
        return Err(Problem::new(Code::Defect));
    };
    let now = app.live.journal_now();
    let body = app
        .live
        .read(|state| render::undecided(state, command, new, now, enums::OrderStatus::Pending))?;
    let words = [
        enums::Side::from(new.side).as_str(),
        enums::OrderType::from(new.order_type).as_str(),
        enums::TimeInForce::from(new.time_in_force).as_str(),
        enums::SelfTradePrevention::from(new.self_trade_prevention).as_str(),
    ];
    let id = wire::id::to_uuid(command.id);
    let row = PendingOrder { id, order: new, words, expires_at: command.expires_at, now };
    if let Err(error) = store::lookup::insert_pending(&app.db, &row).await {
        tracing::error!(%error, order = %id, "a pending order could not be noted");
        return Err(Problem::new(Code::OutcomeUnknown).order(body.value()));
    }
    render::response(StatusCode::ACCEPTED, &body)
}
