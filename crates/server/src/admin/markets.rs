//! Halting and resuming markets.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Action, Event, MarketState};
use serde::Serialize;
use utoipa::ToSchema;
use wire::enums;

use super::{Reason, entry, refused, write_down};
use crate::access::Staff;
use crate::app::App;
use crate::body::{self, IdempotencyKey, OptionalJson, RequestKey, Segment};
use crate::command::{Answer, Ask, command_id, submit};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};

/// A market and what it lets through.
#[derive(Serialize, ToSchema)]
pub(crate) struct MarketNow {
    /// The market.
    market: String,
    /// What it lets through.
    state: enums::MarketState,
}

/// Halts a market: nothing trades, and cancels are still taken.
#[utoipa::path(post, path = "/api/v1/admin/markets/{symbol}/halt", tag = "Admin", security(("bearer" = [])),
    params(("symbol" = String, Path, example = "BTC-USD", description = "Such as BTC-USD")), request_body = Option<Reason>, responses(
    (status = 200, body = MarketNow), (status = 202, description = "Not decided yet"),
    (status = 403, body = ProblemBody, description = "`role_missing`"), (status = 404, body = ProblemBody)))]
pub(super) async fn halt(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    IdempotencyKey(key): IdempotencyKey,
    Segment(symbol): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Response, Problem> {
    let reason = Reason::text(body)?;
    set(&app, &context, staff, &key, &symbol, MarketState::Halted, reason.as_deref()).await
}

/// Resumes a market: everything trades again.
#[utoipa::path(post, path = "/api/v1/admin/markets/{symbol}/resume", tag = "Admin", security(("bearer" = [])),
    params(("symbol" = String, Path, example = "BTC-USD", description = "Such as BTC-USD")), request_body = Option<Reason>, responses(
    (status = 200, body = MarketNow), (status = 202, description = "Not decided yet"),
    (status = 403, body = ProblemBody, description = "`role_missing`"), (status = 404, body = ProblemBody)))]
pub(super) async fn resume(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    IdempotencyKey(key): IdempotencyKey,
    Segment(symbol): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Response, Problem> {
    let reason = Reason::text(body)?;
    set(&app, &context, staff, &key, &symbol, MarketState::Open, reason.as_deref()).await
}

async fn set(
    app: &App,
    context: &Context,
    staff: Staff,
    key: &RequestKey,
    symbol: &str,
    to: MarketState,
    reason: Option<&str>,
) -> Result<Response, Problem> {
    let found = app.live.read(|state| {
        let symbol = wire::symbol::from_text(symbol)?;
        let id = state.market_by_symbol(&symbol)?;
        Some((id, symbol, state.market(id)?.state))
    });
    let (market, symbol, before) = found.ok_or(Problem::new(Code::NotFound))?;
    let (action, route) = match to {
        MarketState::Open => ("admin.market_resume", "resume a market"),
        _ => ("admin.market_halt", "halt a market"),
    };
    let entry = entry(staff, context, action, reason);
    write_down(app, entry.clone(), &symbol, word(before), word(to)).await?;
    let ask = Ask {
        id: command_id(staff.user, route, key.as_deref()),
        keyed: key.is_lasting(),
        body_hash: body::hash(symbol.as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::SetMarketState { market, state: to },
    };
    let Answer::Decided(decided) = submit(app, ask).await? else {
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    match decided.event() {
        Event::Done => {}
        Event::Rejected(reject) => {
            return Err(refused(app, entry, &symbol, Problem::refused(*reject)));
        }
        _ => return Err(Problem::new(Code::Defect)),
    }
    let body = MarketNow { market: symbol, state: to.into() };
    Ok(with_sequence(app, decided.sequence(), Out(body).into_response()))
}

fn word(state: MarketState) -> &'static str {
    match state {
        MarketState::Open => "open",
        MarketState::CancelOnly => "cancel_only",
        MarketState::PostOnly => "post_only",
        MarketState::Halted => "halted",
    }
}
