//! A circuit breaker: whoever is away or slow is not called again and again.
//!
//! Closed, calls go through and their outcomes are counted: failures, and successes that took too long. Too many among the
//! last ones open it, and calls are refused at once. After a while it is half open: one call at a time goes through as a
//! probe; good ones close it, a bad one opens it again, for twice as long.
//!
//! Invariant: a call that was let through is recorded exactly once, as bad if nobody says anything else; what was let through
//! before a change of state is not counted after it.

mod core;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use telemetry::Metric;

pub use crate::core::{Core, Rules, State, Ticket};

/// A call was refused without being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open")]
pub struct Refused {
    /// After this time asking again may help.
    pub retry_in: Duration,
}

/// A circuit breaker, with its metrics.
#[derive(Debug)]
pub struct Breaker {
    name: &'static str,
    core: Mutex<Core>,
    begun: Instant,
}

impl Breaker {
    /// Makes a closed one. The name is a label of its metrics.
    #[must_use]
    pub fn new(name: &'static str, rules: Rules) -> Self {
        telemetry::add_labelled(Metric::CircuitBreakerOpened, &[name], 0);
        show(name, State::Closed);
        Self { name, core: Mutex::new(Core::new(rules)), begun: Instant::now() }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns how it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.core.lock().state()
    }

    /// Returns how many calls would be let through now, at most `most`.
    #[must_use]
    pub fn room(&self, most: usize) -> usize {
        self.core.lock().room(self.begun.elapsed(), most)
    }

    /// Asks for a call.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn permit(&self) -> Result<Permit<'_>, Refused> {
        let mut core = self.core.lock();
        let before = core.state();
        let asked = core.ask(self.begun.elapsed());
        self.note(before, core.state());
        let ticket = asked.map_err(|retry_in| Refused { retry_in })?;
        Ok(Permit { breaker: self, ticket: Some(ticket), begun: Instant::now() })
    }

    fn record(&self, ticket: Ticket, good: bool) {
        let mut core = self.core.lock();
        let before = core.state();
        if core.record(self.begun.elapsed(), ticket, good) {
            telemetry::add_labelled(Metric::CircuitBreakerOpened, &[self.name], 1);
        }
        self.note(before, core.state());
    }

    /// Tells of a change, under the lock, so that the last word is the last change.
    fn note(&self, before: State, after: State) {
        if before != after {
            show(self.name, after);
            let (breaker, state) = (self.name, after.name());
            match after {
                State::Open => tracing::warn!(breaker, state, "a circuit breaker opened"),
                State::Closed | State::HalfOpen => {
                    tracing::info!(breaker, state, "a circuit breaker changed");
                }
            }
        }
    }
}

fn show(name: &str, state: State) {
    let value = match state {
        State::Closed => 0.0,
        State::HalfOpen => 1.0,
        State::Open => 2.0,
    };
    telemetry::set_labelled(Metric::CircuitBreakerState, &[name], value);
}

/// One call that is let through.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a bad call"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    ticket: Option<Ticket>,
    begun: Instant,
}

impl Permit<'_> {
    /// Records that the call has succeeded; one that took too long counts as bad all the same.
    pub fn succeeded(mut self) {
        let slow = self.breaker.core.lock().rules().slow;
        let good = self.begun.elapsed() <= slow;
        self.end(good);
    }

    /// Records that the call has failed.
    pub fn failed(mut self) {
        self.end(false);
    }

    fn end(&mut self, good: bool) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.record(ticket, good);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.end(false);
    }
}
