//! Money in, out and across.

use std::thread;

use serde_json::{Value, json};
use units::Amount;

use crate::Case;
use crate::world::{USD, World, limit};

pub const CASES: &[Case] = &[
    ("a_deposit_is_credited_once", a_deposit_is_credited_once),
    ("a_transfer_moves_exactly_its_amount", a_transfer_moves_exactly_its_amount),
    ("a_withdrawal_holds_until_it_is_taken_back", a_withdrawal_holds_until_it_is_taken_back),
    ("withdrawing_everything_at_once_succeeds_once", withdrawing_everything_at_once_succeeds_once),
    (
        "an_order_a_withdrawal_and_a_transfer_race_for_one_coin",
        an_order_a_withdrawal_and_a_transfer_race_for_one_coin,
    ),
];

const UNIT: u128 = 10_000_000_000;

fn a_deposit_is_credited_once(world: &World) {
    let user = world.user();
    let body = json!({ "asset": "USD", "amount": 100.25, "reference": "wire-1" });
    let send = |key: &str, body: &Value| {
        user.send("POST", "/api/v1/wallet/deposit", &[("idempotency-key", key)], Some(body))
    };
    let first = send("d-1", &body).expect(201);
    assert_eq!((&first["status"], &first["amount"]), (&json!("credited"), &json!("100.25")));
    assert_eq!(send("d-1", &body).expect(200), first);
    assert_eq!(send("d-2", &body).problem(409), "deposit_known", "a reference is good once");
    assert_eq!(world.balance(&user, USD).available, Amount::new(10_025 * UNIT / 100));
    let balances = user.get("/api/v1/wallet/balances").expect(200);
    assert_eq!(
        balances["balances"][0],
        json!({ "asset": "USD", "available": "100.25", "held": "0.00", "total": "100.25" })
    );
    assert_eq!(balances["address"], user.wallet.as_str());
    let sequence = balances["sequence"].to_string();
    let list = user.send(
        "GET",
        "/api/v1/wallet/transactions?asset=USD",
        &[("x-min-sequence", &sequence)],
        None,
    );
    let list = list.expect(200);
    let credited: Vec<_> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|item| item["status"] == "credited")
        .collect();
    assert_eq!(credited.len(), 1, "{list}");
    assert_eq!(credited[0]["id"], first["id"]);
}

fn a_transfer_moves_exactly_its_amount(world: &World) {
    let (from, to) = (world.funded("100.00", "0"), world.user());
    let body = |to: &str, amount: &str| json!({ "asset": "USD", "amount": amount, "to": to });
    let send = |body: &Value| from.post("/api/v1/wallet/transfer", body);
    let done = send(&body(&to.wallet, "30.01")).expect(201);
    assert_eq!(done["counterparty"], to.wallet.as_str());
    assert_eq!(world.balance(&to, USD).available, Amount::new(3_001 * UNIT / 100));
    assert_eq!(world.balance(&from, USD).available, Amount::new(6_999 * UNIT / 100));
    let before = world.digest();
    assert_eq!(send(&body(&from.wallet, "1")).problem(422), "self_transfer");
    assert_eq!(send(&body(&to.wallet, "1000")).problem(422), "insufficient_funds");
    for amount in ["0", "-1", "0.001"] {
        assert_eq!(send(&body(&to.wallet, amount)).problem(422), "value_invalid", "{amount}");
    }
    let nobody = wire::address::format(units::AccountId::new(999_999));
    assert_eq!(send(&body(&nobody, "1")).problem(404), "account_unknown");
    let typo = format!("{}q", &to.wallet[..23]);
    let wrong = if typo == to.wallet { format!("{}p", &to.wallet[..23]) } else { typo };
    assert_eq!(send(&body(&wrong, "1")).problem(422), "value_invalid");
    for own in [0, 1] {
        let reserved = wire::address::format(units::AccountId::new(own));
        let status = send(&body(&reserved, "1")).status;
        assert!(matches!(status, 404 | 422), "the exchange's own account {own}: {status}");
    }
    assert_eq!(world.digest(), before);
}

fn a_withdrawal_holds_until_it_is_taken_back(world: &World) {
    let user = world.funded("100.00", "0");
    let body =
        json!({ "asset": "USD", "amount": "40.00", "destination": "DE02 1203".replace(' ', "") });
    let request = user.post("/api/v1/wallet/withdraw", &body).expect(201);
    assert_eq!(request["state"], "requested");
    assert_eq!(world.balance(&user, USD).held, Amount::new(40 * UNIT));
    let path = format!("/api/v1/wallet/withdraw/{}", request["id"].as_str().expect("an id"));
    assert_eq!(user.get(&path).expect(200), request);
    let list = user.get("/api/v1/wallet/withdraw").expect(200);
    assert_eq!(list["items"][0]["destination"], "DE021203");
    let cancelled = user.delete(&path).expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(world.balance(&user, USD).held, Amount::ZERO);
    assert_eq!(user.delete(&path).problem(409), "withdrawal_state");
}

fn withdrawing_everything_at_once_succeeds_once(world: &World) {
    let user = world.funded("100.00", "0");
    let body = json!({ "asset": "USD", "amount": "100.00", "destination": "somewhere" });
    let statuses: Vec<u16> = thread::scope(|scope| {
        let send = || user.post("/api/v1/wallet/withdraw", &body).status;
        let all: Vec<_> = (0..50).map(|_| scope.spawn(send)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
    assert_eq!(world.balance(&user, USD).held, Amount::new(100 * UNIT));
    assert_eq!(world.balance(&user, USD).available, Amount::ZERO);
}

fn an_order_a_withdrawal_and_a_transfer_race_for_one_coin(world: &World) {
    let (user, other) = (world.funded("100.00", "0"), world.user());
    let order = limit("buy", "47000.00", "0.002");
    let withdraw = json!({ "asset": "USD", "amount": "94.00", "destination": "somewhere" });
    let transfer = json!({ "asset": "USD", "amount": "94.00", "to": other.wallet });
    let accepted = thread::scope(|scope| {
        let send = |path: &'static str, body: &Value| {
            let (user, body) = (&user, body.clone());
            scope.spawn(move || user.post(path, &body).status)
        };
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(send("/api/v1/orders", &order));
            all.push(send("/api/v1/wallet/withdraw", &withdraw));
            all.push(send("/api/v1/wallet/transfer", &transfer));
        }
        let statuses: Vec<u16> =
            all.into_iter().map(|one| one.join().expect("an answer")).collect();
        assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
        statuses.into_iter().filter(|status| *status == 201).count()
    });
    assert_eq!(accepted, 1);
    let (balance, given) = (world.balance(&user, USD), world.balance(&other, USD));
    let total = balance.total().checked_add(given.total());
    assert_eq!(total, Some(Amount::new(100 * UNIT)));
    user.delete("/api/v1/orders").expect(200);
}
