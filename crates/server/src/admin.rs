//! For the exchange's own people: users, withdrawals, markets, roles and the audit log.
//!
//! Invariant: [`crate::access`] has let the caller through, and nothing is done here without a row in the audit log: with the
//! change where that is in the database, else before the command is sent.

mod anomalies;
mod audit_log;
mod csv;
mod markets;
mod users;
mod withdrawals;

use serde::Deserialize;
use serde_json::{Value, json};
use store::StoreError;
use store::audit::{AuditEntry, Level};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Staff;
use crate::app::App;
use crate::edge::Context;
use crate::problem::Problem;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 256;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(users::list))
        .routes(routes!(users::one))
        .routes(routes!(users::lock))
        .routes(routes!(users::unlock))
        .routes(routes!(users::set_role))
        .routes(routes!(users::roles))
        .routes(routes!(withdrawals::list))
        .routes(routes!(withdrawals::approve))
        .routes(routes!(withdrawals::reject))
        .routes(routes!(markets::halt))
        .routes(routes!(markets::resume))
        .routes(routes!(anomalies::list))
        .routes(routes!(anomalies::explain))
        .routes(routes!(audit_log::list))
        .routes(routes!(audit_log::export))
}

/// Why something is done; it stands in the audit log.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// At most 256 bytes.
    reason: Option<String>,
}

impl Reason {
    fn text(body: Option<Self>) -> Result<Option<String>, Problem> {
        let reason = body.and_then(|body| body.reason);
        if reason.as_ref().is_some_and(|text| text.len() > REASON_BYTES_MAX || text.contains('\0'))
        {
            let rule = "must be at most 256 bytes of text";
            return Err(Problem::value("reason", "reason_invalid", rule));
        }
        Ok(reason)
    }
}

fn entry(
    staff: Staff,
    context: &Context,
    action: &'static str,
    reason: Option<&str>,
) -> AuditEntry {
    AuditEntry {
        level: Level::Info,
        action,
        user: Some(staff.user),
        address: Some(context.address),
        trace_id: context.trace_id,
        detail: json!({ "role": staff.role.name(), "reason": reason }),
    }
}

/// Writes down what is about to be sent: what cannot be written down is not done.
async fn write_down(
    app: &App,
    mut entry: AuditEntry,
    target: &str,
    before: &str,
    after: &str,
) -> Result<(), Problem> {
    if let Some(detail) = entry.detail.as_object_mut() {
        for (name, text) in [("target", target), ("before", before), ("after", after)] {
            detail.insert(name.to_owned(), Value::from(text));
        }
    }
    store::audit::append(&app.db, &[entry]).await.map_err(|error| unavailable(&error))
}

/// Writes down that the core has refused what was written down before.
fn refused(app: &App, mut entry: AuditEntry, target: &str, problem: Problem) -> Problem {
    entry.level = Level::Warn;
    if let Some(detail) = entry.detail.as_object_mut() {
        detail.insert("target".to_owned(), target.into());
        detail.insert("refused".to_owned(), problem.code().name().into());
    }
    app.audit.add(entry);
    problem
}

fn unavailable(error: &StoreError) -> Problem {
    Problem::unavailable("cannot do what an administrator asks", error)
}
