//! The list of destinations that money may leave to.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::outgoing::{self, AddressRow, Listed};
use utoipa::ToSchema;
use uuid::Uuid;
use wire::time::Timestamp;

use super::withdraw::destination;
use crate::app::App;
use crate::body::{Json, Segment};
use crate::edge::Context;
use crate::keys::label;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// A destination, as it is asked to be listed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListAddress {
    /// What you call it: 1 to 64 bytes.
    #[schema(required, value_type = String, example = "cold storage")]
    label: Option<String>,
    /// Where to: 1 to 128 visible ASCII characters; another user's `kx1…` for transfers.
    #[schema(required, value_type = String, example = "bc1q…")]
    destination: Option<String>,
}

/// A listed destination.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Address {
    /// The id.
    id: Uuid,
    /// What you call it.
    label: String,
    /// Where to.
    destination: String,
    /// When it was listed.
    created_at: Timestamp,
    /// When its cooling-off time ends.
    usable_at: Timestamp,
}

impl From<&AddressRow> for Address {
    fn from(row: &AddressRow) -> Self {
        Self {
            id: row.id,
            label: row.label.clone(),
            destination: row.destination.clone(),
            created_at: row.created_at.into(),
            usable_at: row.usable_at.into(),
        }
    }
}

/// The list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Addresses {
    /// Whether money leaves to these alone, because you or the exchange want it so. What keys send always does.
    only_listed: bool,
    /// How long a destination must have been listed.
    cooling_off_seconds: u64,
    /// The destinations, newest first.
    items: Vec<Address>,
}

/// Whether money leaves to listed destinations alone.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OnlyListed {
    /// Whether it does.
    #[schema(required, value_type = bool)]
    only_listed: Option<bool>,
}

/// Lists the destinations.
#[utoipa::path(get, path = "/api/v1/wallet/addresses", tag = "Wallet", security(("bearer" = [])), responses(
    (status = 200, body = Addresses), (status = 401, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    principal: Principal,
) -> Result<Out<Addresses>, Problem> {
    show(&app, &principal).await
}

async fn show(app: &App, principal: &Principal) -> Result<Out<Addresses>, Problem> {
    let (rows, only) = outgoing::addresses(&app.db, principal.user).await.map_err(unavailable)?;
    let rules = &app.config.withdrawals;
    Ok(Out(Addresses {
        only_listed: only || rules.must_be_listed,
        cooling_off_seconds: rules.cooling_off.as_secs(),
        items: rows.iter().map(Address::from).collect(),
    }))
}

fn unavailable(error: StoreError) -> Problem {
    Problem::unavailable("cannot work on the listed destinations", &error)
}

/// Lists a destination. Money may leave to it after the cooling-off time; nothing else waits.
#[utoipa::path(post, path = "/api/v1/wallet/addresses", tag = "Wallet", security(("bearer" = [])),
    request_body = ListAddress, responses(
    (status = 201, body = Address), (status = 403, body = ProblemBody, description = "`session_needed`"),
    (status = 409, body = ProblemBody, description = "`address_known`"),
    (status = 422, body = ProblemBody, description = "`value_invalid`, `too_many_addresses`")))]
pub(super) async fn add(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<ListAddress>,
) -> Result<Response, Problem> {
    let label = label(body.label.as_deref())?;
    let destination = destination(body.destination.as_deref())?;
    // An address of ours has one spelling, by which transfers look for it.
    let own = wire::address::parse(destination).map(wire::address::format);
    let destination = own.as_deref().unwrap_or(destination);
    let (id, wait) = (Uuid::new_v4(), app.config.withdrawals.cooling_off);
    let listed = outgoing::add_address(&app.db, id, principal.user, label, destination, wait);
    match listed.await.map_err(unavailable)? {
        Listed::Now(row) => {
            let detail = serde_json::json!({ "address": id, "label": label });
            app.audit.done(&context, &principal, "wallet.address_listed", detail);
            Ok((StatusCode::CREATED, Out(Address::from(&row))).into_response())
        }
        Listed::Known => Err(Problem::new(Code::AddressKnown)),
        Listed::TooMany => Err(Problem::new(Code::TooManyAddresses)),
    }
}

/// Lets money leave to listed destinations alone, or to any. To any: nothing leaves at all for a time first.
#[utoipa::path(put, path = "/api/v1/wallet/addresses", tag = "Wallet", security(("bearer" = [])),
    request_body = OnlyListed, responses(
    (status = 200, body = Addresses), (status = 403, body = ProblemBody, description = "`session_needed`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn set(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<OnlyListed>,
) -> Result<Out<Addresses>, Problem> {
    let only = body.only_listed;
    let only = only.ok_or_else(|| Problem::value("onlyListed", "required", "is required"))?;
    let freeze: Duration = app.config.withdrawal_freeze;
    outgoing::set_allow_list(&app.db, principal.user, only, freeze).await.map_err(unavailable)?;
    let detail = serde_json::json!({ "onlyListed": only });
    app.audit.done(&context, &principal, "wallet.only_listed", detail);
    show(&app, &principal).await
}

/// Takes a destination off the list.
#[utoipa::path(delete, path = "/api/v1/wallet/addresses/{id}", tag = "Wallet", security(("bearer" = [])),
    params(("id" = String, Path, description = "The listed destination's id")), responses(
    (status = 204, description = "It is not listed any more"), (status = 404, body = ProblemBody)))]
pub(super) async fn remove(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Segment(id): Segment,
) -> Result<StatusCode, Problem> {
    let id = Uuid::parse_str(&id).map_err(|_| Problem::new(Code::NotFound))?;
    if !outgoing::remove_address(&app.db, principal.user, id).await.map_err(unavailable)? {
        return Err(Problem::new(Code::NotFound));
    }
    let detail = serde_json::json!({ "address": id });
    app.audit.done(&context, &principal, "wallet.address_removed", detail);
    Ok(StatusCode::NO_CONTENT)
}
