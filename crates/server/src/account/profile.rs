//! The profile.

use axum::Json as Out;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::users::{self, User};
use utoipa::ToSchema;
use uuid::Uuid;
use wire::time::Timestamp;

use crate::app::App;
use crate::auth::sessions::moment;
use crate::body::Json;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

const NAME_CHARACTERS_MAX: usize = 50;

/// A user's profile.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    /// The user.
    pub(super) id: Uuid,
    /// The e-mail address.
    pub(super) email: String,
    /// What others may call the user; empty unless set.
    pub(super) display_name: String,
    /// The wallet's address.
    #[schema(example = "kx1…")]
    pub(super) address: String,
    /// Whether a login needs a code.
    pub(super) two_factor: bool,
    /// Until when a change of security settings has frozen withdrawals.
    pub(super) withdrawals_frozen_until: Option<Timestamp>,
    /// When the password was changed last.
    pub(super) password_changed_at: Option<Timestamp>,
    /// When the user registered.
    pub(super) created_at: Timestamp,
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            display_name: user.display_name,
            address: wire::address::format(user.account),
            two_factor: user.two_factor,
            withdrawals_frozen_until: user.withdrawals_frozen_until_micros.map(moment),
            password_changed_at: user.password_changed_at_micros.map(moment),
            created_at: moment(user.created_at_micros),
        }
    }
}

/// Finds the user of a session.
pub(super) async fn find(app: &App, principal: &Principal) -> Result<User, Problem> {
    users::by_id(&app.db, principal.user)
        .await
        .map_err(|error| Problem::unavailable("cannot read a user", &error))?
        .filter(|user| !user.locked)
        .ok_or(Problem::new(Code::Unauthenticated))
}

/// Shows the profile.
#[utoipa::path(get, path = "/api/v1/account/profile", tag = "Account", security(("bearer" = [])), responses(
    (status = 200, body = Profile), (status = 401, body = ProblemBody)))]
pub(super) async fn show(
    State(app): State<App>,
    principal: Principal,
) -> Result<Out<Profile>, Problem> {
    Ok(Out(find(&app, &principal).await?.into()))
}

/// A change of the profile.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangeProfile {
    /// At most 50 letters, digits, spaces and `' . - _`, none of the spaces at an end; empty takes it away.
    #[schema(required, value_type = String, example = "Ann")]
    display_name: Option<String>,
}

/// Changes the profile.
#[utoipa::path(patch, path = "/api/v1/account/profile", tag = "Account", security(("bearer" = [])),
    request_body = ChangeProfile, responses(
    (status = 200, body = Profile), (status = 401, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(super) async fn change(
    State(app): State<App>,
    principal: Principal,
    Json { value: body, .. }: Json<ChangeProfile>,
) -> Result<Out<Profile>, Problem> {
    let name = body
        .display_name
        .ok_or_else(|| Problem::value("displayName", "required", "is required"))?;
    if !is_name(&name) {
        let rule =
            "must be at most 50 letters, digits, spaces and ' . - _, without a space at an end";
        return Err(Problem::value("displayName", "name_invalid", rule));
    }
    let unavailable = |error: StoreError| Problem::unavailable("cannot change a profile", &error);
    users::set_display_name(&app.db, principal.user, &name).await.map_err(unavailable)?;
    Ok(Out(find(&app, &principal).await?.into()))
}

/// Letters of any script and little else: nothing that is invisible, turns the direction of text, or means something to HTML or
/// a spreadsheet.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || " '.-_".contains(c);
    let starts_well = name.chars().next().is_none_or(char::is_alphanumeric);
    name.chars().count() <= NAME_CHARACTERS_MAX
        && name.chars().all(fits)
        && starts_well
        && !name.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_and_little_else() {
        for name in ["", "Ann", "Ann O'Neill-Smith Jr.", "Zoë", "李小龍", "user_7", &"x".repeat(50)]
        {
            assert!(is_name(name), "{name}");
        }
        for name in [
            " Ann",
            "Ann ",
            "=cmd",
            "-Ann",
            "@Ann",
            "<b>Ann</b>",
            "A\u{0}",
            "A\u{202e}nn",
            "A\u{200b}nn",
            "A\tnn",
            "A\nnn",
            "😀",
            "a,b",
            "\"Ann\"",
            &"x".repeat(51),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
