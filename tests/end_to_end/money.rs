//! Money is exact, whatever happens at once.

use std::sync::{Arc, Barrier};
use std::thread;

use e2e::{Answer, Exact, Exchange, Trader, limit, market};
use serde_json::Value;

const ORDERS: usize = 1_000;

/// Every asset sums to zero over all accounts, the outside world included; every wallet is the sum of its postings.
fn assert_sums(exchange: &Exchange) {
    let psql = exchange.psql();
    let sums =
        "SELECT asset_id, sum(amount) FROM postings GROUP BY asset_id HAVING sum(amount) <> 0";
    assert_eq!(psql.rows(sums), Vec::<String>::new(), "assets that do not sum to zero");
    let wallets = "SELECT * FROM (SELECT account_id, asset_id, sum(amount) AS posted FROM postings \
        WHERE account_id <> 0 GROUP BY account_id, asset_id) AS sums FULL JOIN wallets USING (account_id, asset_id) \
        WHERE coalesce(posted, 0) <> coalesce(balance, 0)";
    assert_eq!(
        psql.rows(wallets),
        Vec::<String>::new(),
        "wallets that are not the sum of their postings"
    );
}

#[test]
fn decimals_are_compared_exactly() {
    assert_eq!(Exact::new("1.5").0, 1_500_000_000_000_000_000);
    assert_eq!(Exact::new("-0.000000000000000001").0, -1);
    assert_eq!(Exact::new("100000000").0, 100_000_000_000_000_000_000_000_000);
}

#[test]
fn a_thousand_market_orders_of_one_user_at_once_leave_an_exact_balance() {
    let exchange = Exchange::demo();
    let mut alice = Trader::alice(&exchange);
    let mut bob = Trader::bob(&exchange);
    // Bob's own liquidity beside the market maker's, where the market is.
    let probe = alice.place(&market("BTC/USD", "buy", "0.0001")).expect("it answers").expect(201);
    let price = probe["fills"][0]["price"].as_str().expect("the market maker quotes").to_owned();
    bob.place(&limit("BTC/USD", "sell", "0.5", &price)).expect("it answers").expect(201);
    let before = alice.balances();

    let answers = at_once(&alice, &market("BTC/USD", "buy", "0.0001"));
    let refused: Vec<_> = answers.iter().filter(|a| a.status != 201 && a.status != 422).collect();
    assert!(refused.is_empty(), "{} unexpected answers, such as {:?}", refused.len(), refused[0]);
    let placed: Vec<Value> = answers.iter().filter(|a| a.status == 201).map(Answer::json).collect();
    assert!(placed.len() > ORDERS / 2, "only {} orders were taken", placed.len());

    let mut bought = 0;
    let mut paid = 0;
    for order in &placed {
        for fill in order["fills"].as_array().expect("fills are a list") {
            assert_eq!(fill["feeAsset"], "BTC", "a buyer receives the base asset");
            bought += Exact::of(&fill["quantity"]).0 - Exact::of(&fill["fee"]).0;
            paid += Exact::of(&fill["notional"]).0;
        }
    }
    let after = alice.balances();
    let total = |balances: &std::collections::BTreeMap<String, e2e::Held>, asset: &str| {
        balances.get(asset).map_or(0, |b| b.available.0 + b.held.0)
    };
    assert!(bought > 0, "nothing was bought");
    assert_eq!(total(&after, "BTC"), total(&before, "BTC") + bought);
    assert_eq!(total(&after, "USD"), total(&before, "USD") - paid);
    assert_eq!(after["USD"].held.0, 0, "a market order leaves no hold");
    assert_sums(&exchange);
}

/// Sends the same order on as many connections, all of them open before the first is sent.
fn at_once(alice: &Trader, order: &Value) -> Vec<Answer> {
    let barrier = Arc::new(Barrier::new(ORDERS));
    let threads: Vec<_> = (0..ORDERS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            let mut trader = alice.again();
            let order = order.clone();
            thread::spawn(move || {
                trader.http.get("/health").expect("it answers");
                barrier.wait();
                trader.place(&order).expect("it answers")
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
}
