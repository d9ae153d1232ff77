//! The routes of the status page, and of the same for operators' programs.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page;
use super::view::View;
use crate::access::Staff;
use crate::app::App;

/// The routes for programs.
pub(crate) fn described() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status))
}

/// The page, for everybody.
pub(crate) fn pages() -> Router<App> {
    Router::new().route("/status", get(status_page)).route("/status/style.css", get(style))
}

async fn status_page(State(app): State<App>) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, page::html(&View::new(&app))).into_response()
}

async fn style() -> Response {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], include_str!("style.css")).into_response()
}

/// How the exchange is, and who does what.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OperatorStatus {
    /// What the page says.
    #[serde(flatten)]
    view: View,
    /// The process that decides, by the name that it has given itself.
    sequencer: Option<String>,
}

/// Says how the exchange is.
///
/// What the page `/status` says, and which process decides.
#[utoipa::path(get, path = "/api/v1/admin/status", tag = "Admin", security(("bearer" = [])),
    responses((status = 200, body = OperatorStatus)))]
async fn status(State(app): State<App>, _: Staff) -> Json<OperatorStatus> {
    let view = View::new(&app);
    let seen = app.operations.0.lock();
    let sequencer = seen.overview.as_ref().and_then(|(_, overview)| overview.owner.clone());
    Json(OperatorStatus { view, sequencer })
}
