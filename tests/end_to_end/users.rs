//! It runs as root, whom PostgreSQL refuses, and as a plain user.

use e2e::{Exchange, Settings, Trader};
use rustix::process::{Signal, geteuid};

#[test]
fn it_runs_as_whoever_starts_it() {
    // The other tests run as this very user. As root, an unprivileged one can be tried too.
    let mut users = vec![None];
    if geteuid().is_root() {
        users.push(Some("nobody".to_owned()));
    }
    for user in users {
        let arguments = vec!["--demo".to_owned()];
        let mut exchange = Exchange::with(Settings { arguments, user, ..Settings::default() });
        assert!(!Trader::alice(&exchange).balances().is_empty());
        let status = exchange.stop(Signal::INT);
        assert!(status.success(), "{status}: {}", exchange.said());
        assert!(!exchange.postgres_runs(), "PostgreSQL stops with it");
    }
}
