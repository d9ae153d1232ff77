//! The process is killed at random moments under load: nothing that was acknowledged is lost, nothing happens twice.
//!
//! `KX_KILLS` says how often (5 unless given), `KX_SEED` repeats a run's moments.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use e2e::{Exchange, Random, Trader, limit, wait_for};
use serde_json::{Value, json};

const TRADERS: usize = 8;
/// Orders that are asked for one by one, within what one user may ask in a second.
const ASKED_MAX: usize = 60;

/// One order as its sender knows it.
#[derive(Debug)]
struct Sent {
    trader: usize,
    key: String,
    order: Value,
    /// The body of a 201; nothing where the connection broke before the answer.
    answer: Option<Value>,
}

type Log = Arc<Mutex<Vec<Sent>>>;

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_lost_or_done_twice() {
    let kills = std::env::var("KX_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut random = Random::from_environment();
    let mut exchange = Exchange::demo();
    let (mut acknowledged, mut repeated) = (0, 0);
    for kill in 1..=kills {
        let sent = load_and_kill(&mut exchange, &mut random);
        assert!(exchange.postgres_runs(), "a killed parent leaves its PostgreSQL running");
        exchange.start();
        let users = [Trader::alice(&exchange), Trader::bob(&exchange)];
        let there = check_acknowledged(&exchange, &users, &sent);
        let again = repeat_unanswered(&users, &sent);
        let verified = exchange.verify(&exchange.psql());
        assert!(verified.status.success(), "after kill {kill}: {verified:?}");
        println!("kill {kill} of {kills}: {there} acknowledged orders are there, {again} repeated");
        acknowledged += there;
        repeated += again;
    }
    println!("{acknowledged} orders acknowledged, {repeated} repeated");
    assert!(acknowledged > 0, "no order was acknowledged in any round, so nothing was tested");
}

/// Loads the exchange and kills it at a random moment after the first acknowledgement.
fn load_and_kill(exchange: &mut Exchange, random: &mut Random) -> Vec<Sent> {
    let log = Log::default();
    let mut users = [Trader::alice(exchange), Trader::bob(exchange)];
    // What rests from the last round would use up the open orders that one account may have.
    for user in &mut users {
        let cancelled = user.http.send("DELETE", "/api/v1/orders", &[], None).expect("it answers");
        assert!(cancelled.status < 300, "{cancelled:?}");
    }
    let threads: Vec<_> = (0..TRADERS)
        .map(|number| {
            let trader = users[number % 2].again();
            let random = Random::new(random.next());
            let log = Arc::clone(&log);
            thread::spawn(move || trade(number % 2, trader, random, &log))
        })
        .collect();
    wait_for("the first acknowledgement", Duration::from_secs(30), || {
        (!log.lock().expect("no trader panics").is_empty()).then_some(())
    });
    // The moment of the kill is the random part of the test; nothing is waited for here.
    thread::sleep(Duration::from_millis(random.below(700)));
    exchange.kill();
    threads.into_iter().for_each(|thread| thread.join().expect("no trader panics"));
    Arc::into_inner(log).expect("all traders are gone").into_inner().expect("none panicked")
}

/// Places orders that cross and orders that rest, until the connection breaks.
fn trade(number: usize, mut trader: Trader, mut random: Random, log: &Log) {
    loop {
        let side = if random.below(2) == 0 { "buy" } else { "sell" };
        let price = format!("{}.00", 3_000 + random.below(20));
        let mut order = limit("ETH/USD", side, "0.01", &price);
        if random.below(2) == 0 {
            order["timeInForce"] = json!("ioc");
        }
        let key = format!("{:016x}{:016x}", random.next(), random.next());
        let answer = trader.place_once(&key, &order);
        let broken = answer.is_err();
        let answer = match answer {
            Err(_) => None,
            Ok(answer) if answer.status == 201 => Some(answer.json()),
            // Refused or limited: nothing was promised.
            Ok(answer) if matches!(answer.status, 202 | 422 | 429 | 503) => continue,
            Ok(answer) => panic!("{answer:?}"),
        };
        let mut log = log.lock().expect("no trader panics");
        log.push(Sent { trader: number, key, order, answer });
        if broken {
            return;
        }
    }
}

/// Every acknowledged order is there, and each once. Returns how many they are.
fn check_acknowledged(exchange: &Exchange, users: &[Trader; 2], sent: &[Sent]) -> usize {
    let mut ids = BTreeSet::new();
    for answer in sent.iter().filter_map(|sent| sent.answer.as_ref()) {
        let id = answer["id"].as_str().expect("an id is text");
        assert!(ids.insert(id), "{id} was given to two orders");
    }
    // The newest are those at risk; all are looked for in the table below.
    let newest = sent.iter().rev().filter(|sent| sent.answer.is_some()).take(ASKED_MAX);
    for Sent { trader, answer, .. } in newest {
        let answer = answer.as_ref().expect("it was filtered");
        let id = answer["id"].as_str().expect("an id is text");
        let found = users[*trader].again().order(id);
        let found = found.unwrap_or_else(|| panic!("{answer} was acknowledged and is gone"));
        assert_eq!(found["quantity"], answer["quantity"], "{found} is not {answer}");
    }
    let psql = exchange.psql();
    wait_for("the projection", Duration::from_secs(30), || {
        let known: BTreeSet<String> = psql.rows("SELECT id FROM orders").into_iter().collect();
        ids.iter().all(|id| known.contains(*id)).then_some(())
    });
    let doubled = psql.rows("SELECT id FROM orders GROUP BY id HAVING count(*) > 1");
    assert!(doubled.is_empty(), "{doubled:?}");
    ids.len()
}

/// What was not answered is sent again with its key, twice: it is one order, whether the first had got through or not.
/// Returns how many they are.
fn repeat_unanswered(users: &[Trader; 2], sent: &[Sent]) -> usize {
    let unanswered: Vec<&Sent> = sent.iter().filter(|sent| sent.answer.is_none()).collect();
    for Sent { trader, key, order, .. } in &unanswered {
        let mut trader = users[*trader].again();
        let first = trader.place_once(key, order).expect("it answers");
        let second = trader.place_once(key, order).expect("it answers");
        match first.status {
            200 | 201 => {
                assert_eq!(second.status, 200, "a repeat: {second:?}");
                assert_eq!(second.json(), first.json(), "the same order");
            }
            422 => assert_eq!(second.status, 422, "{second:?}"),
            // The core has counted the orders of the load: this one is decided too, and stays refused.
            429 if !first.json()["order"].is_null() => {
                assert_eq!(second.status, 429, "{second:?}");
                assert_eq!(
                    second.json()["order"]["id"],
                    first.json()["order"]["id"],
                    "the same order"
                );
            }
            _ => panic!("{first:?}"),
        }
    }
    unanswered.len()
}
