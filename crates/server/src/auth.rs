//! Who somebody is: registering, verifying, logging in, staying logged in.
//!
//! Invariant: no answer and no time tells whether an e-mail address has an account, registering apart; no secret is
//! stored but hashed.

pub(crate) mod account;
pub(crate) mod confirm;
pub(crate) mod email;
mod login;
pub mod password;
pub(crate) mod register;
mod reset;
pub(crate) mod revoked;
mod second_factor;
mod session;
pub(crate) mod sessions;
mod totp;
pub(crate) mod two_factor;
mod ways;

use axum::http::{HeaderMap, header};
use store::audit::{AuditEntry, Level};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::app::App;
use crate::edge::Context;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register::register))
        .routes(routes!(register::verify))
        .routes(routes!(register::resend_code))
        .routes(routes!(login::login))
        .routes(routes!(login::second_step))
        .routes(routes!(session::refresh))
        .routes(routes!(session::logout))
        .routes(routes!(account::me))
        .routes(routes!(sessions::list, sessions::revoke_others))
        .routes(routes!(sessions::revoke))
        .routes(routes!(reset::change))
        .routes(routes!(reset::forgot))
        .routes(routes!(reset::reset))
        .routes(routes!(two_factor::status))
        .routes(routes!(two_factor::enrol))
        .routes(routes!(two_factor::confirm))
        .routes(routes!(two_factor::disable))
        .routes(routes!(two_factor::renew_backup_codes))
}

/// Returns a cookie's value.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

/// Says in a mail where something was done from.
pub(crate) fn origin(context: &Context) -> String {
    format!("the address {}", context.address)
}

/// Leaves an entry in the audit log.
pub(crate) fn audit(
    app: &App,
    context: &Context,
    level: Level,
    action: &'static str,
    user: Option<Uuid>,
) {
    app.audit.add(AuditEntry {
        level,
        action,
        user,
        address: Some(context.address),
        trace_id: context.trace_id,
        detail: serde_json::json!({}),
    });
}

/// Tells whether a browser sent this from another site's page.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => match (text("origin"), text("host")) {
            (Some(origin), Some(host)) => {
                origin.split_once("://").is_none_or(|(_, authority)| authority != host)
            }
            (Some(_), None) => true,
            (None, _) => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sites_page_is_told_apart() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_cross_site(&headers)
        };
        assert!(!of(&[]));
        assert!(!of(&[("host", "localhost:5000"), ("origin", "http://localhost:5000")]));
        assert!(!of(&[("sec-fetch-site", "same-origin")]));
        assert!(of(&[("host", "localhost:5000"), ("origin", "https://evil.example")]));
        assert!(of(&[("host", "localhost:5000"), ("origin", "null")]));
        assert!(of(&[("sec-fetch-site", "cross-site")]));
        assert!(of(&[("sec-fetch-site", "same-site")]));
    }
}
