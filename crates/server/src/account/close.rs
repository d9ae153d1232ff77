//! The end of an account.
//!
//! Invariant: the core closes the account first, which it refuses while there is anything in it; only then is what names a
//! person erased. Whatever fails between the two is finished by asking again.

use axum::extract::State;
use axum::http::StatusCode;
use engine::{Action, Event, Reject};
use serde::Deserialize;
use store::audit::Level;
use units::AccountId;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::audit;
use crate::auth::confirm::confirm as confirm_identity;
use crate::auth::sessions::forget;
use crate::body::Json;
use crate::command::{Answer, Ask, command_id, submit};
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, ProblemBody};
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
    close_in_core(&app, user.account, context.trace_id).await?;
    let mail = Letter::closed().seal(&app, &user.email);
    let ended = store::credentials::close(&app.db, user.id, &mail)
        .await
        .map_err(|error| Problem::unavailable("cannot close a user", &error))?;
    forget(&app, &ended);
    app.delivery.wake();
    audit(&app, &context, Level::Warn, "account.closed", Some(user.id));
    Ok(StatusCode::NO_CONTENT)
}

/// Closes the account in the journal, where it was ever opened.
async fn close_in_core(app: &App, account: AccountId, trace_id: u128) -> Result<(), Problem> {
    let found = app.live.read(|state| {
        let flags = state.account(account)?.flags;
        let withdrawals = state.withdrawals().any(|withdrawal| withdrawal.account == account);
        Some((flags, withdrawals))
    });
    let Some((mut flags, withdrawals)) = found else {
        return Ok(());
    };
    if flags.closed {
        return Ok(());
    }
    if withdrawals {
        // Their amounts are held, so the core would refuse too; this says it at once.
        return Err(Problem::refused(Reject::AccountNotEmpty));
    }
    flags.closed = true;
    let ask = Ask {
        id: command_id(Uuid::nil(), "close-account", None),
        keyed: false,
        body_hash: account.get(),
        trace_id,
        expires_at: None,
        action: Action::SetAccountFlags { account, flags },
    };
    match submit(app, ask).await? {
        Answer::Decided(decided) => match decided.event() {
            Event::Done => Ok(()),
            Event::Rejected(reject) => Err(Problem::refused(*reject)),
            _ => Err(Problem::new(Code::Defect)),
        },
        Answer::Pending(_) => Err(Problem::new(Code::OutcomeUnknown)),
    }
}
