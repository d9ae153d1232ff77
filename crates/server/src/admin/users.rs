//! Users: seeing them, locking them out, giving roles.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::admin::{self, UserRow};
use store::roles::{self, Change, Role};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wire::body::{Balance, Page};
use wire::time::Timestamp;

use super::{Reason, entry, unavailable};
use crate::access::Staff;
use crate::app::App;
use crate::body::{Json, OptionalJson, Query, Segment, page_size};
use crate::edge::Context;
use crate::flags;
use crate::orders::cursor;
use crate::problem::{Code, Problem, ProblemBody};

/// A user, as staff sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserBody {
    /// The id.
    id: Uuid,
    /// The e-mail address.
    email: String,
    /// The wallet's address.
    address: String,
    /// `user`, `support`, `operator` or `admin`.
    role: String,
    /// When the e-mail address was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_at: Option<Timestamp>,
    /// When the user was locked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_at: Option<Timestamp>,
    /// Until when nothing may leave the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen_until: Option<Timestamp>,
    /// When the user registered.
    created_at: Timestamp,
    /// Sessions that have not ended.
    sessions: i64,
    /// API keys that have not ended.
    keys: i64,
}

impl From<&UserRow> for UserBody {
    fn from(row: &UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email.clone(),
            address: wire::address::format(row.account),
            role: row.role.clone(),
            verified_at: row.verified_at.map(Into::into),
            locked_at: row.locked_at.map(Into::into),
            frozen_until: row.frozen_until.map(Into::into),
            created_at: row.created_at.into(),
            sessions: row.sessions,
            keys: row.keys,
        }
    }
}

/// Which users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsersQuery {
    /// Whose e-mail address begins so.
    email: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Finds users, newest first.
#[utoipa::path(get, path = "/api/v1/admin/users", tag = "Admin", security(("bearer" = [])), params(UsersQuery),
    responses((status = 200, body = Page<UserBody>), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<UsersQuery>,
) -> Result<Response, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let after = cursor::read(query.cursor.as_deref())?;
    let email = query.email.unwrap_or_default().to_lowercase();
    if email.contains('\0') {
        return Err(Problem::value("email", "email_invalid", "must be text"));
    }
    let rows = admin::users(&app.db, &email, after, size + 1).await;
    let mut rows = rows.map_err(|error| unavailable(&error))?;
    let next_cursor = cursor::cut(&mut rows, size, |row| (row.created_at.micros(), row.id));
    let items = rows.iter().map(UserBody::from).collect();
    Ok(Out(Page { items, next_cursor }).into_response())
}

/// A user with its balances.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OneUser {
    /// The user.
    user: UserBody,
    /// The balances, as this server follows them.
    balances: Vec<Balance>,
    /// Open orders.
    open_orders: usize,
}

/// Shows a user.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The user's id")), responses(
    (status = 200, body = OneUser), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 404, body = ProblemBody)))]
pub(super) async fn one(
    State(app): State<App>,
    Segment(id): Segment,
) -> Result<Out<OneUser>, Problem> {
    let row = find(&app, user_id(&id)?).await?;
    let (balances, open_orders) = app.live.read(|state| {
        let of = |(asset, balance): (units::AssetId, units::Balance)| {
            let config = state.assets().get(usize::from(asset.get()))?;
            Some(wire::render::balance(config, balance))
        };
        let balances = state.balances(row.account).filter_map(of).collect();
        (balances, state.open_orders(row.account).count())
    });
    Ok(Out(OneUser { user: UserBody::from(&row), balances, open_orders }))
}

async fn find(app: &App, id: Uuid) -> Result<UserRow, Problem> {
    let row = admin::find(&app.db, id).await.map_err(|error| unavailable(&error))?;
    row.ok_or(Problem::new(Code::NotFound))
}

fn user_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::new(Code::NotFound))
}

/// Locks a user out: sessions and keys end on every server, and the account takes no orders, transfers or withdrawals.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/lock", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The user's id")), request_body = Option<Reason>, responses(
    (status = 200, body = UserBody),
    (status = 403, body = ProblemBody, description = "`role_missing`, `role_above`, `own_request`"),
    (status = 404, body = ProblemBody)))]
