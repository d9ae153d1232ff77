//! Logging in: the password, then the second factor where it is on.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::audit::Level;
use store::sessions::{self, NewSession};
use store::two_factor::{self, StepTry};
use store::users::{self, User};
use utoipa::ToSchema;
use uuid::Uuid;

use super::session::{self, SessionBody, refresh_in_body};
use super::ways::{Attempt, Way, check_address};
use super::{account, audit, email, password, second_factor};
use crate::app::App;
use crate::body::Json;
use crate::edge::Context;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::{Kind, Pass, Principal};

/// Tries of one login at its second step.
const STEP_TRIES: i16 = 5;
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
    /// The `deviceToken` of an earlier login, where it is not in its cookie. Failures of others do not hold this device up.
    device_token: Option<String>,
}

/// That the password was right, and a code is needed too.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecondStep {
    /// Goes to `auth/login/second-step`, with a code.
    second_step_token: String,
    /// Seconds that it is good.
    expires_in: u64,
}

/// Logs in. The refresh token is in an HttpOnly cookie unless `refreshIn` is `body`. With the second factor on, the answer is
/// 202 and `auth/login/second-step` is next.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "Auth", request_body = Login, responses(
    (status = 200, body = SessionBody),
    (status = 202, body = SecondStep, description = "A code of the second factor is needed too"),
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
    let unavailable = |error: StoreError| Problem::unavailable("cannot log in", &error);
    let place = app.passwords.place()?;
    let (user, known_address) =
        users::for_login(&app.db, &email, context.address).await.map_err(unavailable)?;
    let device = body.device_token.as_deref();
    let way = Way::find(&app, &headers, device, user.as_ref(), known_address);
    let attempt = Attempt::begin(&app, &context, &email, way)?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let fits = password.len() <= password::BYTES_MAX;
    // A password that is too long cannot be right; it costs the same as one that could.
    let password = if fits { password } else { String::new() };
    let right = app.passwords.check(place, password.clone(), stored).await? && fits;
    let id = user.as_ref().map(|user| user.id);
    let Some(mut user) = user.filter(|user| right && !user.locked) else {
        attempt.failed(&app);
        audit(&app, &context, Level::Warn, "auth.login_failed", id);
        return Err(Problem::new(Code::CredentialsInvalid));
    };
    attempt.right(&app);
    if !user.verified {
        return Err(Problem::new(Code::NotVerified));
    }
    rehash(&app, &mut user, password).await?;
    if user.two_factor {
        return second_step_answer(&app, &user).await;
    }
    begin(&app, &context, &headers, &user, way, in_body).await
}

/// Hashes a password anew that was right, where hashing costs more, or less, than when it was set.
async fn rehash(app: &App, user: &mut User, password: String) -> Result<(), Problem> {
    if !app.passwords.is_outdated(&user.password_hash) {
        return Ok(());
    }
    // Where too many wait for the hasher, the next login does it.
    let Ok(hash) = app.passwords.hash(password).await else { return Ok(()) };
    let changed = users::rehash(&app.db, user.id, &user.password_hash, &hash).await;
    if changed.map_err(|error| Problem::unavailable("cannot hash anew", &error))? {
        user.password_hash = hash;
    }
    Ok(())
}

async fn second_step_answer(app: &App, user: &User) -> Result<Response, Problem> {
    let step = Uuid::new_v4();
    let lifetime = Duration::from_secs(Kind::SecondStep.seconds());
    let begun =
        two_factor::begin_step(&app.db, step, user.id, &user.password_hash, lifetime, STEP_TRIES)
            .await
            .map_err(|error| Problem::unavailable("cannot log in", &error))?;
    if !begun {
        return Err(Problem::new(Code::CredentialsInvalid));
    }
    let pass = Pass { user: user.id, id: step };
    let body = SecondStep {
        second_step_token: app.tokens.sign_pass(Kind::SecondStep, &pass, app.now_seconds()),
        expires_in: Kind::SecondStep.seconds(),
    };
    Ok((StatusCode::ACCEPTED, Out(body)).into_response())
}

/// Makes a session of a login whose password was right.
async fn begin(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    user: &User,
    way: Way,
    in_body: bool,
) -> Result<Response, Problem> {
    let token = session::new_token();
    let token_hash = session::hash(&token);
    let new = new_session(user, context, headers, &token_hash);
    let begun = sessions::begin(&app.db, &new, &user.password_hash)
        .await
        .map_err(|error| Problem::unavailable("cannot log in", &error))?;
    if !begun {
        // The password was changed, or the user locked, while we were at it.
        return Err(Problem::new(Code::CredentialsInvalid));
    }
    Ok(welcome(app, context, user, new.id, token, way, in_body).await)
}

