//! Start, stop, start again; and the start-up errors of the runbook, word for word.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use e2e::{Exchange, Settings, Trader, free_port, limit, run, wait_for};
use rustix::process::Signal;

const SECRET: &str = "an end-to-end test signs with this key 0123456789";

#[test]
fn ctrl_c_stops_everything_and_a_second_start_still_has_it() {
    let mut exchange = Exchange::demo();
    let mut alice = Trader::alice(&exchange);
    let order = alice.place(&limit("BTC/USD", "buy", "0.01", "1000.00"));
    let refused_by_band = order.expect("it answers").status == 422;
    let eth = limit("ETH/USD", "buy", "0.01", "2900.00");
    let resting = alice.place(&eth).expect("it answers").expect(201);
    let balances = alice.balances();
    assert!(refused_by_band, "a price far off the market is refused");

    let status = exchange.stop(Signal::INT);
    assert!(status.success(), "{status}: {}", exchange.said());
    assert!(!exchange.postgres_runs(), "PostgreSQL stops with it");

    exchange.start();
    let mut alice = Trader::alice(&exchange);
    assert_eq!(alice.balances(), balances);
    let id = resting["id"].as_str().expect("an id is text");
    assert_eq!(alice.order(id).expect("it is still there")["status"], "open");
    let status = exchange.stop(Signal::TERM);
    assert!(status.success(), "{status}: {}", exchange.said());
    assert!(!exchange.postgres_runs(), "PostgreSQL stops with it");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let environment = vec![("PORT".to_owned(), port.clone())];
    let mut exchange = Exchange::unstarted(Settings { environment, ..Settings::default() });
    exchange.spawn();
    let status = wait_for("the end", Duration::from_secs(30), || exchange.ended());
    assert!(!status.success());
    let said = wait_for("its last words", Duration::from_secs(5), || {
        Some(exchange.said()).filter(|said| said.contains("Port already in use"))
    });
    assert!(said.contains(&port), "{said}");
    assert!(!exchange.postgres_runs(), "nothing is left running");
}

#[test]
fn a_missing_or_bad_jwt_secret_is_named_and_not_printed() {
    for secret in [
        None,
        Some(""),
        Some("   "),
        Some("short-secret"),
        Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        let mut environment =
            vec![("DB_PASSWORD", "password-of-a-test"), ("RABBITMQ_URL", "amqp://localhost")];
        environment.extend(secret.map(|secret| ("JWT_SECRET", secret)));
        let output = run(&["server"], &environment);
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{secret:?}: {said}");
        assert!(said.contains("Invalid JWT_SECRET"), "{secret:?}: {said}");
        assert!(!said.contains("password-of-a-test"), "{said}");
        if let Some(secret) = secret.filter(|secret| !secret.trim().is_empty()) {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn a_database_that_is_not_there_is_waited_for() {
    let environment = [
        ("DB_HOST", "127.0.0.1".to_owned()),
        ("DB_PORT", free_port().to_string()),
        ("DB_PASSWORD", "password".to_owned()),
        ("JWT_SECRET", SECRET.to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut exchange = Exchange::unstarted(Settings { environment, ..Settings::default() });
    exchange.spawn();
    let limit = Duration::from_secs(20);
    wait_for("ECONNREFUSED in the log", limit, || {
        exchange.said().contains("ECONNREFUSED").then_some(())
    });
    let health = wait_for("an answer", limit, || exchange.http().get("/health").ok());
    assert_eq!(health.status, 200, "{health:?}");
    let ready = exchange.http().get("/ready").expect("it answers");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(exchange.ended().is_none(), "it goes on waiting");
    let status = exchange.stop(Signal::INT);
    assert!(status.success(), "{status}: {}", exchange.said());
}
