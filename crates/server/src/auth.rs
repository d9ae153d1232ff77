//! Who somebody is: registering, verifying, logging in, staying logged in.
//!
//! Invariant: no answer and no time tells whether an e-mail address has an account, registering apart; no secret is
//! stored but hashed.

pub(crate) mod account;
pub(crate) mod email;
pub mod password;
mod register;
pub(crate) mod revoked;
mod session;

use axum::http::HeaderMap;
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
        .routes(routes!(session::login))
        .routes(routes!(session::refresh))
        .routes(routes!(session::logout))
        .routes(routes!(account::me))
}

/// Leaves an entry in the audit log.
fn audit(app: &App, context: &Context, level: Level, action: &'static str, user: Option<Uuid>) {
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