pub(super) async fn lock(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    Segment(id): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Out<UserBody>, Problem> {
    set_locked(&app, &context, staff, &id, body, true).await
}

/// Lets a user in again. Sessions and keys that have ended stay so.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/unlock", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The user's id")), request_body = Option<Reason>, responses(
    (status = 200, body = UserBody),
    (status = 403, body = ProblemBody, description = "`role_missing`, `role_above`, `own_request`"),
    (status = 404, body = ProblemBody)))]
pub(super) async fn unlock(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    Segment(id): Segment,
    OptionalJson(body): OptionalJson<Reason>,
) -> Result<Out<UserBody>, Problem> {
    set_locked(&app, &context, staff, &id, body, false).await
}

async fn set_locked(
    app: &App,
    context: &Context,
    staff: Staff,
    id: &str,
    body: Option<Reason>,
    locked: bool,
) -> Result<Out<UserBody>, Problem> {
    let (id, reason) = (user_id(id)?, Reason::text(body)?);
    if id == staff.user {
        return Err(Problem::new(Code::OwnRequest));
    }
    let action = if locked { "admin.lock" } else { "admin.unlock" };
    let entry = entry(staff, context, action, reason.as_deref());
    let change = match locked {
        // Where telling the core fails, the user is locked out already, and it stays due.
        true => roles::lock(&app.db, id, staff.role, entry).await,
        false => roles::unlock(&app.db, id, staff.role, entry).await,
    };
    check(change.map_err(|error| unavailable(&error))?)?;
    let row = find(app, id).await?;
    flags::tell(app, id, row.account, context.trace_id).await?;
    Ok(Out(UserBody::from(&row)))
}

fn check(change: Change) -> Result<(), Problem> {
    match change {
        Change::Done | Change::Already => Ok(()),
        Change::NoSuchUser => Err(Problem::new(Code::NotFound)),
        Change::LastAdmin => Err(Problem::new(Code::LastAdmin)),
        Change::Above => Err(Problem::new(Code::RoleAbove)),
    }
}

/// A role to give.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRole {
    /// `user`, `support`, `operator` or `admin`.
    #[schema(required, value_type = String, example = "operator")]
    role: Option<String>,
    /// At most 256 bytes.
    reason: Option<String>,
}

/// Gives a user a role. It counts from the next request on.
#[utoipa::path(put, path = "/api/v1/admin/users/{id}/role", tag = "Admin", security(("bearer" = [])),
    params(("id" = String, Path, description = "The user's id")), request_body = SetRole, responses(
    (status = 200, body = UserBody), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "`last_admin`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn set_role(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    Segment(id): Segment,
    Json { value: body, .. }: Json<SetRole>,
) -> Result<Out<UserBody>, Problem> {
    let id = user_id(&id)?;
    let role = body.role.ok_or_else(|| Problem::value("role", "required", "is required"))?;
    let role: Role = role.parse().map_err(|_| {
        Problem::value("role", "unknown_value", "must be one of user, support, operator, admin")
    })?;
    let reason = Reason::text(Some(Reason { reason: body.reason }))?;
    let entry = entry(staff, &context, "admin.role", reason.as_deref());
    let change = roles::grant(&app.db, id, role, entry).await;
    check(change.map_err(|error| unavailable(&error))?)?;
    Ok(Out(UserBody::from(&find(&app, id).await?)))
}

/// One of the exchange's own people.
#[derive(Serialize, ToSchema)]
pub(crate) struct StaffBody {
    /// The user.
    id: Uuid,
    /// The e-mail address.
    email: String,
    /// The role.
    role: &'static str,
    /// Whether the user is locked out.
    locked: bool,
}

/// Everybody with a role.
#[derive(Serialize, ToSchema)]
pub(crate) struct AllStaff {
    /// By e-mail address.
    items: Vec<StaffBody>,
}

/// Lists everybody with a role.
#[utoipa::path(get, path = "/api/v1/admin/roles", tag = "Admin", security(("bearer" = [])), responses(
    (status = 200, body = AllStaff), (status = 403, body = ProblemBody, description = "`role_missing`")))]
pub(super) async fn roles(State(app): State<App>) -> Result<Response, Problem> {
    let staff = roles::staff(&app.db).await.map_err(|error| unavailable(&error))?;
    let body = |staff: roles::Staff| StaffBody {
        id: staff.user,
        email: staff.email,
        role: staff.role.name(),
        locked: staff.locked,
    };
    let items = staff.into_iter().map(body).collect();
    Ok((StatusCode::OK, Out(AllStaff { items })).into_response())
}
