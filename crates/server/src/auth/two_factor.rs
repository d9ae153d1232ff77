//! Turning the second factor on and off.
//!
//! Invariant: nothing changes without the password, and a code where it is on; a new secret counts only when a code of it
//! has come back, so that nobody shuts themselves out.

use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::audit::Level;
use store::two_factor::{self, Change};
use utoipa::ToSchema;
use uuid::Uuid;

use super::confirm::confirm as confirm_identity;
use super::second_factor::{BACKUP_CODES, PURPOSE, new_backup_codes, open};
use super::sessions::forget;
use super::ways::{Attempt, Way};
use super::{audit, origin, totp};
use crate::app::App;
use crate::body::Json;
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody, chain};
use crate::token::Principal;

/// How long an enrolment waits for its first code.
const ENROLMENT_LIFETIME: Duration = Duration::from_secs(15 * 60);
const RESEAL_RETRY: Duration = Duration::from_secs(10);

/// How the second factor stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TwoFactorStatus {
    /// Whether a login needs a code.
    active: bool,
    /// Whether an enrolment waits for its first code.
    enrolling: bool,
    /// Backup codes that have not been used.
    backup_codes_left: i64,
}

/// Says how the second factor stands.
#[utoipa::path(get, path = "/api/v1/auth/2fa", tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = TwoFactorStatus), (status = 401, body = ProblemBody)))]
pub(crate) async fn status(
    State(app): State<App>,
    principal: Principal,
) -> Result<Out<TwoFactorStatus>, Problem> {
    let kept = two_factor::of_user(&app.db, principal.user).await.map_err(unavailable)?;
    Ok(Out(TwoFactorStatus {
        active: kept.secret.is_some(),
        enrolling: kept.pending.is_some(),
        backup_codes_left: kept.backup_codes_left,
    }))
}

fn unavailable(error: StoreError) -> Problem {
    Problem::unavailable("cannot change a second factor", &error)
}

/// Who asks for a change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The password.
    #[schema(required, value_type = String)]
    password: Option<String>,
    /// A code of the second factor, where that is on.
    code: Option<String>,
}

/// A secret for an authenticator.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enrolment {
    /// The secret, for typing in: base32.
    secret: String,
    /// The same for a QR code.
    #[schema(example = "otpauth://totp/…")]
    otpauth_uri: String,
    /// Seconds in which a code of it must come to `auth/2fa/confirm`.
    expires_in: u64,
}

/// Begins to turn the second factor on, or to move it to another authenticator. Nothing changes until `auth/2fa/confirm`.
#[utoipa::path(post, path = "/api/v1/auth/2fa/enrol", tag = "Auth", security(("bearer" = [])), request_body = Identity,
    responses((status = 200, body = Enrolment), (status = 401, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(crate) async fn enrol(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<Identity>,
) -> Result<Out<Enrolment>, Problem> {
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    let secret: [u8; totp::SECRET_BYTES] = rand::random();
    let sealed = app.vault.seal(PURPOSE, user.id, &secret);
    two_factor::enrol(&app.db, user.id, &sealed, ENROLMENT_LIFETIME).await.map_err(unavailable)?;
    audit(&app, &context, Level::Info, "auth.two_factor_enrolling", Some(user.id));
    Ok(Out(Enrolment {
        secret: totp::base32(&secret),
        otpauth_uri: totp::uri(&secret, &user.email),
        expires_in: ENROLMENT_LIFETIME.as_secs(),
    }))
}

/// The first code of a new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirstCode {
    /// Six digits of the authenticator.
    #[schema(required, value_type = String, example = "123456")]
    code: Option<String>,
}

/// Backup codes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupCodes {
    /// Each works once, in the place of a code. They are shown this once.
    #[schema(example = json!(["abcd-efgh-2345-mnop"]))]
    backup_codes: Vec<String>,
}

/// Turns the second factor on with the first code of the new secret, and shows the backup codes. Other sessions end.
#[utoipa::path(post, path = "/api/v1/auth/2fa/confirm", tag = "Auth", security(("bearer" = [])), request_body = FirstCode,
    responses((status = 200, body = BackupCodes),
    (status = 401, body = ProblemBody, description = "`second_factor_invalid`"),
    (status = 409, body = ProblemBody, description = "`two_factor_state`: no enrolment waits"), (status = 429, body = ProblemBody)))]
