//! The sessions of a user, as the user sees them.

use axum::Json as Out;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use store::StoreError;
use store::audit::Level;
use store::sessions::{self, SessionRow};
use units::Time;
use utoipa::ToSchema;
use uuid::Uuid;
use wire::time::Timestamp;

use super::audit;
use crate::app::App;
use crate::body::Segment;
use crate::edge::Context;
use crate::problem::{Code, Problem, ProblemBody};
use crate::token::Principal;

/// Sessions that are listed: more than anybody has devices.
pub(crate) const SESSIONS_MAX: i64 = 200;
const LABEL_CHARACTERS_MAX: usize = 40;

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionItem {
    /// The id.
    id: Uuid,
    /// What it says it is.
    #[schema(example = "Firefox on Linux")]
    device: String,
    /// Where it was begun from.
    address: Option<String>,
    /// When it was begun.
    created_at: Timestamp,
    /// When it was refreshed last.
    last_used_at: Timestamp,
    /// When it ends by itself.
    expires_at: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

impl SessionItem {
    pub(crate) fn of(row: &SessionRow, current: Uuid) -> Self {
        Self {
            id: row.id,
            device: label(&row.user_agent),
            address: row.address.map(|address| address.to_string()),
            created_at: moment(row.created_at_micros),
            last_used_at: moment(row.last_used_at_micros),
            expires_at: moment(row.expires_at_micros),
            current: row.id == current,
        }
    }
}

/// Turns the database's time into an answer's.
pub(crate) fn moment(micros: i64) -> Timestamp {
    Time::from_micros(u64::try_from(micros).unwrap_or_default()).into()
}

/// The sessions of a user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sessions {
    /// The last used first.
    items: Vec<SessionItem>,
}

/// Lists the sessions that are not over.
#[utoipa::path(get, path = "/api/v1/auth/sessions", tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = Sessions), (status = 401, body = ProblemBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    principal: Principal,
) -> Result<Out<Sessions>, Problem> {
    let rows = sessions::of_user(&app.db, principal.user, SESSIONS_MAX)
        .await
        .map_err(|error| Problem::unavailable("cannot list sessions", &error))?;
    let items = rows.iter().map(|row| SessionItem::of(row, principal.session)).collect();
    Ok(Out(Sessions { items }))
}

/// Ends one session, on every server.
#[utoipa::path(delete, path = "/api/v1/auth/sessions/{id}", tag = "Auth", security(("bearer" = [])),
    params(("id" = String, Path, description = "The session's id")), responses(
    (status = 204, description = "It is over"), (status = 404, body = ProblemBody)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    context: Context,
    principal: Principal,
    Segment(id): Segment,
) -> Result<StatusCode, Problem> {
    let session = wire::id::parse(&id).map(wire::id::to_uuid).ok_or(Code::NotFound)?;
    let ended = sessions::revoke(&app.db, principal.user, session, "revoked")
        .await
        .map_err(|error| Problem::unavailable("cannot end a session", &error))?;
    if !ended {
        return Err(Problem::new(Code::NotFound));
    }
    app.revoked.insert(session);
    audit(&app, &context, Level::Info, "auth.session_revoked", Some(principal.user));
    Ok(StatusCode::NO_CONTENT)
}

/// How many sessions have ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    /// How many.
    sessions_ended: usize,
}

/// Ends every session but this one, on every server.
#[utoipa::path(delete, path = "/api/v1/auth/sessions", tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = Ended), (status = 401, body = ProblemBody)))]
pub(crate) async fn revoke_others(
    State(app): State<App>,
    context: Context,
    principal: Principal,
) -> Result<Out<Ended>, Problem> {
    let unavailable = |error: StoreError| Problem::unavailable("cannot end sessions", &error);
    let ended = sessions::revoke_others(&app.db, principal.user, principal.session)
        .await
        .map_err(unavailable)?;
    forget(&app, &ended);
    audit(&app, &context, Level::Info, "auth.sessions_revoked", Some(principal.user));
    Ok(Out(Ended { sessions_ended: ended.len() }))
}

/// Takes no token of these sessions any more. The notice reaches every server; this one need not wait for it.
pub(crate) fn forget(app: &App, sessions: &[Uuid]) {
    sessions.iter().for_each(|session| app.revoked.insert(*session));
}

/// Names a device by what its browser says: a hint for people, never to be relied on.
pub(crate) fn label(agent: &str) -> String {
    let first = |names: &[(&str, &'static str)]| {
        names.iter().find(|(part, _)| agent.contains(part)).map(|(_, name)| *name)
    };
    // The order matters: most browsers claim to be some of the others too.
    let browser = first(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => {
            let word = agent.split_whitespace().next().unwrap_or_default();
            let plain = |c: &char| c.is_ascii_alphanumeric() || "./_-".contains(*c);
            let word: String = word.chars().filter(plain).take(LABEL_CHARACTERS_MAX).collect();
            if word.is_empty() { "unknown device".to_owned() } else { word }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names_that_people_know() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile Safari/604.1",
                "Safari on iPhone",
            ),
            ("curl/8.5.0", "curl/8.5.0"),
            ("", "unknown device"),
            ("<script>alert(1)</script>", "scriptalert1/script"),
            ("=cmd|'/c calc'!A1", "cmd/c"),
        ] {
            assert_eq!(label(agent), name);
        }
    }
}
