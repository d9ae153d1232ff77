//! Logging in, staying logged in, logging out.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::StoreError;
use store::audit::Level;
use store::sessions::{self, NewSession, Refresh};
use store::users;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{account, audit, email, is_cross_site, password};
use crate::app::App;
use crate::body::{Json, OptionalJson};
use crate::edge::{Auth, Context};
use crate::limits::{Allowance, Class};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::{ACCESS_SECONDS, Principal};

/// How long a session may be refreshed.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The time over which failed logins are counted.
const FAILURES_PERIOD: Duration = Duration::from_secs(15 * 60);
const COOKIE: &str = "kx_refresh";
const COOKIE_PATH: &str = "/api/v1/auth";
const USER_AGENT_BYTES_MAX: usize = 200;

/// What it takes to log in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Login {
    /// The e-mail address.
    #[schema(required, value_type = String, example = "ann@example.com")]
    email: Option<String>,
    /// The password.
    #[schema(required, value_type = String, example = "correct horse battery")]
    password: Option<String>,
    /// `body` for programs, which then keep the refresh token themselves; `cookie` for browsers, and unless given.
    #[schema(example = "body")]
    refresh_in: Option<String>,
}

/// Tokens of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionBody {
    /// Goes into `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds that the access token is good.
    expires_in: u64,
    /// Good for one refresh, where it was asked for in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// Logs in. The refresh token is in an HttpOnly cookie unless `refreshIn` is `body`.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "Auth", request_body = Login, responses(
    (status = 200, body = SessionBody),
    (status = 401, body = ProblemBody, description = "`credentials_invalid`"),
    (status = 403, body = ProblemBody, description = "`not_verified`"),
    (status = 429, body = ProblemBody, description = "`too_many_attempts`")))]
pub(crate) async fn login(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    Json { value: body, .. }: Json<Login>,
) -> Result<Response, Problem> {
    let email = email::fold(body.email.as_deref())?;
    let password =
        body.password.ok_or_else(|| Problem::value("password", "required", "is required"))?;
    let in_body = refresh_in_body(body.refresh_in.as_deref())?;
    check_failures(&app, &email)?;
    let unavailable = |error: StoreError| Problem::unavailable("cannot log in", &error);
    let user = users::by_email(&app.db, &email).await.map_err(unavailable)?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let fits = password.len() <= password::BYTES_MAX;
    // A password that is too long cannot be right; it costs the same as one that could.
    let password = if fits { password } else { String::new() };
    let right = app.passwords.check(password, stored).await? && fits;
    let user = user.filter(|user| right && !user.locked);
    let Some(user) = user else {
        count_failure(&app, &email);
        audit(&app, &context, Level::Warn, "auth.login_failed", None);
        return Err(Problem::new(Code::CredentialsInvalid));
    };
    if !user.verified {
        return Err(Problem::new(Code::NotVerified));
    }
    app.limiter.forget(app.limiter.email(&email), Class::Failures);
    let (session, token) = (Uuid::now_v7(), new_token());
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    let new = NewSession {
        id: session,
        user: user.id,
        token_hash: &hash(&token),
        lifetime: SESSION_LIFETIME,
        user_agent: &agent[..agent.len().min(USER_AGENT_BYTES_MAX)],
        address: context.address,
    };
    sessions::begin(&app.db, &new).await.map_err(unavailable)?;
    // Verification may have been answered while the sequencer was away.
    account::open(&app, user.account, context.trace_id).await;
    audit(&app, &context, Level::Info, "auth.login", Some(user.id));
    let principal = Principal { user: user.id, account: user.account, session };
    Ok(answer(&app, &principal, token, in_body))
}

/// A refresh token, where it is not in the cookie.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RefreshToken {
    /// The refresh token.
    refresh_token: Option<String>,
}

/// Exchanges a refresh token for a new one and an access token. A refresh token works once: its second use ends the
/// session.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "Auth", request_body = Option<RefreshToken>, responses(
    (status = 200, body = SessionBody),
    (status = 401, body = ProblemBody, description = "`refresh_invalid`"),
    (status = 403, body = ProblemBody, description = "`origin_forbidden`")))]