pub(crate) async fn confirm(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<FirstCode>,
) -> Result<Out<BackupCodes>, Problem> {
    let code = body.code.ok_or_else(|| Problem::value("code", "required", "is required"))?;
    let user = store::users::by_id(&app.db, principal.user).await.map_err(unavailable)?;
    let user = user.filter(|user| !user.locked).ok_or(Problem::new(Code::Unauthenticated))?;
    let kept = two_factor::of_user(&app.db, user.id).await.map_err(unavailable)?;
    let pending = kept.pending.ok_or(Problem::new(Code::TwoFactorState))?;
    let attempt = Attempt::begin(&app, &context, &format!("enrolment\0{}", user.id), Way::Unknown)?;
    let secret = open(&app, user.id, &pending)?;
    let Some(step) = totp::matching(&secret, &code, app.now_seconds(), 0) else {
        attempt.failed(&app);
        return Err(Problem::new(Code::SecondFactorInvalid));
    };
    attempt.right(&app);
    let (codes, hashes) = new_backup_codes(user.id);
    let mail = Letter::changed("the second factor was turned on", &origin(&context));
    let mail = mail.seal(&app, &user.email);
    let change = Change { user: user.id, freeze: app.config.withdrawal_freeze, mail: &mail };
    let ended = two_factor::confirm(&app.db, &pending, step, &hashes, principal.session, &change)
        .await
        .map_err(unavailable)?
        .ok_or(Problem::new(Code::TwoFactorState))?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "auth.two_factor_on", Some(user.id));
    Ok(Out(BackupCodes { backup_codes: codes }))
}

/// Turns the second factor off.
#[utoipa::path(post, path = "/api/v1/auth/2fa/disable", tag = "Auth", security(("bearer" = [])), request_body = Identity,
    responses((status = 204, description = "It is off"), (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`two_factor_state`: it is off already"), (status = 429, body = ProblemBody)))]
pub(crate) async fn disable(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<Identity>,
) -> Result<StatusCode, Problem> {
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    if !user.two_factor {
        return Err(Problem::new(Code::TwoFactorState));
    }
    let mail = Letter::changed("the second factor was turned off", &origin(&context));
    let mail = mail.seal(&app, &user.email);
    let change = Change { user: user.id, freeze: app.config.withdrawal_freeze, mail: &mail };
    two_factor::disable(&app.db, &change).await.map_err(unavailable)?;
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "auth.two_factor_off", Some(user.id));
    Ok(StatusCode::NO_CONTENT)
}

/// Makes new backup codes; the old ones work no more.
#[utoipa::path(post, path = "/api/v1/auth/2fa/backup-codes", tag = "Auth", security(("bearer" = [])),
    request_body = Identity, responses((status = 200, body = BackupCodes), (status = 401, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`two_factor_state`: it is off"), (status = 429, body = ProblemBody)))]
pub(crate) async fn renew_backup_codes(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<Identity>,
) -> Result<Out<BackupCodes>, Problem> {
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    if !user.two_factor {
        return Err(Problem::new(Code::TwoFactorState));
    }
    let (codes, hashes) = new_backup_codes(user.id);
    let what = format!("{BACKUP_CODES} new backup codes were made");
    let mail = Letter::changed(&what, &origin(&context)).seal(&app, &user.email);
    let change = Change { user: user.id, freeze: app.config.withdrawal_freeze, mail: &mail };
    two_factor::renew_backup_codes(&app.db, &hashes, &change).await.map_err(unavailable)?;
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "auth.backup_codes_renewed", Some(user.id));
    Ok(Out(BackupCodes { backup_codes: codes }))
}

/// Seals anew what the key before has sealed, once, so that the key after next can open it.
pub(crate) fn reseal(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        let mut after = Uuid::nil();
        while let Some(strong) = inner.upgrade() {
            let (db, vault) = (&strong.db, &strong.vault);
            let rows = match two_factor::sealed_otherwise(db, vault.key_id(), after, 100).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot look for old seals now");
                    drop(strong);
                    tokio::time::sleep(RESEAL_RETRY).await;
                    continue;
                }
            };
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            for (user, sealed) in rows {
                let Some(secret) = vault.open(PURPOSE, user, &sealed) else {
                    tracing::error!(%user, "a second factor was sealed with a key that is not configured");
                    continue;
                };
                let anew = vault.seal(PURPOSE, user, &secret);
                if let Err(error) = two_factor::reseal(db, user, &sealed, &anew).await {
                    tracing::warn!(error = %chain(&error), "cannot seal a second factor anew now");
                }
            }
        }
    });
}
