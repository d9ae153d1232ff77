//! `/ws`: live market data for everybody, and an account's own changes for who shows an access token.
//!
//! docs/WEBSOCKET.md describes the protocol. Invariant: no token is taken from a URL, and a page of another site cannot
//! open a connection from a user's browser.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::any;
use telemetry::Metric;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::edge::Context;
use crate::problem::{Code, Problem};

pub mod account;
pub mod channel;
mod connection;
pub mod message;
mod missed;
pub mod outbox;
pub mod status;

/// WebSocket connections of one server.
pub const CONNECTIONS_MAX: usize = 5_000;

/// The places that connections take.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS_MAX)))
    }
}

impl Places {
    /// Says in the metrics how many are taken.
    fn count(&self) {
        let taken = CONNECTIONS_MAX.saturating_sub(self.0.available_permits());
        telemetry::set_count(Metric::WebSocketConnections, taken);
    }
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/ws", any(upgrade))
}

/// Opens a connection.
async fn upgrade(
    State(app): State<App>,
    context: Context,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if !may_connect(&app, &headers) {
        return Err(Problem::new(Code::OriginForbidden));
    }
    let upgrade = upgrade.map_err(|_| {
        Problem::new(Code::HeaderMalformed).detail("This path takes WebSocket connections alone.")
    })?;
    if app.is_draining() {
        return Err(Problem::new(Code::Draining));
    }
    let place = Arc::clone(&app.places.0).try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Code::Unavailable).retry_after(5))?;
    // What a client may send is limited again, to the byte, by the connection, which can say so before it closes.
    let upgrade = upgrade
        .max_message_size(connection::MESSAGE_BYTES_MAX * 2)
        .max_frame_size(connection::MESSAGE_BYTES_MAX * 2)
        .max_write_buffer_size(4 * 1_024 * 1_024);
    Ok(upgrade.on_upgrade(move |socket| async move {
        app.places.count();
        connection::serve(app.clone(), context, socket).await;
        drop(place);
        app.places.count();
    }))
}

/// Tells whether a connection may be opened from where it says it comes: from no page at all (a bot), from a page of
/// this very server, or from a site that is configured.
fn may_connect(app: &App, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    is_same(origin, own) || app.config.cors_origins.iter().any(|allowed| allowed == origin)
}

fn is_same(origin: &str, host: Option<&str>) -> bool {
    let plain = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    matches!((plain, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_server_are_its_own() {
        let host = Some("exchange.example:5000");
        assert!(is_same("http://exchange.example:5000", host));
        assert!(is_same("https://EXCHANGE.example:5000", host));
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://exchange.example",
            "exchange.example:5000",
            "http://exchange.example:5000.evil.example",
            "file://exchange.example:5000",
        ] {
            assert!(!is_same(origin, host), "{origin}");
        }
        assert!(!is_same("http://exchange.example:5000", None));
    }
}
