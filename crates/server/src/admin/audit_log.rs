//! The audit log: a page of it, or all of it as CSV.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json as Out;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::Db;
use store::audit::{AuditFilter, AuditRow};
use tokio::sync::OwnedSemaphorePermit;
use units::Time;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wire::time::Timestamp;

use super::{csv, entry, unavailable};
use crate::access::Staff;
use crate::app::App;
use crate::body::{Query, page_size};
use crate::edge::Context;
use crate::problem::{Code, Problem, ProblemBody, chain};

/// Rows that are read at once for an export.
const PAGE: usize = 500;
/// Rows of one export.
const ROWS_MAX: usize = 1_000_000;

/// A row of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Logged {
    /// Its number.
    id: i64,
    /// When.
    created_at: Timestamp,
    /// `info`, `warn` or `error`.
    level: String,
    /// What was done.
    action: String,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Uuid>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// In which trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// What else there is to say: for what was changed, `target`, `before` and `after`.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<AuditRow> for Logged {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            created_at: row.created_at.into(),
            level: row.level,
            action: row.action,
            user_id: row.user,
            address: row.address.map(|address| address.to_string()),
            trace_id: row.trace.map(|trace| trace.simple().to_string()),
            detail: row.detail,
        }
    }
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoggedPage {
    /// The rows, newest first.
    items: Vec<Logged>,
    /// Goes into `beforeId` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before_id: Option<i64>,
}

/// Which rows.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Of this action; of all that begin so where it ends in a dot.
    action: Option<String>,
    /// By this user.
    user_id: Option<String>,
    /// `info`, `warn` or `error`.
    level: Option<String>,
    /// Not before this time.
    from: Option<String>,
    /// Before this time.
    until: Option<String>,
    /// Older than this row.
    before_id: Option<String>,
    /// 1 to 500; 50 unless given. Not for the export, which has them all.
    limit: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, Problem> {
        if self.action.as_ref().is_some_and(|text| text.len() > 64 || text.contains('\0')) {
            return Err(Problem::value(
                "action",
                "action_invalid",
                "must be at most 64 bytes of text",
            ));
        }
        let level = self.level.as_deref();
        if level.is_some_and(|level| !matches!(level, "info" | "warn" | "error")) {
            return Err(Problem::value(
                "level",
                "unknown_value",
                "must be one of info, warn, error",
            ));
        }
        let user = self.user_id.as_deref().map(|text| {
            Uuid::parse_str(text)
                .map_err(|_| Problem::value("userId", "id_invalid", "must be a UUID"))
        });
        let before = self.before_id.as_deref().map(|text| {
            text.parse().map_err(|_| Problem::value("beforeId", "id_invalid", "must be a row's id"))
        });
        Ok(AuditFilter {
            action: self.action.clone(),
            user: user.transpose()?,
            level: self.level.clone(),
            from: time("from", self.from.as_deref())?,
            until: time("until", self.until.as_deref())?,
            before_id: before.transpose()?,
        })
    }
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Time>, Problem> {
    let rule = "must be an RFC 3339 time in UTC";
    text.map(|text| {
        wire::time::parse(text).ok_or_else(|| Problem::value(field, "time_invalid", rule))
    })
    .transpose()
}

/// Shows the audit log, newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit", tag = "Admin", security(("bearer" = [])), params(AuditQuery),
    responses((status = 200, body = LoggedPage), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<Out<LoggedPage>, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let rows = store::audit::list(&app.db, &query.filter()?, size + 1).await;
    let mut rows = rows.map_err(|error| unavailable(&error))?;
    let more = rows.len() > size;
    rows.truncate(size);
    let next_before_id = rows.last().map(|row| row.id).filter(|_| more);
    Ok(Out(LoggedPage { items: rows.into_iter().map(Logged::from).collect(), next_before_id }))
}

/// Exports the audit log as CSV, newest first, at most a million rows. Cells that a spreadsheet would take for a formula
/// begin with an apostrophe.
#[utoipa::path(get, path = "/api/v1/admin/audit.csv", tag = "Admin", security(("bearer" = [])), params(AuditQuery),
    responses((status = 200, content_type = "text/csv", body = String),
    (status = 403, body = ProblemBody, description = "`role_missing`"), (status = 422, body = ProblemBody),
    (status = 429, body = ProblemBody, description = "Two exports are going on already")))]
pub(super) async fn export(
    State(app): State<App>,
    context: Context,
    staff: Staff,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Problem> {
    let filter = query.filter()?;
    let permit = Arc::clone(&app.gates.exports).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Code::TooManyRequests).retry_after(10))?;
    // Who takes the log away is in the log.
    let logged = [entry(staff, &context, "admin.audit_export", None)];
    store::audit::append(&app.db, &logged).await.map_err(|error| unavailable(&error))?;
    let export =
        Export { db: app.db.clone(), filter, left: ROWS_MAX, is_begun: false, _permit: permit };
    let stream = futures::stream::unfold(Some(export), |export| async {
        let mut export = export?;
        let (text, is_over) = export.next().await;
        Some((Ok::<_, Infallible>(text), (!is_over).then_some(export)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// An export that is going on: a page at a time, as fast as it is read.
struct Export {
    db: Db,
    filter: AuditFilter,
    left: usize,
    is_begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    /// Returns the next part, and whether it is the last.
    async fn next(&mut self) -> (String, bool) {
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            text = csv::row([
                "id",
                "createdAt",
                "level",
                "action",
                "userId",
                "address",
                "traceId",
                "detail",
            ]);
        }
        let size = PAGE.min(self.left);
        let rows = match store::audit::list(&self.db, &self.filter, size).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(error = %chain(&error), "an export of the audit log broke off");
                text.push_str(&csv::row(["The export broke off here."]));
                return (text, true);
            }
        };
        let is_over = rows.len() < size || rows.len() >= self.left;
        self.left = self.left.saturating_sub(rows.len());
        self.filter.before_id = rows.last().map(|row| row.id);
        for row in rows {
            let row = Logged::from(row);
            let text_of = |text: Option<String>| text.unwrap_or_default();
            let (id, detail) = (row.id.to_string(), row.detail.to_string());
            let user = text_of(row.user_id.map(|user| user.to_string()));
            let (address, trace) = (text_of(row.address), text_of(row.trace_id));
            let at = row.created_at.to_string();
            text.push_str(&csv::row([
                id.as_str(),
                &at,
                &row.level,
                &row.action,
                &user,
                &address,
                &trace,
                &detail,
            ]));
        }
        (text, is_over)
    }
}
