//! Staying logged in, logging out.

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
use store::sessions::{self, Refresh};
use utoipa::ToSchema;

use super::{audit, cookie, is_cross_site, origin, ways};
use crate::app::App;
use crate::body::OptionalJson;
use crate::edge::{Auth, Context};
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::{ACCESS_SECONDS, Principal};

/// How long a session may be refreshed.
pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const COOKIE: &str = "kx_refresh";
const COOKIE_PATH: &str = "/api/v1/auth";

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
    /// Stands for this device at later logins, where it was asked for in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
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
    let warning = |email: String| Letter::session_reused(&origin(&context)).seal(&app, &email);
    let refreshed = sessions::refresh(&app.db, &hash(&old), &hash(&token), warning)
        .await
        .map_err(|error| Problem::unavailable("cannot refresh", &error))?;
    match refreshed {
        Refresh::Good(good) => {
            let principal =
                Principal { user: good.user, account: good.account, session: good.session };
            Ok(answer(&app, &principal, token, None, in_body))
        }
        Refresh::Unknown => Err(Problem::new(Code::RefreshInvalid)),
        Refresh::Reused { session, user } => {
            app.revoked.insert(session);
            app.delivery.wake();
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

pub(super) fn refresh_in_body(word: Option<&str>) -> Result<bool, Problem> {
    match word {
        None | Some("cookie") => Ok(false),
        Some("body") => Ok(true),
        Some(_) => Err(Problem::value("refreshIn", "unknown_value", "must be one of cookie, body")),
    }
}

/// Returns the cookie's token; refuses it where another site's page makes the browser send it.
fn cookie_token(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let token = cookie(headers, COOKIE);
    if token.is_some() && is_cross_site(headers) {
        return Err(Problem::new(Code::OriginForbidden));
    }
    Ok(token)
}

pub(super) fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Hashes a token. It has 256 random bits, so a plain hash cannot be turned round.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Answers with a session's tokens, and with the device's after a login.
pub(super) fn answer(
    app: &App,
    principal: &Principal,
    token: String,
    device: Option<String>,
    in_body: bool,
) -> Response {
    let access_token = app.tokens.sign(principal, app.now_seconds());
    let mut body = SessionBody {
        access_token,
        token_type: "Bearer",
        expires_in: ACCESS_SECONDS,
        refresh_token: None,
        device_token: None,
    };
    if in_body {
        (body.refresh_token, body.device_token) = (Some(token), device);
        return Out(body).into_response();
    }
    let mut response = Out(body).into_response();
    set_cookie(app, response.headers_mut(), &token, SESSION_LIFETIME.as_secs());
    if let Some(device) = device {
        ways::set_cookie(app, response.headers_mut(), &device);
    }
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
