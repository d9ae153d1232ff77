//! Runs the exchange as a person does: the real binary in a directory of its own, asked over plain HTTP.
//!
//! Invariant: whatever becomes of a test, nothing that it started is left behind.

mod exchange;
mod http;
mod maildev;
mod postgres;
mod random;
mod schemathesis;
mod trader;

pub use exchange::{Exchange, Settings, binary, clean, free_port, run};
pub use http::{Answer, Http};
pub use maildev::{MailDev, authenticator_code};
pub use postgres::Psql;
pub use random::Random;
pub use schemathesis::Fuzz;
pub use trader::{Exact, Held, Trader, limit, market};

use std::time::{Duration, Instant};

/// Waits until `ready` gives something, looking often; a test waits for a state, never for a time.
///
/// # Panics
///
/// When it takes longer than `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
