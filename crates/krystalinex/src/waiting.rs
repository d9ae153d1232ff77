//! What the server's port answers while the exchange comes up: it lives, and is not ready.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

/// Returns the routes.
pub fn router() -> Router {
    Router::new()
        .route(
            "/health",
            get(async || axum::Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))),
        )
        .route("/metrics", get(metrics))
        .route(
            "/ready",
            get(async || {
                not_ready(
                    json!({
                        "ready": false,
                        "durability": null,
                        "sequence": 0,
                        "failing": ["starting: the database or the journal is not there yet"],
                    }),
                    "application/json",
                )
            }),
        )
        .fallback(async || {
            not_ready(
                json!({
                    "type": "/docs#unavailable",
                    "title": "The exchange is starting.",
                    "status": 503,
                    "code": "unavailable",
                }),
                "application/problem+json",
            )
        })
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
        .into_response()
}

fn not_ready(body: serde_json::Value, kind: &'static str) -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
