//! Registering and verifying the e-mail address.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rand::Rng;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::audit::Level;
use store::users::{self, NewCode, NewUser, Verified};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{account, audit, email, password};
use crate::app::App;
use crate::body::Json;
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody, chain};

/// How long a verification code is good.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How often a code may be tried: five guesses of a million.
pub(crate) const CODE_ATTEMPTS: i16 = 5;
/// How long one must wait for the next code.
const CODE_PAUSE: Duration = Duration::from_secs(30);

/// What it takes to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// The e-mail address; upper and lower case are one.
    #[schema(required, value_type = String, example = "ann@example.com")]
    email: Option<String>,
    /// 10 characters to 128 bytes.
    #[schema(required, value_type = String, example = "correct horse battery")]
    password: Option<String>,
}

/// That somebody is registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registered {
    /// The user.
    user_id: Uuid,
    /// The e-mail address, folded.
    email: String,
    /// What to do next.
    next: &'static str,
}

/// Registers a user and sends a verification code.
#[utoipa::path(post, path = "/api/v1/auth/register", tag = "Auth", request_body = Register, responses(
    (status = 201, body = Registered),
    (status = 409, body = ProblemBody, description = "`email_taken`"),
    (status = 422, body = ProblemBody, description = "`value_invalid`")))]
pub(crate) async fn register(
    State(app): State<App>,
    context: Context,
    Json { value: body, .. }: Json<Register>,
) -> Result<Response, Problem> {
    let email = email::fold(body.email.as_deref())?;
    let password = new_password("password", body.password, &email)?;
    let password_hash = app.passwords.hash(password).await?;
    let (id, code) = (Uuid::now_v7(), new_code());
    let mail = Letter::verification(&code, CODE_LIFETIME).seal(&app, &email);
    let new = NewUser {
        id,
        email: &email,
        password_hash: &password_hash,
        reference_salt: &rand::random::<[u8; 16]>(),
        code_hash: &code_hash(&app, id, &code),
        code_lifetime: CODE_LIFETIME,
        code_attempts: CODE_ATTEMPTS,
        mail: &mail,
    };
    match users::register(&app.db, &new).await {
        Ok(_) => {}
        Err(StoreError::Unique { .. }) => return Err(Problem::new(Code::EmailTaken)),
        Err(error) => return Err(Problem::unavailable("cannot register", &error)),
    }
    app.delivery.wake();
    audit(&app, &context, Level::Info, "auth.register", Some(id));
    let next = "A 6-digit code was sent to this address: POST it to /api/v1/auth/verify. In development, mail is in the \
                inbox at port 1080.";
    Ok((StatusCode::CREATED, Out(Registered { user_id: id, email, next })).into_response())
}

/// A verification code and whose it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// The e-mail address.
    #[schema(required, value_type = String, example = "ann@example.com")]
    email: Option<String>,
    /// The six digits.
    #[schema(required, value_type = String, example = "123456")]
    code: Option<String>,
}

/// That an address is verified.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifiedBody {
    /// Always true.
    verified: bool,
    /// Whether the account is open; if not, the next login opens it.
    account_open: bool,
    /// The wallet's address, for transfers from other users.
    address: String,
}

/// Verifies the e-mail address and opens the account.
#[utoipa::path(post, path = "/api/v1/auth/verify", tag = "Auth", request_body = Verify, responses(
    (status = 200, body = VerifiedBody),
    (status = 422, body = ProblemBody, description = "`code_invalid`: wrong, used, expired, or tried five times")))]
