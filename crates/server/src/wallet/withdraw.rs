//! Withdrawals: a request with states. Where it goes stands in ordinary rows, the journal has a salted hash.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Action, AssetConfig, Event, WithdrawalState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::lookup::{self, WithdrawalRow};
use store::outgoing::Way;
use store::{StoreError, users};
use units::{AssetId, ReferenceHash};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wire::DecimalInput;
use wire::body::Page;
use wire::time::Timestamp;

use super::leave::{Leaving, admit};
use super::{amount, asset, config, refused};
use crate::app::App;
use crate::body::{self, IdempotencyKey, Json, Query, Segment, page_size};
use crate::command::{Answer, Ask, Decided, command_id, known, submit};
use crate::edge::{Context, with_sequence};
use crate::orders::{cursor, min_projected, wait_projected};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// The longest destination, in bytes.
const DESTINATION_BYTES_MAX: usize = 128;

/// A withdrawal, as it is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Request {
    /// The asset.
    #[schema(required, value_type = String, example = "BTC")]
    asset: Option<String>,
    /// How much.
    #[schema(required, value_type = String, example = "0.5")]
    amount: Option<DecimalInput>,
    /// Where to: 1 to 128 visible ASCII characters.
    #[schema(required, value_type = String, example = "bc1q…")]
    destination: Option<String>,
}

/// A withdrawal.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawal {
    /// The id.
    id: Uuid,
    /// The asset.
    asset: String,
    /// How much.
    amount: String,
    /// `requested`, `approved`, `sending` (held), `settled` (gone), `failed`, `cancelled` (given back), `rejected` (never
    /// held, or given back) or `expired`.
    state: String,
    /// Why it was refused; `rejected_by_operator` where the exchange has given it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Where to, as long as that is kept.
    destination: Option<String>,
    /// When it was requested.
    created_at: Timestamp,
    /// When it changed last.
    updated_at: Timestamp,
}

