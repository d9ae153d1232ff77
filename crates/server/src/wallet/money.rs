//! Play-money deposits, and transfers between users.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Action, Event, Reject};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use store::outgoing::Way;
use units::ReferenceHash;
use utoipa::ToSchema;
use wire::DecimalInput;

use super::leave::{Leaving, admit};
use super::{Transaction, amount, asset, refused};
use crate::app::App;
use crate::body::{IdempotencyKey, Json};
use crate::command::{Answer, Ask, Decided, command_id, known, submit};
use crate::edge::{Context, with_sequence};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// The longest reference of a deposit, in bytes.
const REFERENCE_BYTES_MAX: usize = 64;

/// A deposit of play money.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Deposit {
    /// The asset.
    #[schema(required, value_type = String, example = "USD")]
    asset: Option<String>,
    /// How much.
    #[schema(required, value_type = String, example = "1000.00")]
    amount: Option<DecimalInput>,
    /// A reference of yours, good for one deposit for ever.
    reference: Option<String>,
}

/// Credits play money. Only where the journal is a sandbox.
#[utoipa::path(post, path = "/api/v1/wallet/deposit", tag = "Wallet", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again")),
    request_body = Deposit, responses(
    (status = 201, body = Transaction), (status = 200, body = Transaction, description = "A repeat: the first answer"),
    (status = 202, description = "Not decided yet; it will be in `transactions`"),
    (status = 403, body = ProblemBody, description = "`not_sandbox`"),
    (status = 409, body = ProblemBody, description = "`deposit_known`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn deposit(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Json { value: body, hash }: Json<Deposit>,
) -> Result<Response, Problem> {
    if !app.live.read(|state| state.settings().is_some_and(|settings| settings.sandbox)) {
        return Err(Problem::refused(Reject::NotSandbox));
    }
    let (asset, config) = asset(&app, body.asset.as_deref())?;
    let amount = amount(&config, body.amount.as_ref())?;
    let id = command_id(principal.user, "POST /api/v1/wallet/deposit", key.as_deref());
    let own = wire::id::format(id);
    let reference = reference(&principal, body.reference.as_deref(), &own)?;
    let account = principal.account;
    let ask = Ask {
        id,
        keyed: key.is_lasting(),
        body_hash: hash,
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::Deposit { account, asset, amount, reference, sandbox: true },
    };
    match submit(&app, ask).await? {
        Answer::Pending(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Answer::Decided(decided) => answer(&app, &principal, &decided),
    }
}

/// Returns the hash by which a deposit is known for ever: of the user's own reference, or of the command.
fn reference(
    principal: &Principal,
    text: Option<&str>,
    own: &str,
) -> Result<ReferenceHash, Problem> {
    let fits = |text: &str| {
        (1..=REFERENCE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if text.is_some_and(|text| !fits(text)) {
        let rule = "must be 1 to 64 visible ASCII characters";
        return Err(Problem::value("reference", "reference_invalid", rule));
    }
    let digest = Sha256::new()
        .chain_update(b"sandbox deposit\0")
        .chain_update(principal.user.as_bytes())
        .chain_update(text.map_or([1], |_| [0]))
        .chain_update(text.unwrap_or(own))
        .finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Ok(ReferenceHash::new(u128::from_be_bytes(first)))
}

/// A transfer to another user.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Transfer {
    /// The asset.
    #[schema(required, value_type = String, example = "USD")]
    asset: Option<String>,
    /// How much.
    #[schema(required, value_type = String, example = "25.00")]
    amount: Option<DecimalInput>,
    /// The other user's wallet address.
    #[schema(required, value_type = String, example = "kx1…")]
    to: Option<String>,
}

/// Transfers money to another user, at once. The rules of withdrawals stand for it, too.
#[utoipa::path(post, path = "/api/v1/wallet/transfer", tag = "Wallet", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again")),
    request_body = Transfer, responses(
    (status = 201, body = Transaction), (status = 200, body = Transaction, description = "A repeat: the first answer"),
    (status = 202, description = "Not decided yet; it will be in `transactions`"),
    (status = 403, body = ProblemBody, description = "`account_locked`; `scope_missing`"),
    (status = 404, body = ProblemBody, description = "`account_unknown`"),
    (status = 422, body = ProblemBody, description = "Also `withdrawal_frozen`, `destination_unlisted`, `destination_cooling_off`, `withdrawal_limit`")))]
pub(super) async fn transfer(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    IdempotencyKey(key): IdempotencyKey,
    Json { value: body, hash }: Json<Transfer>,
) -> Result<Response, Problem> {
    let (asset, config) = asset(&app, body.asset.as_deref())?;
    let amount = amount(&config, body.amount.as_ref())?;
    let to = body.to.as_deref().ok_or_else(|| Problem::value("to", "required", "is required"))?;
    let to = wire::address::parse(to)
        .map_err(|error| Problem::value("to", "address_invalid", error.to_string()))?;
    let id = command_id(principal.user, "POST /api/v1/wallet/transfer", key.as_deref());
    let ask = Ask {
        id,
        keyed: key.is_lasting(),
        body_hash: hash,
        trace_id: context.trace_id,
        expires_at: None,
        action: Action::Transfer { from: principal.account, to, asset, amount },
    };
    // A repeat gets its first answer, whatever rules have come since.
    if let Some(first) = known(&app, &ask).await? {
        return answer(&app, &principal, &first);
    }
    let destination = wire::address::format(to);
    let (way, destination) = (Way::Transfer, destination.as_str());
    let leaving = Leaving { id, way, asset: (asset, &config), amount, destination };
    admit(&app, &context, &principal, &leaving).await?;
    match submit(&app, ask).await? {
        Answer::Pending(_) => Ok(StatusCode::ACCEPTED.into_response()),
        Answer::Decided(decided) => answer(&app, &principal, &decided),
    }
}

/// Answers from the command and its event alone.
fn answer(app: &App, principal: &Principal, decided: &Decided) -> Result<Response, Problem> {
    let command = &decided.entry().command;
    let (kind, asset, amount, status, other) = match &command.action {
        Action::Deposit { asset, amount, .. } => ("deposit", *asset, *amount, "credited", None),
        Action::Transfer { asset, amount, to, .. } => {
            ("transfer_out", *asset, *amount, "completed", Some(*to))
        }
        _ => return Err(Problem::new(Code::KeyReused)),
    };
    match decided.event() {
        Event::Done => {}
        Event::Rejected(reject) => return Err(refused(app, principal, asset, *reject)),
        _ => return Err(Problem::new(Code::Defect)),
    }
    let mut body = app.live.read(|state| {
        Transaction::new(state.assets(), command.id, kind, (asset, amount), status, decided.time())
    })?;
    body.counterparty = other.map(wire::address::format);
    let status = if decided.repeat { StatusCode::OK } else { StatusCode::CREATED };
    Ok(with_sequence(app, decided.sequence(), (status, Out(body)).into_response()))
}