pub(crate) async fn verify(
    State(app): State<App>,
    context: Context,
    Json { value: body, .. }: Json<Verify>,
) -> Result<Response, Problem> {
    let email = email::fold(body.email.as_deref())?;
    let code = body.code.ok_or_else(|| Problem::value("code", "required", "is required"))?;
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::value("code", "code_malformed", "must be six digits"));
    }
    let unavailable = |error: StoreError| Problem::unavailable("cannot verify", &error);
    let user = users::by_email(&app.db, &email).await.map_err(unavailable)?;
    // An address without an account is answered like one with a wrong code, after the same statements.
    let id = user.as_ref().map_or(Uuid::nil(), |user| user.id);
    let verified =
        users::verify(&app.db, id, &code_hash(&app, id, &code)).await.map_err(unavailable)?;
    let user = user.filter(|_| verified == Verified::Now);
    let Some(user) = user else {
        return Err(Problem::new(Code::CodeInvalid));
    };
    audit(&app, &context, Level::Info, "auth.verify", Some(user.id));
    let account_open = account::open(&app, user.account, context.trace_id).await;
    let address = wire::address::format(user.account);
    Ok(Out(VerifiedBody { verified: true, account_open, address }).into_response())
}

/// Whose code is to be sent again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResendCode {
    /// The e-mail address.
    #[schema(required, value_type = String, example = "ann@example.com")]
    email: Option<String>,
}

/// Sends a new verification code, at most every 30 seconds. Answers the same whether there is such a user or not.
#[utoipa::path(post, path = "/api/v1/auth/resend-code", tag = "Auth", request_body = ResendCode, responses(
    (status = 202, description = "If the address waits for a code, a new one is on its way")))]
pub(crate) async fn resend_code(
    State(app): State<App>,
    Json { value: body, .. }: Json<ResendCode>,
) -> Result<StatusCode, Problem> {
    let email = email::fold(body.email.as_deref())?;
    // Whether there is such a user is found out after the answer, so that its time tells nothing.
    later(&app, "a code cannot be sent again", async move |app| {
        let user = users::by_email(&app.db, &email).await?;
        let id = user.as_ref().map_or(Uuid::nil(), |user| user.id);
        let code = new_code();
        let mail = Letter::verification(&code, CODE_LIFETIME).seal(&app, &email);
        let new = NewCode {
            hash: &code_hash(&app, id, &code),
            lifetime: CODE_LIFETIME,
            attempts: CODE_ATTEMPTS,
            pause: CODE_PAUSE,
            mail: &mail,
        };
        users::renew_code(&app.db, id, &new).await
    })?;
    Ok(StatusCode::ACCEPTED)
}

/// Does something after the answer, and has its mail sent if it says so.
pub(super) fn later<F>(
    app: &App,
    failure: &'static str,
    work: impl FnOnce(App) -> F,
) -> Result<(), Problem>
where
    F: Future<Output = Result<bool, StoreError>> + Send + 'static,
{
    let Ok(place) = Arc::clone(&app.later).try_acquire_owned() else {
        return Err(Problem::new(Code::TooManyRequests));
    };
    let (app, work) = (app.clone(), work(app.clone()));
    tokio::spawn(async move {
        match work.await {
            Ok(true) => app.delivery.wake(),
            Ok(false) => {}
            Err(error) => tracing::error!(error = %chain(&error), "{failure}"),
        }
        drop(place);
    });
    Ok(())
}

/// Reads a password that is to be set.
pub(super) fn new_password(
    field: &str,
    password: Option<String>,
    email: &str,
) -> Result<String, Problem> {
    let password = password.ok_or_else(|| Problem::value(field, "required", "is required"))?;
    if password.chars().count() < password::CHARACTERS_MIN || password.len() > password::BYTES_MAX {
        let rule = "must have at least 10 characters and at most 128 bytes";
        return Err(Problem::value(field, "password_length", rule));
    }
    if password.contains('\0') || password.to_lowercase() == email {
        let rule = "must not be the e-mail address, nor contain a NUL";
        return Err(Problem::value(field, "password_weak", rule));
    }
    Ok(password)
}

pub(crate) fn new_code() -> String {
    format!("{:06}", rand::rng().random_range(0..1_000_000))
}

/// Hashes a code with this server's key: without it, a stolen table tells no code, few as there are.
pub(crate) fn code_hash(app: &App, user: Uuid, code: &str) -> [u8; 32] {
    app.tokens.keyed_hash("verification code", &[user.as_bytes(), code.as_bytes()])
}
