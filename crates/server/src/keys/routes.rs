//! Making, listing and revoking keys: for sessions alone, never for a key.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::keys::{self, KeyRow, NewKey};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use wire::time::Timestamp;

use super::Scopes;
use super::network::Network;
use crate::app::App;
use crate::auth::confirm::confirm as confirm_identity;
use crate::auth::origin;
use crate::body::{Json, Segment};
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

const LABEL_BYTES_MAX: usize = 64;
const NETWORKS_MAX: usize = 32;
const DAYS_MAX: u32 = 3_650;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// A key, as it is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// What you call it: 1 to 64 bytes.
    #[schema(required, value_type = String, example = "my bot")]
    label: Option<String>,
    /// What it may do: `read`, `trade`, `withdraw`.
    #[schema(required, value_type = Vec<String>, example = json!(["read", "trade"]))]
    scopes: Option<Vec<String>>,
    /// Addresses and networks that it may be used from, at most 32; from anywhere unless given. A key that may withdraw
    /// must have some.
    #[schema(example = json!(["192.0.2.0/24", "2001:db8::1"]))]
    addresses: Option<Vec<String>>,
    /// Days until its time is over, 1 to 3650; until it is revoked unless given.
    expires_in_days: Option<u32>,
    /// The password.
    #[schema(required, value_type = String)]
    password: Option<String>,
    /// A code of the second factor, where that is on.
    code: Option<String>,
}

/// A key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyBody {
    /// Goes into `X-Kx-Key`.
    id: Uuid,
    /// What you call it.
    label: String,
    /// What it may do.
    scopes: Vec<&'static str>,
    /// Where it may be used from; empty: from anywhere.
    addresses: Vec<String>,
    /// When it was made.
    created_at: Timestamp,
    /// When its time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// When it was used last, a few seconds late.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    /// From where it was used last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_address: Option<String>,
}

impl KeyBody {
    fn of(row: &KeyRow) -> Self {
        Self {
            id: row.id,
            label: row.label.clone(),
            scopes: Scopes(row.scopes).names().collect(),
            addresses: row.networks.clone(),
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Into::into),
            last_used_at: row.last_used_at.map(Into::into),
            last_address: row.last_address.map(|address| address.to_string()),
        }
    }
}

/// A new key with its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key.
    key: KeyBody,
    /// Signs requests. It is shown this once and never again.
    secret: String,
}

/// Keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Keys {
    /// The keys, newest first.
    items: Vec<KeyBody>,
}

/// Makes a key, for whoever proves once more who they are. Its secret is in this answer alone. Withdrawals are frozen for a
/// while, as after any change of what somebody gets in with.
#[utoipa::path(post, path = "/api/v1/auth/api-keys", tag = "Keys", security(("bearer" = [])), request_body = CreateKey,
    responses((status = 201, body = CreatedKey),
    (status = 401, body = ProblemBody, description = "`credentials_invalid`, `second_factor_required`, `second_factor_invalid`"),
    (status = 403, body = ProblemBody, description = "`session_needed`: a key makes no keys"),
    (status = 422, body = ProblemBody, description = "`value_invalid`, `too_many_keys`"),
    (status = 429, body = ProblemBody, description = "`too_many_requests`, `too_many_attempts`")))]
async fn create(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<CreateKey>,
) -> Result<Response, Problem> {
    let label = label(body.label.as_deref())?;
    let scopes = scopes(body.scopes)?;
    let networks = networks(body.addresses.unwrap_or_default())?;
    if scopes.contains(Scopes::WITHDRAW) && networks.is_empty() {
        let rule = "must be given for a key that may withdraw";
        return Err(Problem::value("addresses", "required", rule));
    }
    let lifetime = lifetime(body.expires_in_days)?;
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    let mail = Letter::changed("an API key was made", &origin(&context)).seal(&app, &user.email);
    let id = Uuid::new_v4();
    let secret = format!("kxs_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let new = NewKey {
        id,
        user: principal.user,
        label,
        scopes: scopes.0,
        networks: &networks,
        sealed: &app.vault.seal(&super::purpose(principal.user), id, secret.as_bytes()),
        lifetime,
        freeze: app.config.withdrawal_freeze,
        mail: &mail,
    };
    let row = keys::create(&app.db, &new)
        .await
        .map_err(|error| Problem::unavailable("cannot make a key", &error))?
        .ok_or(Problem::new(Code::TooManyKeys))?;
    app.delivery.wake();
    let detail = serde_json::json!({
        "key": id, "label": label, "scopes": scopes.names().collect::<Vec<_>>(), "addresses": networks
    });
    app.audit.done(&context, &principal, "keys.create", detail);
    let body = CreatedKey { key: KeyBody::of(&row), secret };
    Ok((StatusCode::CREATED, Out(body)).into_response())
}

