//! A new password: by the old one, or by a token that was mailed.
//!
//! Invariant: a new password ends every session, tells the owner, and freezes withdrawals.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::audit::Level;
use store::credentials::{self, NewPassword, NewReset};
use store::users::{self, User};
use utoipa::ToSchema;
use uuid::Uuid;

use super::register::{later, new_password};
use super::session::{SessionBody, hash, new_token, refresh_in_body};
use super::sessions::forget;
use super::ways::{self, Way, check_address, failed_from};
use super::{audit, email, login, origin};
use crate::app::App;
use crate::body::Json;
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

const RESET_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long one must wait for the next mail.
const RESET_PAUSE: Duration = Duration::from_secs(60);
/// Tokens of one user that may be good at once: whoever asks for another's makes none of the owner's useless.
const RESETS_MAX: i64 = 5;

/// A change of the password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The password as it is.
    #[schema(required, value_type = String)]
    password: Option<String>,
    /// The one that it shall be: 10 characters to 128 bytes.
    #[schema(required, value_type = String)]
    new_password: Option<String>,
    /// A code of the second factor, where that is on.
    code: Option<String>,
    /// As in `auth/login`.
    #[schema(example = "body")]
    refresh_in: Option<String>,
}

/// Changes the password. Every session ends, this one too: the answer has a new one.
#[utoipa::path(post, path = "/api/v1/auth/password/change", tag = "Auth", security(("bearer" = [])),
    request_body = ChangePassword, responses(
    (status = 200, body = SessionBody),
    (status = 401, body = ProblemBody, description = "`credentials_invalid`, `second_factor_required`, `second_factor_invalid`"),
    (status = 422, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(crate) async fn change(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    principal: Principal,
    Json { value: body, .. }: Json<ChangePassword>,
) -> Result<Response, Problem> {
    let in_body = refresh_in_body(body.refresh_in.as_deref())?;
    // Before anything is checked: whoever is asked for a better one shall not be counted as guessing.
    let password = new_password("newPassword", body.new_password, "")?;
    let code = body.code.as_deref();
    let mut user = super::confirm::confirm(&app, &context, &principal, body.password, code).await?;
    refuse_email(&password, &user)?;
    let new_hash = app.passwords.hash(password).await?;
    let mail =
        Letter::changed("the password was changed", &origin(&context)).seal(&app, &user.email);
    let new = NewPassword {
        user: user.id,
        hash: &new_hash,
        freeze: app.config.withdrawal_freeze,
        mail: &mail,
    };
    let ended = credentials::change_password(&app.db, &user.password_hash, &new)
        .await
        .map_err(|error| Problem::unavailable("cannot change a password", &error))?
        .ok_or(Problem::new(Code::CredentialsInvalid))?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "auth.password_changed", Some(user.id));
    user.password_hash = new_hash;
    login::begin_anew(&app, &context, &headers, &user, in_body).await
}

fn refuse_email(password: &str, user: &User) -> Result<(), Problem> {
    new_password("newPassword", Some(password.to_owned()), &user.email).map(|_| ())
}

/// Whose password is forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forgot {
    /// The e-mail address.
    #[schema(required, value_type = String, example = "ann@example.com")]
    email: Option<String>,
}

/// Mails a token that sets a new password, at most every minute. Answers the same, as fast, whether there is such a user or not.
#[utoipa::path(post, path = "/api/v1/auth/password/forgot", tag = "Auth", request_body = Forgot, responses(
    (status = 202, description = "If the address has an account, a token is on its way"),
    (status = 429, body = ProblemBody)))]
pub(crate) async fn forgot(
    State(app): State<App>,
    context: Context,
    Json { value: body, .. }: Json<Forgot>,
) -> Result<StatusCode, Problem> {
    let email = email::fold(body.email.as_deref())?;
    later(&app, "a reset token cannot be made", async move |app| {
        let user = users::by_email(&app.db, &email).await?;
        let user = user.map_or(Uuid::nil(), |user| user.id);
        let token = new_token();
        let url = app.config.public_url.as_deref();
        let mail = Letter::reset(&token, url, RESET_LIFETIME).seal(&app, &email);
        let new = NewReset {
            user,
            token_hash: &hash(&token),
            lifetime: RESET_LIFETIME,
            pause: RESET_PAUSE,
            tokens_max: RESETS_MAX,
            mail: &mail,
        };
        let made = credentials::begin_reset(&app.db, &new).await?;
        if made {
            audit(&app, &context, Level::Info, "auth.password_forgotten", Some(user));
        }
        Ok(made)
    })?;
    Ok(StatusCode::ACCEPTED)
}

/// A new password by a token.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Reset {
    /// The token of the mail.
    #[schema(required, value_type = String)]
    token: Option<String>,
    /// The new password: 10 characters to 128 bytes.
    #[schema(required, value_type = String)]
    new_password: Option<String>,
}

/// That a new password is set.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResetBody {
    /// How many sessions have ended.
    sessions_ended: usize,
    /// Stands for this device at later logins; it is in a cookie too.
    device_token: String,
}

/// Sets a new password by a token, which works once. Every session ends. The second factor stays as it is.
#[utoipa::path(post, path = "/api/v1/auth/password/reset", tag = "Auth", request_body = Reset, responses(
    (status = 200, body = ResetBody),
    (status = 401, body = ProblemBody, description = "`reset_invalid`"),
    (status = 422, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(crate) async fn reset(
    State(app): State<App>,
    context: Context,
    Json { value: body, .. }: Json<Reset>,
) -> Result<Response, Problem> {
    let token = body.token.ok_or_else(|| Problem::value("token", "required", "is required"))?;
    let password = new_password("newPassword", body.new_password, "")?;
    check_address(&app, &context)?;
    let token_hash = hash(&token);
    let unavailable = |error: StoreError| Problem::unavailable("cannot reset a password", &error);
    let owner = credentials::reset_owner(&app.db, &token_hash).await.map_err(unavailable)?;
    let user = match owner {
        Some(owner) => users::by_id(&app.db, owner).await.map_err(unavailable)?,
        None => None,
    };
    let invalid = || {
        failed_from(&app, &context);
        Problem::new(Code::ResetInvalid)
    };
    let user = user.ok_or_else(invalid)?;
    refuse_email(&password, &user)?;
    let new_hash = app.passwords.hash(password).await?;
    let mail = Letter::changed("a new password was set by mail", &origin(&context));
    let mail = mail.seal(&app, &user.email);
    let new = NewPassword {
        user: user.id,
        hash: &new_hash,
        freeze: app.config.withdrawal_freeze,
        mail: &mail,
    };
    let ended = credentials::reset_password(&app.db, &token_hash, &new)
        .await
        .map_err(unavailable)?
        .ok_or_else(invalid)?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "auth.password_reset", Some(user.id));
    // Whoever reads the mail may log in at once, whatever others have tried.
    let device_token = Way::Unknown.device_token(&app, user.id);
    let body = ResetBody { sessions_ended: ended.len(), device_token: device_token.clone() };
    let mut response = Out(body).into_response();
    ways::set_cookie(&app, response.headers_mut(), &device_token);
    Ok(response)
}