pub(crate) async fn refresh(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    OptionalJson(body): OptionalJson<RefreshToken>,
) -> Result<Response, Problem> {
    let (old, in_body) = match body.and_then(|body| body.refresh_token) {
        Some(token) => (token, true),
        None => (cookie_token(&headers)?.ok_or(Problem::new(Code::RefreshInvalid))?, false),
    };
    let token = new_token();
    let refreshed = sessions::refresh(&app.db, &hash(&old), &hash(&token))
        .await
        .map_err(|error| Problem::unavailable("cannot refresh", &error))?;
    match refreshed {
        Refresh::Good(good) => {
            let principal =
                Principal { user: good.user, account: good.account, session: good.session };
            Ok(answer(&app, &principal, token, in_body))
        }
        Refresh::Unknown => Err(Problem::new(Code::RefreshInvalid)),
        Refresh::Reused { session, user } => {
            app.revoked.insert(session);
            audit(&app, &context, Level::Warn, "auth.refresh_reused", Some(user));
            Err(Problem::new(Code::RefreshInvalid))
        }
    }
}

/// Ends the session of the access token, of the refresh token, or of the cookie; whichever are given.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "Auth", request_body = Option<RefreshToken>, responses(
    (status = 204, description = "The session is over, on every server"),
    (status = 401, body = ProblemBody, description = "No token was given, or none that is known")))]
pub(crate) async fn logout(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    OptionalJson(body): OptionalJson<RefreshToken>,
) -> Result<Response, Problem> {
    let unavailable = |error: StoreError| Problem::unavailable("cannot log out", &error);
    let mut ended = Vec::new();
    if let Auth::User(principal) = context.caller {
        ended.push((principal.session, principal.user));
    }
    let token = match body.and_then(|body| body.refresh_token) {
        Some(token) => Some(token),
        None => cookie_token(&headers)?,
    };
    if let Some(token) = token {
        let found = sessions::of_token(&app.db, &hash(&token)).await.map_err(unavailable)?;
        ended.extend(found);
    }
    if ended.is_empty() {
        return Err(Problem::new(Code::Unauthenticated));
    }
    for (session, user) in ended {
        sessions::revoke(&app.db, user, session, "logout").await.map_err(unavailable)?;
        // The notice reaches every server; this one need not wait for it.
        app.revoked.insert(session);
        audit(&app, &context, Level::Info, "auth.logout", Some(user));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, response.headers_mut(), "", 0);
    Ok(response)
}

fn refresh_in_body(word: Option<&str>) -> Result<bool, Problem> {
    match word {
        None | Some("cookie") => Ok(false),
        Some("body") => Ok(true),
        Some(_) => Err(Problem::value("refreshIn", "unknown_value", "must be one of cookie, body")),
    }
}

/// Returns the cookie's token; refuses it where another site's page makes the browser send it.
fn cookie_token(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).map(str::trim);
    let token = pairs.find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='));
    if token.is_some() && is_cross_site(headers) {
        return Err(Problem::new(Code::OriginForbidden));
    }
    Ok(token.map(str::to_owned))
}

fn failures(app: &App) -> Option<Allowance> {
    let count = app.config.rate_limits.account_failures_max;
    (count > 0).then_some(Allowance { count, period: FAILURES_PERIOD })
}

fn check_failures(app: &App, email: &str) -> Result<(), Problem> {
    let Some(allowance) = failures(app) else { return Ok(()) };
    let left = app.limiter.look(app.limiter.email(email), Class::Failures, allowance);
    if left.allowed {
        Ok(())
    } else {
        Err(Problem::new(Code::TooManyAttempts).retry_after(left.reset_seconds))
    }
}

fn count_failure(app: &App, email: &str) {
    if let Some(allowance) = failures(app) {
        let _ = app.limiter.take(app.limiter.email(email), Class::Failures, allowance);
    }
}

fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Hashes a refresh token. It has 256 random bits, so a plain hash cannot be turned round.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn answer(app: &App, principal: &Principal, token: String, in_body: bool) -> Response {
    let access_token = app.tokens.sign(principal, app.now_seconds());
    let mut body = SessionBody {
        access_token,
        token_type: "Bearer",
        expires_in: ACCESS_SECONDS,
        refresh_token: None,
    };
    if in_body {
        body.refresh_token = Some(token);
        return Out(body).into_response();
    }
    let mut response = Out(body).into_response();
    set_cookie(app, response.headers_mut(), &token, SESSION_LIFETIME.as_secs());
    response
}

fn set_cookie(app: &App, headers: &mut HeaderMap, token: &str, seconds: u64) {
    let secure = if app.config.tls { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={token}; Path={COOKIE_PATH}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    if let Ok(value) = HeaderValue::try_from(cookie) {
        headers.insert(header::SET_COOKIE, value);
    }
}