fn new_session<'a>(
    user: &User,
    context: &Context,
    headers: &'a HeaderMap,
    token_hash: &'a [u8],
) -> NewSession<'a> {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    NewSession {
        id: Uuid::now_v7(),
        user: user.id,
        token_hash,
        lifetime: session::SESSION_LIFETIME,
        user_agent: &agent[..agent.len().min(USER_AGENT_BYTES_MAX)],
        address: context.address,
    }
}

async fn welcome(
    app: &App,
    context: &Context,
    user: &User,
    session: Uuid,
    token: String,
    way: Way,
    in_body: bool,
) -> Response {
    // Verification may have been answered while the sequencer was away.
    account::open(app, user.account, context.trace_id).await;
    audit(app, context, Level::Info, "auth.login", Some(user.id));
    let principal = Principal { user: user.id, account: user.account, session };
    let device = way.device_token(app, user.id);
    session::answer(app, &principal, token, Some(device), in_body)
}

/// Makes a new session for a user whose other sessions have just ended, for the one who is at it.
pub(super) async fn begin_anew(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    user: &User,
    in_body: bool,
) -> Result<Response, Problem> {
    let way = Way::find(app, headers, None, Some(user), true);
    begin(app, context, headers, user, way, in_body).await
}

/// The second step of a login.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecondStepLogin {
    /// The `secondStepToken` of `auth/login`.
    #[schema(required, value_type = String)]
    second_step_token: Option<String>,
    /// Six digits of the authenticator, or a backup code.
    #[schema(required, value_type = String, example = "123456")]
    code: Option<String>,
    /// As in `auth/login`.
    #[schema(example = "body")]
    refresh_in: Option<String>,
    /// As in `auth/login`.
    device_token: Option<String>,
}

/// Finishes a login with a code of the second factor. A code works once.
#[utoipa::path(post, path = "/api/v1/auth/login/second-step", tag = "Auth", request_body = SecondStepLogin, responses(
    (status = 200, body = SessionBody),
    (status = 401, body = ProblemBody, description = "`second_factor_invalid`, `second_step_invalid`"),
    (status = 429, body = ProblemBody, description = "`too_many_attempts`")))]
pub(crate) async fn second_step(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    Json { value: body, .. }: Json<SecondStepLogin>,
) -> Result<Response, Problem> {
    let required = |field| Problem::value(field, "required", "is required");
    let token = body.second_step_token.ok_or_else(|| required("secondStepToken"))?;
    let code = body.code.ok_or_else(|| required("code"))?;
    let in_body = refresh_in_body(body.refresh_in.as_deref())?;
    second_factor::check_form(&code)?;
    check_address(&app, &context)?;
    let over = || Problem::new(Code::SecondStepInvalid);
    let pass = app.tokens.verify_pass(Kind::SecondStep, &token, app.now_seconds());
    let pass = pass.map_err(|_| over())?;
    let unavailable = |error: StoreError| Problem::unavailable("cannot log in", &error);
    let user = users::by_id(&app.db, pass.user).await.map_err(unavailable)?;
    let user = user.filter(|user| user.two_factor && !user.locked).ok_or_else(over)?;
    match two_factor::try_step(&app.db, pass.id, user.id).await.map_err(unavailable)? {
        StepTry::Counted => {}
        StepTry::UsedUp => {
            let seconds = u32::try_from(Kind::SecondStep.seconds()).unwrap_or(u32::MAX);
            return Err(Problem::new(Code::TooManyAttempts).retry_after(seconds));
        }
        StepTry::Unknown => return Err(over()),
    }
    let way = Way::find(&app, &headers, body.device_token.as_deref(), Some(&user), false);
    second_factor::check(&app, &context, &user, Some(&code), way.is_known_device()).await?;
    let refresh = session::new_token();
    let token_hash = session::hash(&refresh);
    let new = new_session(&user, &context, &headers, &token_hash);
    if !two_factor::finish_step(&app.db, pass.id, &new).await.map_err(unavailable)? {
        return Err(over());
    }
    Ok(welcome(&app, &context, &user, new.id, refresh, way, in_body).await)
}
