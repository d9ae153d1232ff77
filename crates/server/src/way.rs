//! When a request came by the stations of its way: noted by whoever works on it, read when it is answered.
//!
//! Invariant: a note changes nothing but the trace; without a request (work in the background) it goes nowhere.

use std::cell::RefCell;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use engine::{Action, Command};
use follower::Outcome;
use trace::{BatchTiming, Micros, Sent, Timed};
use units::Time;

use crate::app::App;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

tokio::task_local! {
    static WAY: RefCell<Way>;
}

/// What is noted of one request.
pub(crate) struct Way {
    begun: Micros,
    /// When it was known who asks, in microseconds after it began.
    pub(crate) authenticated: Option<u32>,
    /// Its command.
    pub(crate) sent: Option<Sent>,
    /// The times of its command's row.
    pub(crate) timing: Option<Arc<BatchTiming>>,
    /// Journal time when the command was submitted, as far as this server knew.
    journal_time: Time,
}

/// Runs a request's work, and returns what was noted meanwhile.
pub(crate) async fn noting<R>(begun: Micros, work: impl Future<Output = R>) -> (R, Way) {
    let way =
        Way { begun, authenticated: None, sent: None, timing: None, journal_time: Time::ZERO };
    let mut scope = std::pin::pin!(WAY.scope(RefCell::new(way), work));
    let result = scope.as_mut().await;
    let way = scope.as_mut().take_value().map(RefCell::into_inner);
    // The value is there: it was given above, and is taken here only.
    (result, way.expect("a scope keeps its value"))
}

fn note(f: impl FnOnce(&mut Way, u32)) {
    // Outside of a request there is nobody to note it for.
    let _ = WAY.try_with(|way| {
        let mut way = way.borrow_mut();
        let now = Micros::now().since(way.begun);
        f(&mut way, now);
    });
}

/// It is known who asks, and that they may.
pub(crate) fn authenticated() {
    note(|way, now| way.authenticated = Some(now));
}

/// A command is about to be published.
pub(crate) fn submitted(app: &App, command: &Command) {
    note(|way, now| {
        way.journal_time = app.live.journal_now();
        way.sent = Some(Sent {
            command: command.id.get(),
            action: name(&command.action).into(),
            market: market(app, &command.action),
            submitted: now,
            confirmed: None,
            given_up: None,
            queued_by_journal_time: None,
            outcome: None,
        });
    });
}

/// The queue has said what became of it, or its outcome has, which says more.
pub(crate) fn confirmed() {
    note(|way, now| {
        if let Some(sent) = &mut way.sent {
            sent.confirmed = Some(now);
        }
    });
}

/// Its outcome was followed.
pub(crate) fn seen(outcome: &Outcome) {
    note(|way, _| {
        let Some(sent) = &mut way.sent else { return };
        let batch = &outcome.applied.batch;
        let queued = batch.time.micros_since(way.journal_time);
        sent.queued_by_journal_time = Some(u32::try_from(queued).unwrap_or(u32::MAX));
        sent.outcome = Some(trace::Outcome {
            sequence: batch.sequence.get(),
            index: u32::try_from(outcome.index).unwrap_or(u32::MAX),
            seen: outcome.seen.since(way.begun),
        });
        way.timing.clone_from(&outcome.timing);
    });
}

/// Nobody waits for it any more. Where its outcome was not seen, that is all that is known of the wait.
pub(crate) fn waited() {
    note(|way, now| {
        if let Some(sent) = way.sent.as_mut().filter(|sent| sent.outcome.is_none()) {
            sent.given_up = Some(now);
        }
    });
}

fn market(app: &App, action: &Action) -> Option<String> {
    let Action::PlaceOrder(order) = action else { return None };
    app.live.read(|state| state.market(order.market).map(|market| market.config.symbol.to_string()))
}

/// Says how long each stage of a command has taken, in milliseconds, as the W3C's Server Timing has it: the sum is the
/// whole, from the request's head to its answer.
pub(crate) fn server_timing(headers: &mut HeaderMap, stages: &[Timed]) {
    let mut text = String::with_capacity(256);
    let mut whole = 0;
    for timed in stages {
        whole += timed.micros;
        text.push_str(timed.stage.name());
        text.push_str(";dur=");
        push_millis(&mut text, timed.micros);
        text.push_str(if timed.estimated { ";desc=\"estimated\", " } else { ", " });
    }
    text.push_str("total;dur=");
    push_millis(&mut text, whole);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(SERVER_TIMING, value);
    }
}

/// Writes microseconds as milliseconds with three digits of fraction.
fn push_millis(text: &mut String, micros: u32) {
    // The divisors of the digits that 32 bits may need; the point is before the last three.
    let mut divisor = 1_000_000_000;
    while divisor > 0 {
        if divisor == 100 {
            text.push('.');
        }
        if divisor <= 1_000 || micros >= divisor {
            let digit = micros / divisor % 10;
            text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
        divisor /= 10;
    }
}

/// Names an action, as traces have it.
fn name(action: &Action) -> &'static str {
    match action {
        Action::PlaceOrder(_) => "place_order",
        Action::CancelOrder { .. } => "cancel_order",
        Action::Deposit { .. } => "deposit",
        Action::Transfer { .. } => "transfer",
        Action::RequestWithdrawal { .. } => "request_withdrawal",
        Action::OpenAccount { .. } => "open_account",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_with_three_digits_of_fraction() {
        for micros in [0, 7, 99, 100, 999, 1_000, 1_234, 65_536, 999_999_999, u32::MAX] {
            let mut text = String::new();
            push_millis(&mut text, micros);
            assert_eq!(text, format!("{}.{:03}", micros / 1_000, micros % 1_000));
        }
    }
}
