//! RabbitMQ away, restarted, blocked, deaf, purged.

use std::time::{Duration, Instant};

use e2e::wait_for;

use super::processes::FAILOVER_UNSEEN;
use crate::drill::Run;
use crate::management::{Management, ORDERS};
use crate::process::PATIENCE;
use crate::proxy::Mode;

/// How soon orders must flow again after the broker has come back.
const BACK: Duration = Duration::from_secs(15);
/// The longest that a server may take to answer while the broker takes nothing: it waits five seconds for an outcome.
const ANSWER: Duration = Duration::from_secs(10);

fn ctl(run: &Run<'_>, arguments: &[&str]) {
    run.stand.broker.ctl(arguments).unwrap_or_else(|error| panic!("{error}"));
}

pub(super) fn partition(run: &mut Run<'_>) {
    let load = run.load();
    let active = run.stand.wait_active();
    let fault = Instant::now();
    run.stand.processors[active].broker.set(Mode::Hole);
    run.faults += 1;
    let took = run.recovered(&load, fault, FAILOVER_UNSEEN);
    if run.long {
        std::thread::sleep(Duration::from_secs(60).saturating_sub(took));
    }
    // What it would still send over the old connection, acknowledgements among it, arrives now.
    run.stand.processors[active].broker.set(Mode::Open);
    run.wait_orders(&load, 50);
    // The older one finds out at its next append, if it has not yet.
    wait_for("one of them alone to be active", PATIENCE, || {
        let actives = run.stand.processors.iter().filter(|one| crate::stand::is_active(one));
        (actives.count() <= 1).then_some(())
    });
    run.end_and_check(load);
}

pub(super) fn purge(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(1, 5) {
        // Nobody takes commands: they wait in the queue.
        run.stand.processors.iter_mut().for_each(crate::process::Process::kill);
        let mut management = Management::of(&run.stand.broker);
        wait_for("commands to wait in the queue", PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            (management.depth(ORDERS) >= 5).then_some(())
        });
        ctl(run, &["purge_queue", ORDERS]);
        run.faults += 1;
        let back = Instant::now();
        run.stand.processors.iter_mut().for_each(crate::process::Process::spawn);
        run.recovered(&load, back, FAILOVER_UNSEEN);
    }
    run.end_and_check(load);
}

pub(super) fn queue_deleted(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(1, 5) {
        run.random_pause(500);
        let fault = Instant::now();
        ctl(run, &["delete_queue", ORDERS]);
        run.faults += 1;
        run.recovered(&load, fault, BACK);
    }
    run.end_and_check(load);
}

pub(super) fn restart(run: &mut Run<'_>) {
    let load = run.load();
    for round in 0..run.or_long(2, 10) {
        run.random_pause(500);
        if round % 2 == 0 {
            ctl(run, &["stop_app"]);
            ctl(run, &["start_app"]);
        } else {
            run.stand.broker.kill();
            run.stand.broker.start_again().unwrap_or_else(|error| panic!("{error}"));
        }
        run.faults += 1;
        run.recovered(&load, Instant::now(), BACK);
    }
    run.end_and_check(load);
}

pub(super) fn away(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 50);
    sign_in(run);
    run.stand.broker.kill();
    run.faults += 1;
    unready_but_alive(run);
    std::thread::sleep(Duration::from_secs(run.or_long(2, 60)));
    run.stand.broker.start_again().unwrap_or_else(|error| panic!("{error}"));
    run.recovered(&load, Instant::now(), BACK);
    run.stand.wait_ready();
    run.end_and_check(load);
}

/// Signs those in who will ask while something is away: a token is good for five minutes, and signing in needs the database.
pub(super) fn sign_in(run: &Run<'_>) {
    let asking = run.stand.users.iter().take(run.stand.servers.len()).chain(&run.stand.own_users);
    for user in asking {
        let mut client = run.stand.client(user);
        wait_for("a new token", PATIENCE, || client.log_in().ok());
    }
}

/// What holds while something that a server needs is away: it lives, it is not ready, it serves its live state.
pub(super) fn unready_but_alive(run: &Run<'_>) {
    for (number, server) in run.stand.servers.iter().enumerate() {
        wait_for("a server that is not ready", PATIENCE, || {
            (server.status("/ready")? == 503).then_some(())
        });
        assert_eq!(server.status("/health"), Some(200), "{} lives", server.name);
        let book = server.http().get("/api/v1/markets/BTC-USD/book").expect("it answers");
        assert_eq!(book.status, 200, "the book is live state: {book:?}");
        let user = &run.stand.users[number];
        let mut client =
            crate::user::Client::new(user, &std::sync::Arc::new(vec![server.address()]));
        let balances = client.send("GET", "/api/v1/wallet/balances", &[], None);
        let balances = balances.expect("it answers");
        assert_eq!(balances.status, 200, "balances are live state: {balances:?}");
    }
}

pub(super) fn blocked(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 50);
    sign_in(run);
    let began = Instant::now();
    ctl(run, &["set_vm_memory_high_watermark", "0"]);
    run.faults += 1;
    // Nothing hangs: an order is answered, taken or not.
    let mut client = run.stand.client(&run.stand.own_users[0]);
    let order = e2e::limit("BTC/USD", "buy", "0.01", "64000.00");
    for number in 0..3 {
        let asked = Instant::now();
        let key = format!("blocked-{}-{number}", run.random.next());
        let headers = [("idempotency-key", key.as_str())];
        let answer = client.send("POST", "/api/v1/orders", &headers, Some(&order));
        let (answer, took) = (answer.expect("it answers"), asked.elapsed());
        run.note(format!(
            "an order was answered {} after {:.1} s",
            answer.status,
            took.as_secs_f64()
        ));
        assert!(matches!(answer.status, 201 | 202 | 503), "{answer:?}");
        let bound = if run.long { ANSWER } else { 3 * ANSWER };
        assert!(took < bound, "an order hangs for {took:?}");
    }
    std::thread::sleep(Duration::from_secs(run.or_long(1, 30)));
    ctl(run, &["set_vm_memory_high_watermark", "absolute", "1GB"]);
    run.note(format!("blocked for {:.1} s", began.elapsed().as_secs_f64()));
    run.recovered(&load, Instant::now(), BACK);
    run.end_and_check(load);
}

pub(super) fn confirm_lost(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(1, 5) {
        run.random_pause(500);
        let servers = &run.stand.servers;
        servers.iter().for_each(|server| server.broker.set(Mode::Deaf));
        run.faults += 1;
        // Orders are under way on both servers; their messages arrive, the confirmations do not.
        std::thread::sleep(Duration::from_secs(run.or_long(3, 15)));
        run.stand.servers.iter().for_each(|server| server.broker.close_all());
        let back = Instant::now();
        run.stand.servers.iter().for_each(|server| server.broker.set(Mode::Open));
        run.recovered(&load, back, BACK);
    }
    run.end_and_check(load);
}
