//! The end of an account.
//!
//! Invariant: the core closes the account first, which it refuses while there is anything in it; only then is what names a
//! person erased. Whatever fails between the two is finished by asking again.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use store::audit::Level;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::audit;
use crate::auth::confirm::confirm as confirm_identity;
use crate::auth::sessions::forget;
use crate::body::Json;
use crate::edge::Context;
use crate::flags;
use crate::mail::letter::Letter;
use crate::problem::{Problem, ProblemBody};
use crate::token::Principal;

/// Who ends an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    /// The password.
    #[schema(required, value_type = String)]
    password: Option<String>,
    /// A code of the second factor, where that is on.
    code: Option<String>,
}

/// Closes the account for ever. It must be empty: no balance, no open order, no open withdrawal.
#[utoipa::path(post, path = "/api/v1/account/close", tag = "Account", security(("bearer" = [])), request_body = Close,
    responses((status = 204, description = "It is closed, and every session is over"),
    (status = 401, body = ProblemBody),
    (status = 422, body = ProblemBody, description = "`account_not_empty`"), (status = 429, body = ProblemBody),
    (status = 503, body = ProblemBody, description = "The core has not answered yet: ask again")))]
pub(super) async fn close(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Json { value: body, .. }: Json<Close>,
) -> Result<StatusCode, Problem> {
    let code = body.code.as_deref();
    let user = confirm_identity(&app, &context, &principal, body.password, code).await?;
    flags::close(&app, user.account, context.trace_id).await?;
    let mail = Letter::closed().seal(&app, &user.email);
    let ended = store::credentials::close(&app.db, user.id, &mail)
        .await
        .map_err(|error| Problem::unavailable("cannot close a user", &error))?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "account.closed", Some(user.id));
    Ok(StatusCode::NO_CONTENT)
}
