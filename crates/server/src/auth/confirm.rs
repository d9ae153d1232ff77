//! Has somebody who is logged in prove once more who they are, before security settings change.

use store::audit::Level;
use store::users::{self, User};

use super::ways::{Attempt, Way};
use super::{audit, password, second_factor};
use crate::app::App;
use crate::edge::Context;
use crate::problem::{Code, Problem};
use crate::token::Principal;

/// Checks the password, and a code where the second factor is on. Returns the user.
///
/// # Errors
///
/// 401 where either is wrong, 429 after too many tries.
pub(crate) async fn confirm(
    app: &App,
    context: &Context,
    principal: &Principal,
    password: Option<String>,
    code: Option<&str>,
) -> Result<User, Problem> {
    let password = password.ok_or_else(|| Problem::value("password", "required", "is required"))?;
    let place = app.passwords.place()?;
    let user = users::by_id(&app.db, principal.user)
        .await
        .map_err(|error| Problem::unavailable("cannot read a user", &error))?
        .filter(|user| !user.locked)
        .ok_or(Problem::new(Code::Unauthenticated))?;
    // Whoever has a session guesses on an account of their own, so that the owner can still log in.
    let attempt = Attempt::begin(app, context, &format!("session\0{}", user.id), Way::Unknown)?;
    let fits = password.len() <= password::BYTES_MAX;
    let password = if fits { password } else { String::new() };
    let right =
        app.passwords.check(place, password, Some(user.password_hash.clone())).await? && fits;
    if !right {
        attempt.failed(app);
        audit(app, context, Level::Warn, "auth.confirm_failed", Some(user.id));
        return Err(Problem::new(Code::CredentialsInvalid));
    }
    attempt.right(app);
    if user.two_factor {
        second_factor::check(app, context, &user, code, true).await?;
    }
    Ok(user)
}
