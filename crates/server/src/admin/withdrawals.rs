//! The queue of withdrawals, and deciding them.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Action, AssetConfig, Event, Reject, WithdrawalState};
use serde::{Deserialize, Serialize};
use store::admin::{self, QueuedRow};
use units::CommandId;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wire::body::Page;
use wire::time::Timestamp;

use super::{Reason, entry, refused, unavailable, write_down};
use crate::access::Staff;
use crate::app::App;
use crate::body::{self, IdempotencyKey, OptionalJson, Query, RequestKey, Segment, page_size};
use crate::command::{Answer, Ask, command_id, submit};
use crate::edge::{Context, with_sequence};
use crate::orders::{cursor, min_projected, wait_projected};
use crate::problem::{Code, Problem, ProblemBody, chain};

/// A withdrawal in the queue.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Queued {
    /// The id.
    id: Uuid,
    /// Whose; absent where the user has been erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Uuid>,
    /// The user's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// The asset.
    asset: String,
    /// How much.
    amount: String,
    /// Where it stands.
    state: String,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    /// When it was requested.
    created_at: Timestamp,
    /// When it changed last.
    updated_at: Timestamp,
}

impl Queued {
    fn of(assets: &[AssetConfig], row: &QueuedRow) -> Result<Self, Problem> {
        let asset = assets.get(usize::from(row.asset.get())).ok_or(Problem::new(Code::Defect))?;
        Ok(Self {
            id: row.id,
            user_id: row.user,
            email: row.email.clone(),
            asset: asset.symbol.to_string(),
            amount: wire::decimal::format_amount(asset, row.amount),
            state: row.status.clone(),
            destination: row.destination.clone(),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

/// Which withdrawals.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QueueQuery {
    /// `requested` unless given; `approved`, `sending`, `settled`, `failed`, `cancelled`.
    state: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

const STATES: [WithdrawalState; 6] = [
    WithdrawalState::Requested,
    WithdrawalState::Approved,
    WithdrawalState::Sending,
    WithdrawalState::Settled,
    WithdrawalState::Failed,
    WithdrawalState::Cancelled,
];

/// Lists withdrawals in a state, oldest first.
#[utoipa::path(get, path = "/api/v1/admin/withdrawals", tag = "Admin", security(("bearer" = [])), params(QueueQuery),
    responses((status = 200, body = Page<Queued>), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    context: Context,
    Query(query): Query<QueueQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let after = cursor::read(query.cursor.as_deref())?;
    let state = query.state.as_deref().unwrap_or("requested");
    if !STATES.iter().any(|known| known.code() == state) {
        let rule = "must be one of requested, approved, sending, settled, failed, cancelled";
        return Err(Problem::value("state", "unknown_value", rule));
    }
    min_projected(&app, &context).await?;
    let rows = admin::withdrawals(&app.db, state, after, size + 1).await;
    let mut rows = rows.map_err(|error| unavailable(&error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.sequence, row.id));
    let items = app.live.read(|state| {
        rows.iter().map(|row| Queued::of(state.assets(), row)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Out(Page { items, next_cursor }).into_response())
}

/// Approves a withdrawal: it may be sent. Not one of your own, nor of a user who is locked out or frozen.
#[utoipa::path(post, path = "/api/v1/admin/withdrawals/{id}/approve", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The withdrawal's id")), request_body = Option<Reason>, responses(
    (status = 200, body = Queued), (status = 202, description = "Not decided yet"),
    (status = 403, body = ProblemBody, description = "`role_missing`, `own_request`, `account_locked`"),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "`withdrawal_state`"),
    (status = 422, body = ProblemBody, description = "`withdrawal_frozen`")))]
pub(super) async fn approve(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    IdempotencyKey(key): IdempotencyKey,
    Segment(id): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Response, Problem> {
    let reason = Reason::text(body)?;
    let (row, withdrawal) = find(&app, &id).await?;
    check_owner(&app, staff, &row).await?;
    let step =
        Step { to: WithdrawalState::Approved, action: Action::ApproveWithdrawal { withdrawal } };
    decide(&app, &context, staff, &key, row, step, reason.as_deref()).await
}

/// Rejects a withdrawal: its amount is given back. Also one that was approved and is not being sent.
#[utoipa::path(post, path = "/api/v1/admin/withdrawals/{id}/reject", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The withdrawal's id")), request_body = Option<Reason>, responses(
    (status = 200, body = Queued), (status = 202, description = "Not decided yet"),
    (status = 403, body = ProblemBody, description = "`role_missing`, `own_request`"),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "`withdrawal_state`")))]