impl Withdrawal {
    pub(crate) fn of(assets: &[AssetConfig], row: &WithdrawalRow) -> Result<Self, Problem> {
        let asset = config(assets, row.asset)?;
        Ok(Self {
            id: row.id,
            asset: asset.symbol.to_string(),
            amount: wire::decimal::format_amount(asset, row.amount),
            state: row.status.clone(),
            reason: row.reason.clone(),
            destination: row.destination.clone(),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

/// Requests a withdrawal: its amount is held from now on. Rules of the account may stand against it: a freeze, the list of
/// destinations, what may leave in a day.
#[utoipa::path(post, path = "/api/v1/wallet/withdraw", tag = "Wallet", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again")),
    request_body = Request, responses(
    (status = 201, body = Withdrawal), (status = 200, body = Withdrawal, description = "A repeat: the first answer"),
    (status = 202, description = "Not decided yet; it will be in the list"),
    (status = 403, body = ProblemBody, description = "`account_locked`; `scope_missing`"),
    (status = 422, body = ProblemBody, description = "Also `withdrawal_frozen`, `destination_unlisted`, `destination_cooling_off`, `withdrawal_limit`")))]
pub(super) async fn request(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Json { value: body, hash }: Json<Request>,
) -> Result<Response, Problem> {
    let (asset, config) = asset(&app, body.asset.as_deref())?;
    let amount = amount(&config, body.amount.as_ref())?;
    let destination = destination(body.destination.as_deref())?;
    let unavailable =
        |error: StoreError| Problem::unavailable("cannot request a withdrawal", &error);
    let user = users::by_id(&app.db, principal.user).await.map_err(unavailable)?;
    let user = user.ok_or(Problem::new(Code::Unauthenticated))?;
    let id = command_id(principal.user, "POST /api/v1/wallet/withdraw", key.as_deref());
    let ask = Ask {
        id,
        keyed: key.is_lasting(),
        body_hash: hash,
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::RequestWithdrawal {
            account: principal.account,
            asset,
            amount,
            destination: destination_hash(&user.reference_salt, destination),
        },
    };
    // A repeat gets its first answer, whatever rules have come since.
    if let Some(first) = known(&app, &ask).await? {
        return answer(&app, &principal, &first, destination);
    }
    let way = Way::Withdrawal;
    let leaving = Leaving { id, way, asset: (asset, &config), amount, destination };
    admit(&app, &context, &principal, &leaving).await?;
    match submit(&app, ask).await? {
        Answer::Pending(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Answer::Decided(decided) => answer(&app, &principal, &decided, destination),
    }
}

pub(super) fn destination(text: Option<&str>) -> Result<&str, Problem> {
    let text = text.ok_or_else(|| Problem::value("destination", "required", "is required"))?;
    let fits = (1..=DESTINATION_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        let rule = "must be 1 to 128 visible ASCII characters";
        Err(Problem::value("destination", "destination_invalid", rule))
    }
}

fn destination_hash(salt: &[u8], destination: &str) -> ReferenceHash {
    let digest = Sha256::new().chain_update(salt).chain_update(destination).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    ReferenceHash::new(u128::from_be_bytes(first))
}

fn answer(
    app: &App,
    principal: &Principal,
    decided: &Decided,
    destination: &str,
) -> Result<Response, Problem> {
    let command = &decided.entry().command;
    let Action::RequestWithdrawal { asset, amount, .. } = &command.action else {
        return Err(Problem::new(Code::KeyReused));
    };
    match decided.event() {
        Event::Done => {}
        Event::Rejected(reject) => return Err(refused(app, principal, *asset, *reject)),
        _ => return Err(Problem::new(Code::Defect)),
    }
    let body = app.live.read(|state| {
        let asset = config(state.assets(), *asset)?;
        Ok::<_, Problem>(Withdrawal {
            id: wire::id::to_uuid(command.id),
            asset: asset.symbol.to_string(),
            amount: wire::decimal::format_amount(asset, *amount),
            state: WithdrawalState::Requested.code().to_owned(),
            reason: None,
            destination: Some(destination.to_owned()),
            created_at: decided.time().into(),
            updated_at: decided.time().into(),
        })
    })?;
    let status = if decided.repeat { StatusCode::OK } else { StatusCode::CREATED };
    Ok(with_sequence(app, decided.sequence(), (status, Out(body)).into_response()))
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists withdrawals, newest first.
#[utoipa::path(get, path = "/api/v1/wallet/withdraw", tag = "Wallet", security(("bearer" = [])), params(ListQuery),
    responses((status = 200, body = Page<Withdrawal>), (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let after = cursor::read(query.cursor.as_deref())?;
    min_projected(&app, &context).await?;
    let mut rows = lookup::withdrawals(&app.db, principal.account, after, size + 1)
        .await
        .map_err(|error| Problem::unavailable("cannot list withdrawals", &error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.sequence, row.id));
    let items = app.live.read(|state| {
        rows.iter().map(|row| Withdrawal::of(state.assets(), row)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Out(Page { items, next_cursor }).into_response())
}

/// Shows one withdrawal.
#[utoipa::path(get, path = "/api/v1/wallet/withdraw/{id}", tag = "Wallet", security(("bearer" = [])),
    params(("id" = String, Path, description = "The withdrawal's id")), responses(
    (status = 200, body = Withdrawal), (status = 404, body = ProblemBody)))]
pub(super) async fn one(
    State(app): State<App>,
    principal: Principal,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let id = wire::id::parse(&id).ok_or(Problem::new(Code::NotFound))?;
    let found = find(&app, &principal, id).await?.ok_or(Problem::new(Code::NotFound))?;
    Ok(Out(found).into_response())
}

async fn find(
    app: &App,
    principal: &Principal,
    id: units::CommandId,
) -> Result<Option<Withdrawal>, Problem> {
    // The destination is in ordinary rows, so the database is asked in any case: it must be as new as the journal here.
    wait_projected(app, app.live.sequence()).await;
    let row = lookup::withdrawal(&app.db, principal.account, wire::id::to_uuid(id))
        .await
        .map_err(|error| Problem::unavailable("cannot read a withdrawal", &error))?;
    row.map(|row| app.live.read(|state| Withdrawal::of(state.assets(), &row))).transpose()
}

/// Takes a withdrawal back, before it is being sent: its amount is given back.
#[utoipa::path(delete, path = "/api/v1/wallet/withdraw/{id}", tag = "Wallet", security(("bearer" = [])),
    params(("id" = String, Path, description = "The withdrawal's id")), responses(
    (status = 200, body = Withdrawal), (status = 202, description = "Not decided yet"),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "`withdrawal_state`")))]
pub(super) async fn cancel(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let withdrawal = wire::id::parse(&id).ok_or(Problem::new(Code::NotFound))?;
    let found = find(&app, &principal, withdrawal).await?;
    found.ok_or(Problem::new(Code::NotFound))?;
    let ask = Ask {
        id: command_id(principal.user, "DELETE /api/v1/wallet/withdraw/{id}", key.as_deref()),
        keyed: false,
        body_hash: body::hash(id.as_bytes()),
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::CancelWithdrawal { account: principal.account, withdrawal },
    };
    let Answer::Decided(decided) = submit(&app, ask).await? else {
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    match decided.event() {
        Event::Done => {}
        Event::Rejected(engine::Reject::WithdrawalUnknown) => {
            // It is there, so it is one that is closed.
            return Err(Problem::refused(engine::Reject::WithdrawalState));
        }
        Event::Rejected(reject) => {
            return Err(refused(&app, &principal, AssetId::default(), *reject));
        }
        _ => return Err(Problem::new(Code::Defect)),
    }
    let mut body = find(&app, &principal, withdrawal).await?.ok_or(Problem::new(Code::NotFound))?;
    if decided.effects().is_some() {
        // What was just decided, even where the projections have not come so far.
        body.state = WithdrawalState::Cancelled.code().to_owned();
        body.updated_at = decided.time().into();
    }
    Ok(with_sequence(&app, decided.sequence(), Out(body).into_response()))
}
