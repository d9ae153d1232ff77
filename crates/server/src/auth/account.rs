//! The account behind a user.

use axum::Json as Out;
use axum::extract::State;
use engine::{Action, Event};
use serde::Serialize;
use units::{AccountId, Time};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::command::{Answer, Ask, command_id, submit};
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// Opens an account in the journal where it is not open yet. Returns whether it is; where it is not, the next login tries
/// again.
pub(crate) async fn open(app: &App, account: AccountId, trace_id: u128) -> bool {
    if app.live.read(|state| state.account(account).is_some()) {
        return true;
    }
    let ask = Ask {
        id: command_id(Uuid::nil(), "open-account", None),
        keyed: false,
        body_hash: account.get(),
        trace_id,
        expires_at: None,
        action: Action::OpenAccount { account },
    };
    match submit(app, ask).await {
        Ok(Answer::Decided(decided)) => *decided.event() == Event::Done,
        Ok(Answer::Pending(_)) => false,
        Err(problem) => {
            tracing::warn!(code = problem.code().name(), %account, "an account could not be opened");
            false
        }
    }
}

/// Who I am.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    /// The user.
    id: Uuid,
    /// The e-mail address.
    email: String,
    /// The wallet's address, for transfers from other users.
    #[schema(example = "kx1…")]
    address: String,
    /// Whether the account is open.
    account_open: bool,
    /// When the user registered.
    created_at: wire::time::Timestamp,
}

/// Says who I am.
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = Me), (status = 401, body = ProblemBody)))]
pub(crate) async fn me(State(app): State<App>, principal: Principal) -> Result<Out<Me>, Problem> {
    let user = store::users::by_id(&app.db, principal.user)
        .await
        .map_err(|error| Problem::unavailable("cannot read a user", &error))?
        .ok_or(Problem::new(Code::Unauthenticated))?;
    let micros = u64::try_from(user.created_at_micros).unwrap_or_default();
    Ok(Out(Me {
        id: user.id,
        email: user.email,
        address: wire::address::format(user.account),
        account_open: app.live.read(|state| state.account(user.account).is_some()),
        created_at: Time::from_micros(micros).into(),
    }))
}
