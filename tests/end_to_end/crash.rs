//! The process is killed at random moments under load: nothing that was acknowledged is lost, nothing happens twice.
//!
//! `KX_KILLS` says how often (5 unless given), `KX_SEED` repeats a run's moments.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use e2e::{Exchange, Random, Trader, limit, wait_for};
use serde_json::Value;

const TRADERS: usize = 8;
/// Orders that are asked for one by one, within what one user may ask in a second.
const ASKED_MAX: usize = 80;

/// What was acknowledged: the ids, and the bodies as they were answered.
type Acknowledged = Arc<Mutex<Vec<Value>>>;

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_lost_or_done_twice() {
    let kills = std::env::var("KX_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut random = Random::from_environment();
    let mut exchange = Exchange::demo();
    let mut total = 0;
    for kill in 1..=kills {
        let acknowledged = load_and_kill(&mut exchange, &mut random);
        assert!(exchange.postgres_runs(), "a killed parent leaves its PostgreSQL running");
        exchange.start();
        check(&exchange, &acknowledged);
        let verified = exchange.verify(&exchange.psql());
        assert!(verified.status.success(), "after kill {kill}: {verified:?}");
        total += acknowledged.len();
        println!("kill {kill} of {kills}: {} orders acknowledged, all there", acknowledged.len());
    }
    assert!(total > 0, "no order was acknowledged in any round, so nothing was tested");
}

/// Loads the exchange and kills it at a random moment after the first acknowledgement.
fn load_and_kill(exchange: &mut Exchange, random: &mut Random) -> Vec<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Acknowledged::default();
    let users = [Trader::alice(exchange), Trader::bob(exchange)];
    let threads: Vec<_> = (0..TRADERS)
        .map(|number| {
            let trader = users[number % 2].again();
            let random = Random::new(random.next());
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            thread::spawn(move || trade(trader, random, &stop, &acknowledged))
        })
        .collect();
    wait_for("the first acknowledgement", Duration::from_secs(30), || {
        (!acknowledged.lock().expect("no trader panics").is_empty()).then_some(())
    });
    // The moment of the kill is the random part of the test; nothing is waited for here.
    thread::sleep(Duration::from_millis(random.below(700)));
    exchange.kill();
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("no trader panics"));
    Arc::into_inner(acknowledged)
        .expect("all traders are gone")
        .into_inner()
        .expect("none panicked")
}

/// Places orders that cross and orders that rest, until the connection breaks.
fn trade(mut trader: Trader, mut random: Random, stop: &AtomicBool, acknowledged: &Acknowledged) {
    while !stop.load(Ordering::Relaxed) {
        let side = if random.below(2) == 0 { "buy" } else { "sell" };
        let price = format!("{}.00", 3_000 + random.below(20));
        let Ok(answer) = trader.place(&limit("ETH/USD", side, "0.01", &price)) else {
            return;
        };
        match answer.status {
            201 => acknowledged.lock().expect("no trader panics").push(answer.json()),
            // Refused, limited, or on its way down: nothing was promised.
            202 | 422 | 429 | 503 => {}
            other => panic!("{other}: {answer:?}"),
        }
    }
}

/// Every acknowledged order is there, and each once.
fn check(exchange: &Exchange, acknowledged: &[Value]) {
    let mut alice = Trader::alice(exchange);
    let mut bob = Trader::bob(exchange);
    let mut ids = BTreeSet::new();
    for order in acknowledged {
        let id = order["id"].as_str().expect("an id is text");
        assert!(ids.insert(id), "{id} was given to two orders");
    }
    // The newest are those at risk; all are looked for in the table below.
    for order in acknowledged.iter().rev().take(ASKED_MAX) {
        let id = order["id"].as_str().expect("an id is text");
        let found = alice.order(id).or_else(|| bob.order(id));
        let found = found.unwrap_or_else(|| panic!("{order} was acknowledged and is gone"));
        assert_eq!(found["quantity"], order["quantity"], "{found} is not {order}");
    }
    // Once: in the projected table too, when it has caught up.
    let psql = exchange.psql();
    wait_for("the projection", Duration::from_secs(30), || {
        let known: BTreeSet<String> = psql.rows("SELECT id FROM orders").into_iter().collect();
        ids.iter().all(|id| known.contains(*id)).then_some(())
    });
    let doubled = psql.rows("SELECT id FROM orders GROUP BY id HAVING count(*) > 1");
    assert!(doubled.is_empty(), "{doubled:?}");
}