/// Lists your keys, without their secrets.
#[utoipa::path(get, path = "/api/v1/auth/api-keys", tag = "Keys", security(("bearer" = [])), responses(
    (status = 200, body = Keys), (status = 401, body = ProblemBody)))]
async fn list(State(app): State<App>, principal: Principal) -> Result<Out<Keys>, Problem> {
    let rows = keys::list(&app.db, principal.user)
        .await
        .map_err(|error| Problem::unavailable("cannot list keys", &error))?;
    Ok(Out(Keys { items: rows.iter().map(KeyBody::of).collect() }))
}

/// Revokes a key: it ends at once, on every server.
#[utoipa::path(delete, path = "/api/v1/auth/api-keys/{id}", tag = "Keys", security(("bearer" = [])),
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 204, description = "It has ended"), (status = 404, body = ProblemBody)))]
async fn revoke(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Segment(id): Segment,
) -> Result<StatusCode, Problem> {
    let id = Uuid::parse_str(&id).map_err(|_| Problem::new(Code::NotFound))?;
    let unavailable = |error: StoreError| Problem::unavailable("cannot revoke a key", &error);
    if !keys::revoke(&app.db, principal.user, id, "revoked").await.map_err(unavailable)? {
        return Err(Problem::new(Code::NotFound));
    }
    app.keys.cache.forget(id);
    app.audit.done(&context, &principal, "keys.revoke", serde_json::json!({ "key": id }));
    Ok(StatusCode::NO_CONTENT)
}

/// Reads what somebody calls something: visible, without what turns text round.
pub(crate) fn label(text: Option<&str>) -> Result<&str, Problem> {
    let text = text.ok_or_else(|| Problem::value("label", "required", "is required"))?.trim();
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if (1..=LABEL_BYTES_MAX).contains(&text.len()) && !text.chars().any(odd) {
        Ok(text)
    } else {
        let rule = "must be 1 to 64 bytes of visible text";
        Err(Problem::value("label", "label_invalid", rule))
    }
}

fn scopes(names: Option<Vec<String>>) -> Result<Scopes, Problem> {
    let names = names.ok_or_else(|| Problem::value("scopes", "required", "is required"))?;
    let mut bits = 0;
    for name in &names {
        let found = Scopes::ALL.iter().find(|(_, known)| known == name);
        let Some((scope, _)) = found else {
            let rule = "must be some of read, trade, withdraw";
            return Err(Problem::value("scopes", "scope_unknown", rule));
        };
        bits |= scope.0;
    }
    if bits == 0 {
        return Err(Problem::value(
            "scopes",
            "required",
            "must name at least one of read, trade, withdraw",
        ));
    }
    Ok(Scopes(bits))
}

fn networks(texts: Vec<String>) -> Result<Vec<String>, Problem> {
    if texts.len() > NETWORKS_MAX {
        return Err(Problem::value("addresses", "too_many", "must be at most 32"));
    }
    let network = |text: &String| {
        text.parse::<Network>().map(|network| network.to_string()).map_err(|()| {
            let rule = "must be addresses, or networks such as 192.0.2.0/24 without bits beyond the prefix";
            Problem::value("addresses", "address_invalid", rule)
        })
    };
    texts.iter().map(network).collect()
}

fn lifetime(days: Option<u32>) -> Result<Option<Duration>, Problem> {
    match days {
        None => Ok(None),
        Some(days) if (1..=DAYS_MAX).contains(&days) => Ok(Some(DAY * days)),
        Some(_) => {
            let rule = "must be a whole number from 1 to 3650";
            Err(Problem::value("expiresInDays", "out_of_range", rule))
        }
    }
}