pub(super) async fn reject(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    IdempotencyKey(key): IdempotencyKey,
    Segment(id): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Response, Problem> {
    let reason = Reason::text(body)?;
    let (row, withdrawal) = find(&app, &id).await?;
    if row.user == Some(staff.user) {
        return Err(Problem::new(Code::OwnRequest));
    }
    // What is being sent may have arrived: only the payer, who can ask, says that it has failed.
    let is_sent = app.live.read(|state| {
        state.withdrawal(withdrawal).is_some_and(|found| found.state == WithdrawalState::Sending)
    });
    if is_sent {
        return Err(Problem::refused(Reject::WithdrawalState));
    }
    let account = row.account;
    // As its owner would: the core takes that back until it is being sent, and no later.
    let action = Action::CancelWithdrawal { account, withdrawal };
    let step = Step { to: WithdrawalState::Cancelled, action };
    decide(&app, &context, staff, &key, row, step, reason.as_deref()).await
}

async fn find(app: &App, id: &str) -> Result<(QueuedRow, CommandId), Problem> {
    let withdrawal = wire::id::parse(id).ok_or(Problem::new(Code::NotFound))?;
    wait_projected(app, app.live.sequence()).await;
    let row = admin::withdrawal(&app.db, wire::id::to_uuid(withdrawal)).await;
    let row = row.map_err(|error| unavailable(&error))?;
    // One that was refused by the core is a row, but no withdrawal.
    let row = row.filter(|row| STATES.iter().any(|state| state.code() == row.status));
    Ok((row.ok_or(Problem::new(Code::NotFound))?, withdrawal))
}

/// Nobody approves what is their own, and nothing leaves an account that has been closed off since it was asked for.
async fn check_owner(app: &App, staff: Staff, row: &QueuedRow) -> Result<(), Problem> {
    let Some(user) = row.user else { return Ok(()) };
    if user == staff.user {
        return Err(Problem::new(Code::OwnRequest));
    }
    let owner = admin::find(&app.db, user).await.map_err(|error| unavailable(&error))?;
    let Some(owner) = owner else { return Ok(()) };
    if owner.locked_at.is_some() {
        return Err(Problem::refused(Reject::AccountLocked));
    }
    match owner.frozen_until {
        Some(until) => Err(Problem::refused(Reject::WithdrawalFrozen).detail(format!(
            "Nothing may leave this account until {}.",
            wire::time::format(until)
        ))),
        None => Ok(()),
    }
}

struct Step {
    to: WithdrawalState,
    action: Action,
}

async fn decide(
    app: &App,
    context: &Context,
    staff: Staff,
    key: &RequestKey,
    mut row: QueuedRow,
    step: Step,
    reason: Option<&str>,
) -> Result<Response, Problem> {
    let (route, action) = match step.to {
        WithdrawalState::Approved => ("approve a withdrawal", "admin.withdrawal_approve"),
        _ => ("reject a withdrawal", "admin.withdrawal_reject"),
    };
    let target = row.id.to_string();
    let entry = entry(staff, context, action, reason);
    write_down(app, entry.clone(), &target, &row.status, step.to.code()).await?;
    let ask = Ask {
        id: command_id(staff.user, route, key.as_deref()),
        keyed: key.is_lasting(),
        body_hash: body::hash(target.as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: step.action,
    };
    let Answer::Decided(decided) = submit(app, ask).await? else {
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    match decided.event() {
        Event::Done => {}
        Event::Rejected(Reject::WithdrawalUnknown) => {
            // It is in the projections, so it is one that is closed.
            return Err(refused(app, entry, &target, Problem::refused(Reject::WithdrawalState)));
        }
        Event::Rejected(reject) => {
            return Err(refused(app, entry, &target, Problem::refused(*reject)));
        }
        _ => return Err(Problem::new(Code::Defect)),
    }
    if step.to == WithdrawalState::Cancelled
        && let Err(error) = admin::mark_rejected(&app.db, row.id).await
    {
        // Its owner reads `cancelled` then; who has rejected it is in the audit log in any case.
        tracing::warn!(error = %chain(&error), "cannot write down who has given a withdrawal back");
    }
    row.status = step.to.code().to_owned();
    row.updated_at = decided.time();
    let body = app.live.read(|state| Queued::of(state.assets(), &row))?;
    Ok(with_sequence(app, decided.sequence(), Out(body).into_response()))
}
