//! Who may call what: the one table that says for every route which credentials it takes.
//!
//! Invariant: a route that is not in the table takes no key and no role; the edge asks here before any handler runs, so a
//! handler cannot forget to. A test compares the table with the API's description.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;
use store::roles::{self, Role};
use uuid::Uuid;

use crate::app::App;
use crate::edge::{Auth, Context};
use crate::keys::Scopes;
use crate::problem::{Code, Problem};
use crate::token::BadToken;

/// What a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody's requests.
    Public,
    /// A session's, or a key's with this scope.
    Scope(Scopes),
    /// A session's alone: keys, passwords and sessions are not managed by keys.
    Session,
    /// A session's whose user has at least this role; from operator on with two-factor authentication.
    Staff(Role),
}

use Access::{Public, Scope, Session, Staff as By};

const READ: Access = Scope(Scopes::READ);
const TRADE: Access = Scope(Scopes::TRADE);
const WITHDRAW: Access = Scope(Scopes::WITHDRAW);

/// Every route.
pub const TABLE: &[(&str, &str, Access)] = &[
    // What machines and people look at.
    ("GET", "/", Public),
    ("GET", "/docs", Public),
    ("GET", "/docs/style.css", Public),
    ("GET", "/docs/script.js", Public),
    ("GET", "/api/v1/openapi.json", Public),
    ("GET", "/status", Public),
    ("GET", "/status/style.css", Public),
    ("GET", "/health", Public),
    ("GET", "/ready", Public),
    ("GET", "/metrics", Public),
    ("GET", "/api/health/trading", Public),
    // Asks for credentials itself, message by message.
    ("GET", "/ws", Public),
    // Markets.
    ("GET", "/api/v1/markets", Public),
    ("GET", "/api/v1/markets/{symbol}", Public),
    ("GET", "/api/v1/markets/{symbol}/book", Public),
    ("GET", "/api/v1/markets/{symbol}/candles", Public),
    ("GET", "/api/v1/markets/{symbol}/ticker", Public),
    ("GET", "/api/v1/markets/{symbol}/trades", Public),
    ("GET", "/api/v1/public/latency", Public),
    ("GET", "/api/v1/public/prices", Public),
    ("GET", "/api/v1/public/status", Public),
    ("GET", "/api/v1/public/trace/{traceId}", Public),
    ("GET", "/api/v1/public/trades", Public),
    // Accounts.
    ("POST", "/api/v1/auth/login", Public),
    ("POST", "/api/v1/auth/login/second-step", Public),
    ("POST", "/api/v1/auth/logout", Public),
    ("POST", "/api/v1/auth/password/forgot", Public),
    ("POST", "/api/v1/auth/password/reset", Public),
    ("POST", "/api/v1/auth/refresh", Public),
    ("POST", "/api/v1/auth/register", Public),
    ("POST", "/api/v1/auth/resend-code", Public),
    ("POST", "/api/v1/auth/verify", Public),
    ("GET", "/api/v1/auth/me", READ),
    ("POST", "/api/v1/auth/password/change", Session),
    ("GET", "/api/v1/auth/sessions", Session),
    ("DELETE", "/api/v1/auth/sessions", Session),
    ("DELETE", "/api/v1/auth/sessions/{id}", Session),
    ("GET", "/api/v1/auth/2fa", Session),
    ("POST", "/api/v1/auth/2fa/enrol", Session),
    ("POST", "/api/v1/auth/2fa/confirm", Session),
    ("POST", "/api/v1/auth/2fa/disable", Session),
    ("POST", "/api/v1/auth/2fa/backup-codes", Session),
    ("GET", "/api/v1/account/profile", Session),
    ("PATCH", "/api/v1/account/profile", Session),
    ("POST", "/api/v1/account/close", Session),
    ("GET", "/api/v1/account/export", Session),
    ("POST", "/api/v1/account/email", Session),
    ("POST", "/api/v1/account/email/confirm", Session),
    ("GET", "/api/v1/auth/api-keys", Session),
    ("POST", "/api/v1/auth/api-keys", Session),
    ("DELETE", "/api/v1/auth/api-keys/{id}", Session),
    // Trading.
    ("GET", "/api/v1/orders", READ),
    ("GET", "/api/v1/orders/{id}", READ),
    ("GET", "/api/v1/fills", READ),
    ("POST", "/api/v1/orders", TRADE),
    ("DELETE", "/api/v1/orders", TRADE),
    ("PATCH", "/api/v1/orders/{id}", TRADE),
    ("DELETE", "/api/v1/orders/{id}", TRADE),
    ("POST", "/api/v1/convert/quote", READ),
    ("POST", "/api/v1/convert", TRADE),
    // Money.
    ("GET", "/api/v1/wallet/balances", READ),
    ("GET", "/api/v1/wallet/transactions", READ),
    ("GET", "/api/v1/wallet/withdraw", READ),
    ("GET", "/api/v1/wallet/withdraw/{id}", READ),
    ("GET", "/api/v1/wallet/addresses", READ),
    // Play money: nothing leaves.
    ("POST", "/api/v1/wallet/deposit", TRADE),
    ("POST", "/api/v1/wallet/transfer", WITHDRAW),
    ("POST", "/api/v1/wallet/withdraw", WITHDRAW),
    ("DELETE", "/api/v1/wallet/withdraw/{id}", WITHDRAW),
    ("POST", "/api/v1/wallet/addresses", Session),
    ("PUT", "/api/v1/wallet/addresses", Session),
    ("DELETE", "/api/v1/wallet/addresses/{id}", Session),
    // The exchange's own people.
    ("GET", "/api/v1/admin/status", By(Role::Support)),
    ("GET", "/api/v1/admin/users", By(Role::Support)),
    ("GET", "/api/v1/admin/users/{id}", By(Role::Support)),
    ("POST", "/api/v1/admin/users/{id}/lock", By(Role::Operator)),
    ("POST", "/api/v1/admin/users/{id}/unlock", By(Role::Operator)),
    ("PUT", "/api/v1/admin/users/{id}/role", By(Role::Admin)),
    ("GET", "/api/v1/admin/roles", By(Role::Support)),
    ("GET", "/api/v1/admin/withdrawals", By(Role::Support)),
    ("POST", "/api/v1/admin/withdrawals/{id}/approve", By(Role::Operator)),
    ("POST", "/api/v1/admin/withdrawals/{id}/reject", By(Role::Operator)),
    ("POST", "/api/v1/admin/markets/{symbol}/halt", By(Role::Operator)),
    ("POST", "/api/v1/admin/markets/{symbol}/resume", By(Role::Operator)),
    ("GET", "/api/v1/admin/anomalies", By(Role::Support)),
    ("GET", "/api/v1/admin/traces/{traceId}/explanation", By(Role::Support)),
    ("GET", "/api/v1/admin/audit", By(Role::Support)),
    ("GET", "/api/v1/admin/audit.csv", By(Role::Support)),
];

