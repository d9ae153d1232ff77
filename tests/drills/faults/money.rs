//! Races for the same money.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use e2e::{Answer, Exact, limit, wait_for};
use serde_json::{Value, json};

use crate::drill::Run;
use crate::flow::decimal;
use crate::process::PATIENCE;
use crate::user::Client;

/// Sends until there is an answer that says something.
fn ask(client: &mut Client, method: &str, path: &str, key: &str, body: Option<&Value>) -> Answer {
    wait_for("an answer", PATIENCE, || {
        let answer = client.send(method, path, &[("idempotency-key", key)], body);
        let answer = answer.ok().filter(|answer| !matches!(answer.status, 202 | 401 | 429 | 500..));
        if answer.is_none() {
            thread::sleep(std::time::Duration::from_millis(50));
        }
        answer
    })
}

pub(super) fn cancel_match(run: &mut Run<'_>) {
    run.stand.cancel_all();
    let pairs = run.or_long(200_u64, 10_000);
    let (maker, taker) = (run.stand.own_users[0].clone(), run.stand.own_users[1].clone());
    let tag = run.random.next();
    let (mut makers, mut canceller, mut takers) =
        (run.stand.client(&maker), run.stand.client(&maker), run.stand.client(&taker));
    let (mut cancelled, mut matched) = (0_u64, 0_u64);
    for pair in 0..pairs {
        let quantity = decimal(1_000_000 + pair);
        let key = |what: &str| format!("{tag:x}-{pair}-{what}");
        let resting = limit("BTC/USD", "sell", &quantity, "65000.00");
        let placed = ask(&mut makers, "POST", "/api/v1/orders", &key("sell"), Some(&resting));
        let placed = placed.expect(201);
        let id = placed["id"].as_str().expect("an order has an id").to_owned();
        let mut crossing = limit("BTC/USD", "buy", &quantity, "65000.00");
        crossing["timeInForce"] = "ioc".into();
        let barrier = Barrier::new(2);
        let (cancel, buy) = thread::scope(|scope| {
            let cancel = scope.spawn(|| {
                barrier.wait();
                ask(&mut canceller, "DELETE", &format!("/api/v1/orders/{id}"), &key("cancel"), None)
            });
            barrier.wait();
            let buy = ask(&mut takers, "POST", "/api/v1/orders", &key("buy"), Some(&crossing));
            (cancel.join().expect("no client panics"), buy)
        });
        let bought = buy.expect(201)["status"].as_str() == Some("filled");
        match (bought, cancel.status) {
            (true, 409) => matched += 1,
            (false, 200) => cancelled += 1,
            _ => panic!("not exactly one has won: bought {bought}, cancel {cancel:?}, {buy:?}"),
        }
    }
    run.faults += pairs;
    run.note(format!("{cancelled} cancellations and {matched} matches of {pairs} have won"));
    run.check();
}

pub(super) fn last_coin(run: &mut Run<'_>) {
    const THREADS: usize = 63;
    let (spender, payee) = (run.stand.own_users[2].clone(), run.stand.own_users[3].clone());
    let mut client = run.stand.client(&spender);
    let mut other = run.stand.client(&payee);
    let tag = run.random.next();
    let wallet = ask(&mut other, "GET", "/api/v1/wallet/balances", "", None).expect(200);
    let to = wallet["address"].as_str().expect("a wallet has an address").to_owned();
    let mut winners: BTreeMap<&'static str, u32> = BTreeMap::new();
    for round in 0..run.or_long(6, 100) {
        let deposit = json!({"asset": "USDT", "amount": "100"});
        let key = format!("{tag:x}-{round}-deposit");
        let answer = ask(&mut client, "POST", "/api/v1/wallet/deposit", &key, Some(&deposit));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let spends: [(&'static str, &str, Value); 3] = [
            ("order", "/api/v1/orders", limit("BTC/USDT", "buy", "0.0016", "62500.00")),
            (
                "withdrawal",
                "/api/v1/wallet/withdraw",
                json!({"asset": "USDT", "amount": "100", "destination": "somewhere"}),
            ),
            (
                "transfer",
                "/api/v1/wallet/transfer",
                json!({"asset": "USDT", "amount": "100", "to": to}),
            ),
        ];
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (name, path, body) = spends[number % spends.len()].clone();
                let (barrier, path) = (Arc::clone(&barrier), path.to_owned());
                let mut client = run.stand.client(&spender);
                let key = format!("{tag:x}-{round}-{number}");
                thread::spawn(move || {
                    barrier.wait();
                    (name, ask(&mut client, "POST", &path, &key, Some(&body)))
                })
            })
            .collect();
        let answers: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        let won: Vec<_> = answers.iter().filter(|(_, answer)| answer.status < 300).collect();
        assert_eq!(won.len(), 1, "the last coin was spent {} times: {won:?}", won.len());
        let others = answers.iter().filter(|(_, answer)| answer.status >= 300);
        for (_, answer) in others {
            assert_eq!(answer.json()["code"], "insufficient_funds", "{answer:?}");
        }
        *winners.entry(won[0].0).or_default() += 1;
        run.faults += 1;
        empty(&mut client, &tag, round);
    }
    run.note(format!("who has won: {winners:?}"));
    run.check();
}

/// Takes back what rests and gives away what is left, so that the next round begins with nothing.
fn empty(client: &mut Client, tag: &u64, round: u64) {
    ask(client, "DELETE", "/api/v1/orders", &format!("{tag:x}-{round}-all"), None);
    let balances = ask(client, "GET", "/api/v1/wallet/balances", "", None).expect(200);
    let list = balances["balances"].as_array().cloned().unwrap_or_default();
    let left = list.iter().find(|balance| balance["asset"] == "USDT");
    let left = left.map_or(Exact(0), |balance| Exact::of(&balance["available"]));
    if left > Exact(0) {
        let withdraw = json!({"asset": "USDT", "amount": "100", "destination": "elsewhere"});
        let key = format!("{tag:x}-{round}-rest");
        let answer = ask(client, "POST", "/api/v1/wallet/withdraw", &key, Some(&withdraw));
        assert!(answer.status < 300, "{answer:?}");
    }
}
