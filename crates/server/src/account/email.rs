//! Another e-mail address: confirmed by a code that goes to it, told to the one before.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::audit::Level;
use store::credentials::{self, EmailCode, NewEmail};
use utoipa::ToSchema;

use super::profile;
use crate::app::App;
use crate::auth::confirm::confirm as confirm_identity;
use crate::auth::register::{CODE_ATTEMPTS, CODE_LIFETIME, code_hash, new_code};
use crate::auth::sessions::forget;
use crate::auth::{audit, email as address, origin};
use crate::body::Json;
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// Another e-mail address.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangeEmail {
    /// The new address.
    #[schema(required, value_type = String, example = "ann@example.org")]
    new_email: Option<String>,
    /// The password.
    #[schema(required, value_type = String)]
    password: Option<String>,
    /// A code of the second factor, where that is on.
    code: Option<String>,
}

/// Mails a code to the new address. Nothing changes until `account/email/confirm`. The answer is the same where the address has
/// an account.
#[utoipa::path(post, path = "/api/v1/account/email", tag = "Account", security(("bearer" = [])),
    request_body = ChangeEmail, responses((status = 202, description = "A code is on its way"),
    (status = 401, body = ProblemBody), (status = 422, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(super) async fn change(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<ChangeEmail>,
) -> Result<StatusCode, Problem> {
    let new_email = body.new_email.as_deref();
    let email = address::fold_field("newEmail", new_email)?;
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    let code = new_code();
    let mail = Letter::new_email(&code, CODE_LIFETIME).seal(&app, &email);
    let new = NewEmail {
        user: user.id,
        email: &email,
        code_hash: &code_hash(&app, user.id, &code),
        lifetime: CODE_LIFETIME,
        attempts: CODE_ATTEMPTS,
        mail: &mail,
    };
    credentials::begin_email_change(&app.db, &new)
        .await
        .map_err(|error| Problem::unavailable("cannot change an address", &error))?;
    app.delivery.wake();
    audit(&app, &context, Level::Info, "account.email_change_asked", Some(user.id));
    Ok(StatusCode::ACCEPTED)
}

/// A code for a new address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmEmail {
    /// The six digits.
    #[schema(required, value_type = String, example = "123456")]
    code: Option<String>,
}

/// The new address.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmailChanged {
    /// The address.
    email: String,
    /// How many other sessions have ended.
    sessions_ended: usize,
}

/// Changes the address with the code that went to it. Every other session ends, and the old address is told.
#[utoipa::path(post, path = "/api/v1/account/email/confirm", tag = "Account", security(("bearer" = [])),
    request_body = ConfirmEmail, responses((status = 200, body = EmailChanged), (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`email_taken`: somebody has registered with it meanwhile"),
    (status = 422, body = ProblemBody, description = "`code_invalid`: wrong, used, expired, or tried five times")))]
pub(super) async fn confirm(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<ConfirmEmail>,
) -> Result<Out<EmailChanged>, Problem> {
    let code = body.code.ok_or_else(|| Problem::value("code", "required", "is required"))?;
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::value("code", "code_malformed", "must be six digits"));
    }
    let user = profile::find(&app, &principal).await?;
    let mail = Letter::changed("the e-mail address was changed", &origin(&context));
    let mail = mail.seal(&app, &user.email);
    let tried = EmailCode {
        user: user.id,
        session: principal.session,
        code_hash: &code_hash(&app, user.id, &code),
        freeze: app.config.withdrawal_freeze,
        mail: &mail,
    };
    let changed = match credentials::confirm_email_change(&app.db, &tried).await {
        Err(StoreError::Unique { .. }) => return Err(Problem::new(Code::EmailTaken)),
        other => other.map_err(|error| Problem::unavailable("cannot change an address", &error))?,
    };
    let (email, ended) = changed.ok_or(Problem::new(Code::CodeInvalid))?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "account.email_changed", Some(user.id));
    Ok(Out(EmailChanged { email, sessions_ended: ended.len() }))
}