static BY_ROUTE: LazyLock<HashMap<(&str, &str), Access>> = LazyLock::new(|| {
    TABLE.iter().map(|(method, path, access)| ((*method, *path), *access)).collect()
});

/// Returns what a route takes; `None` for one that is not in the table.
#[must_use]
pub fn of(method: &str, route: &str) -> Option<Access> {
    // What may be read may be asked for without its body.
    let method = if method == "HEAD" { "GET" } else { method };
    BY_ROUTE.get(&(method, route)).copied()
}

/// One of the exchange's own people, whom the edge has let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staff {
    /// Who.
    pub(crate) user: Uuid,
    /// The role.
    pub(crate) role: Role,
}

impl FromRequestParts<App> for Staff {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get().copied().ok_or_else(|| Problem::new(Code::Defect))
    }
}

/// Says why a request has no user.
pub(crate) fn nobody(caller: Auth) -> Problem {
    match caller {
        Auth::Refused(BadToken::Expired) => Problem::new(Code::TokenExpired),
        _ => Problem::new(Code::Unauthenticated),
    }
}

/// Checks a request against the table. Whether there is a user at all is checked by the handler that asks for one.
pub(crate) async fn check(
    app: &App,
    context: &Context,
    method: &Method,
    route: &str,
) -> Result<Option<Staff>, Problem> {
    match (of(method.as_str(), route), context.caller) {
        (Some(By(least)), Auth::User(user)) => staff(app, user.user, least).await.map(Some),
        (Some(By(_)), Auth::Key(_)) | (Some(Session), Auth::Key(_)) => {
            Err(Problem::new(Code::SessionNeeded))
        }
        (Some(By(_)), caller) => Err(nobody(caller)),
        (Some(Scope(scope)), Auth::Key(key)) if !key.scopes.contains(scope) => {
            let needed: Vec<_> = scope.names().collect();
            let detail = format!("This needs a key with the scope {}.", needed.join(", "));
            Err(Problem::new(Code::ScopeMissing).detail(detail))
        }
        // A path or method that there is not is answered so by the router; one that the table forgot is refused.
        (None, Auth::Key(_)) if route != "none" && is_unknown(route) => {
            Err(Problem::new(Code::SessionNeeded))
        }
        _ => Ok(None),
    }
}

/// Tells whether a path is none of the table's, whatever the method; where it is one, the method is what is wrong.
fn is_unknown(route: &str) -> bool {
    !TABLE.iter().any(|(_, path, _)| *path == route)
}

async fn staff(app: &App, user: Uuid, least: Role) -> Result<Staff, Problem> {
    let unavailable = |error| Problem::unavailable("cannot read a role", &error);
    // Asked each time: a role that was taken away is away at once.
    let role = roles::role_of(&app.db, user).await.map_err(unavailable)?;
    if role < least {
        return Err(Problem::new(Code::RoleMissing));
    }
    let needs_second = role >= Role::Operator;
    if needs_second && !roles::has_two_factor(&app.db, user).await.map_err(unavailable)? {
        return Err(Problem::new(Code::TwoFactorNeeded));
    }
    Ok(Staff { user, role })
}
