//! The relay's HTTP: `/ntfy` and `/slack` for Alertmanager, `/health` and `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use telemetry::Metric;
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::notice::Notice;
use crate::sink::{NtfySettings, Sink, Try};
use crate::url::HttpUrl;
use crate::webhook::Webhook;

/// Largest notification that is read, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Notifications that are handed to one sink at once; Alertmanager repeats what is beyond.
const UNDER_WAY_MAX: usize = 16;
/// Tries before Alertmanager is told to come again; with each bounded they are over well before its own limit of 30 seconds.
const TRIES: u32 = 3;
/// The wait after the first try; it doubles.
const BACKOFF: Duration = Duration::from_millis(250);
/// How long a delivered notice is remembered: longer than Alertmanager's repeats after a failure, shorter than `repeat_interval`.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
const REMEMBERED_MAX: usize = 1_024;

/// Every outcome that is counted: shown as 0 from the beginning, so that the first failure is an increase.
const OUTCOMES: [&str; 5] = ["delivered", "repeated", "refused", "failed", "overloaded"];

/// What the relay is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The phone.
    pub ntfy: NtfySettings,
    /// Slack's incoming webhook; `None`: nobody reads along there.
    pub slack: Option<HttpUrl>,
}

/// The relay.
#[derive(Clone)]
pub struct Relay {
    ntfy: Arc<Outlet>,
    slack: Option<Arc<Outlet>>,
}

/// One sink, with what it has had.
struct Outlet {
    sink: Sink,
    client: Client,
    places: Semaphore,
    delivered: Mutex<HashMap<u64, Instant>>,
}

/// What came of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Repeated,
    Refused,
    Failed,
}

impl Relay {
    /// Makes the relay.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let client = Client::new();
        let outlet = |sink| Arc::new(Outlet::new(sink, client.clone()));
        Self {
            ntfy: outlet(Sink::Ntfy(settings.ntfy)),
            slack: settings.slack.map(|url| outlet(Sink::Slack(url))),
        }
    }

    /// Returns its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/ntfy", post(ntfy))
            .route("/slack", post(slack))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

impl Outlet {
    fn new(sink: Sink, client: Client) -> Self {
        for outcome in OUTCOMES {
            telemetry::add_labelled(Metric::AlertNotifications, &[sink.name(), outcome], 0);
        }
        Self {
            sink,
            client,
            places: Semaphore::new(UNDER_WAY_MAX),
            delivered: Mutex::new(HashMap::new()),
        }
    }

    fn count(&self, outcome: &'static str) {
        telemetry::add_labelled(Metric::AlertNotifications, &[self.sink.name(), outcome], 1);
    }

    /// Takes one notification. A 5xx makes Alertmanager come again soon; a 4xx at its next interval.
    async fn take(&self, body: &Bytes) -> StatusCode {
        let webhook: Webhook = match serde_json::from_slice(body) {
            Ok(webhook) => webhook,
            Err(error) => {
                tracing::warn!(receiver = self.sink.name(), %error, "not Alertmanager's format");
                return StatusCode::BAD_REQUEST;
            }
        };
        let Ok(_place) = self.places.try_acquire() else {
            self.count("overloaded");
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        let mut answer = StatusCode::OK;
        for notice in Notice::of(&webhook) {
            answer = match self.hand_on(&notice).await {
                Outcome::Delivered | Outcome::Repeated => answer,
                Outcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
                // What is less urgent would fail as well, and its time is the next notification's.
                Outcome::Failed => return StatusCode::BAD_GATEWAY,
            };
        }
        answer
    }

    async fn hand_on(&self, notice: &Notice) -> Outcome {
        if self.has_had(notice) {
            self.count("repeated");
            return Outcome::Repeated;
        }
        let outcome = self.try_some_times(notice).await;
        match outcome {
            Outcome::Refused => self.count("refused"),
            Outcome::Failed => self.count("failed"),
            Outcome::Delivered | Outcome::Repeated => {
                self.remember(notice);
                self.count("delivered");
            }
        }
        outcome
    }

    async fn try_some_times(&self, notice: &Notice) -> Outcome {
        let receiver = self.sink.name();
        let mut wait = BACKOFF;
        for number in 1..=TRIES {
            match self.sink.send(&self.client, notice).await {
                Try::Delivered => return Outcome::Delivered,
                Try::Refused(status) => {
                    tracing::error!(receiver, status, "a notice was refused");
                    return Outcome::Refused;
                }
                Try::Busy(status) => {
                    tracing::warn!(receiver, number, status, "a notice was not taken")
                }
                Try::Failed(error) => {
                    let reason = chain(&error);
                    tracing::warn!(receiver, number, reason, "a notice could not be sent");
                }
            }
            if number < TRIES {
                // Several that failed together do not come again together.
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
                wait = wait.saturating_mul(2);
            }
        }
        Outcome::Failed
    }

    fn has_had(&self, notice: &Notice) -> bool {
        let delivered = self.delivered.lock();
        delivered.get(&notice.identity).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn remember(&self, notice: &Notice) {
        let mut delivered = self.delivered.lock();
        if delivered.len() >= REMEMBERED_MAX {
            delivered.retain(|_, at| at.elapsed() < REMEMBERED);
        }
        // So many in ten minutes: rather ring twice than not know a limit.
        if delivered.len() >= REMEMBERED_MAX {
            delivered.clear();
        }
        delivered.insert(notice.identity, Instant::now());
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn ntfy(State(relay): State<Relay>, body: Bytes) -> StatusCode {
    relay.ntfy.take(&body).await
}

/// Without an address nobody reads along, and Alertmanager has nothing to repeat.
async fn slack(State(relay): State<Relay>, body: Bytes) -> StatusCode {
    match &relay.slack {
        Some(outlet) => outlet.take(&body).await,
        None => StatusCode::OK,
    }
}

async fn health(State(relay): State<Relay>) -> Response {
    let body = json!({
        "status": "ok",
        "service": "kx-alert-relay",
        "version": env!("CARGO_PKG_VERSION"),
        "slack": relay.slack.is_some(),
    });
    axum::Json(body).into_response()
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Priority;

    #[test]
    fn what_is_remembered_is_bounded() {
        let url = HttpUrl::parse("http://localhost").expect("it is good");
        let outlet = Outlet::new(Sink::Slack(url), Client::new());
        let notice = |identity| Notice {
            title: String::new(),
            text: String::new(),
            priority: Priority::Low,
            tags: Vec::new(),
            link: None,
            identity,
        };
        for identity in 0..5_000 {
            outlet.remember(&notice(identity));
            assert!(outlet.has_had(&notice(identity)));
            assert!(outlet.delivered.lock().len() <= REMEMBERED_MAX);
        }
        assert!(!outlet.has_had(&notice(5_001)));
    }
}
