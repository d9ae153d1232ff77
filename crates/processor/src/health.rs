//! The payment processor's own port: `/health`, `/ready`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::status::Status;

/// Returns the routes. `/health` asks nobody: it says no only when the loop has stood still for so long that a restart is
/// the only help. `/ready` says whether commands are decided, or could be at once.
pub fn health_router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(status)
}

async fn health(State(status): State<Arc<Status>>) -> Response {
    let stuck = status.is_stuck();
    let code = if stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({
        "status": if stuck { "stuck" } else { "ok" },
        "service": "kx-payment-processor",
        "version": env!("CARGO_PKG_VERSION"),
    });
    (code, axum::Json(body)).into_response()
}

async fn ready(State(status): State<Arc<Status>>) -> Response {
    let ready = status.is_ready() && !status.is_stuck();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "role": role(&status),
        "epoch": status.epoch(),
        "sequence": status.sequence().get(),
        "failing": status.failing(),
    });
    (code, axum::Json(body)).into_response()
}

fn role(status: &Status) -> &'static str {
    match (status.is_active(), status.is_standby()) {
        (true, _) => "active",
        (false, true) => "standby",
        // Its database or its queue is away, or it has only just started.
        (false, false) => "waiting",
    }
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
        .into_response()
}
