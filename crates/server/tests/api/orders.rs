//! Orders: placing, seeing, changing, cancelling.

use std::thread;

use serde_json::{Value, json};
use units::Amount;

use crate::Case;
use crate::world::{BTC, USD, User, World, limit};

pub const CASES: &[Case] = &[
    ("an_order_rests_is_seen_and_is_cancelled", an_order_rests_is_seen_and_is_cancelled),
    ("a_crossing_order_answers_with_its_fills", a_crossing_order_answers_with_its_fills),
    ("a_key_gives_the_first_answer_again", a_key_gives_the_first_answer_again),
    ("one_key_at_once_is_one_order", one_key_at_once_is_one_order),
    ("a_client_order_id_names_one_order", a_client_order_id_names_one_order),
    ("refusals_name_the_rule_and_the_nearest_value", refusals_name_the_rule_and_the_nearest_value),
    ("an_amend_changes_price_or_total", an_amend_changes_price_or_total),
    ("cancel_all_cancels_what_is_open", cancel_all_cancels_what_is_open),
    ("lists_page_by_cursor_without_gaps", lists_page_by_cursor_without_gaps),
    ("own_writes_are_read_by_their_sequence", own_writes_are_read_by_their_sequence),
    ("many_orders_at_once_are_exact", many_orders_at_once_are_exact),
];

fn id(order: &Value) -> String {
    order["id"].as_str().expect("an order has an id").to_owned()
}

fn path(order: &Value) -> String {
    format!("/api/v1/orders/{}", id(order))
}

fn an_order_rests_is_seen_and_is_cancelled(world: &World) {
    let user = world.funded("10000.00", "0");
    let reply = user.order(&limit("buy", "48000.00", "0.1"));
    let order = reply.expect(201);
    assert_eq!(reply.header("location"), Some(&*path(&order)));
    assert_eq!(order["status"], "open");
    assert_eq!(order["fills"], json!([]));
    assert_eq!(order["price"], "48000.00");
    assert_eq!(order["remainingQuantity"], "0.10000000");
    assert_eq!(world.balance(&user, USD).held, Amount::new(4_800 * 10_000_000_000));
    assert_eq!(user.get(&path(&order)).expect(200)["status"], "open");
    let open = user.get("/api/v1/orders?status=open").expect(200);
    assert_eq!(open["items"][0]["id"], order["id"]);

    let cancelled = user.delete(&path(&order)).expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["reason"]),
        (&json!("cancelled"), &json!("requested"))
    );
    assert_eq!(world.balance(&user, USD).held, Amount::ZERO);
    let again = user.delete(&path(&order));
    assert_eq!(again.problem(409), "order_closed");
    assert_eq!(again.json()["order"]["status"], "cancelled");
    // With a key the first answer comes again, and a new key finds the order closed.
    let second = user.limit("buy", "48000.00", "0.1");
    let cancel = |key: &str, order: &Value| {
        user.send("DELETE", &path(order), &[("idempotency-key", key)], None)
    };
    assert_eq!(cancel("c-1", &second).expect(200)["status"], "cancelled");
    assert_eq!(cancel("c-1", &second).expect(200)["status"], "cancelled");
    assert_eq!(cancel("c-2", &second).problem(409), "order_closed");
    assert_eq!(cancel("c-1", &order).problem(422), "idempotency_key_reused");
    assert_eq!(user.get(&path(&order)).expect(200)["status"], "cancelled");
}

fn a_crossing_order_answers_with_its_fills(world: &World) {
    let (maker, taker) = (world.funded("0", "1"), world.funded("10000.00", "0"));
    maker.limit("sell", "50000.00", "0.02");
    maker.limit("sell", "50010.00", "0.05");
    let body =
        json!({ "market": "BTC-USD", "side": "buy", "orderType": "market", "quantity": 0.03 });
    let order = taker.order(&body).expect(201);
    assert_eq!(order["status"], "filled", "{order}");
    let fills = order["fills"].as_array().expect("fills");
    let of = |at: usize, key: &str| fills[at][key].as_str().expect("text").to_owned();
    assert_eq!((of(0, "price"), of(0, "quantity")), ("50000.00".into(), "0.02000000".into()));
    assert_eq!((of(1, "price"), of(1, "quantity")), ("50010.00".into(), "0.01000000".into()));
    assert_eq!((of(0, "feeAsset"), of(0, "fee")), ("BTC".into(), "0.00004000".into()));
    assert_eq!(order["averagePrice"], "50003.3333333333");

    let sequence = order["sequence"].to_string();
    let mine =
        taker.send("GET", "/api/v1/fills", &[("x-min-sequence", &sequence)], None).expect(200);
    assert_eq!(mine["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(mine["items"][0]["tradeId"], fills[1]["tradeId"], "newest first");
    let theirs =
        maker.send("GET", "/api/v1/fills", &[("x-min-sequence", &sequence)], None).expect(200);
    assert_eq!(theirs["items"][0]["liquidity"], "maker");
    assert_eq!(theirs["items"][0]["feeAsset"], "USD");
    maker.delete("/api/v1/orders").expect(200);
}

fn a_key_gives_the_first_answer_again(world: &World) {
    let user = world.funded("10000.00", "0");
    let body = limit("buy", "47000.00", "0.01");
    let send = |key: &str, body: &Value| {
        user.send("POST", "/api/v1/orders", &[("idempotency-key", key)], Some(body))
    };
    let first = send("key-1", &body).expect(201);
    assert_eq!(send("key-1", &body).expect(200), first);
    let other = limit("buy", "47000.00", "0.02");
    assert_eq!(send("key-1", &other).problem(422), "idempotency_key_reused");
    let second = send("key-2", &body).expect(201);
    assert_ne!(second["id"], first["id"]);
    // The first answer holds after the order has changed.
    user.delete(&path(&first)).expect(200);
    assert_eq!(send("key-1", &body).expect(200), first);
    let refused = limit("buy", "47000.00", "5");
    assert_eq!(send("key-3", &refused).problem(422), "insufficient_funds");
    assert_eq!(send("key-3", &refused).problem(422), "insufficient_funds");
    let bad = send("bad key\u{e9}", &body);
    assert_eq!(bad.problem(422), "value_invalid");
    // Another user's key is another key.
    let other = world.funded("10000.00", "0");
    let theirs = other.send("POST", "/api/v1/orders", &[("idempotency-key", "key-1")], Some(&body));
    assert_ne!(theirs.expect(201)["id"], first["id"]);
    for user in [&user, &other] {
        user.delete("/api/v1/orders").expect(200);
    }
}

fn one_key_at_once_is_one_order(world: &World) {
    let user = world.funded("10000.00", "0");
    let body = limit("buy", "47000.00", "0.01");
    let send = || user.send("POST", "/api/v1/orders", &[("idempotency-key", "same")], Some(&body));
    let all: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|_| scope.spawn(send)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    let first = all[0].json();
    for reply in &all {
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        assert_eq!(reply.json(), first);
    }
    let open = user.get("/api/v1/orders?status=open").expect(200);
    assert_eq!(open["items"].as_array().map(Vec::len), Some(1));
    user.delete("/api/v1/orders").expect(200);
}

fn a_client_order_id_names_one_order(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut body = limit("buy", "47000.00", "0.01");
    body["clientOrderId"] = json!("bot:1");
    let first = user.order(&body).expect(201);
    assert_eq!(user.order(&body).expect(200), first, "the same body again is a repeat");
    body["quantity"] = json!("0.02");
    assert_eq!(user.order(&body).problem(409), "client_order_id_used");
    let by_client = user.get("/api/v1/orders/client:bot:1").expect(200);
    assert_eq!(by_client["id"], first["id"]);
    user.delete("/api/v1/orders/client:bot:1").expect(200);
    assert_eq!(user.get("/api/v1/orders/client:nothing").problem(404), "not_found");
}

fn refusals_name_the_rule_and_the_nearest_value(world: &World) {
    let user = world.funded("100.00", "0");
    let errors = |body: &Value, status: u16, code: &str| {
        let reply = user.order(body);
        assert_eq!(reply.problem(status), code, "{}", reply.text());
        reply.json()
    };
    let off = errors(&limit("buy", "50000.001", "0.01"), 422, "value_invalid");
    assert_eq!(off["errors"][0]["field"], "price");
    assert_eq!(off["errors"][0]["nearest"], json!(["50000.00", "50000.01"]));
    let fine = errors(&limit("buy", "50000.00", "0.123456789"), 422, "value_invalid");
    assert_eq!(fine["errors"][0]["nearest"], json!(["0.12345678", "0.12345679"]));
    let far = errors(&limit("buy", "100000.00", "0.0001"), 422, "price_band");
    assert_eq!(far["order"]["status"], "rejected");
    let nearest = far["errors"][0]["nearest"][0].as_str().expect("the band's edge").to_owned();
    user.order(&limit("buy", &nearest, "0.0001")).expect(201);
    let dust = errors(&limit("buy", "50000.00", "0.00000001"), 422, "notional_too_small");
    let nearest = dust["errors"][0]["nearest"][0].as_str().expect("the least quantity").to_owned();
    assert_eq!(nearest, "0.00002000");
    user.order(&limit("buy", "50000.00", &nearest)).expect(201);
    let poor = errors(&limit("buy", "50000.00", "1"), 422, "insufficient_funds");
    assert!(
        poor["detail"].as_str().is_some_and(|text| text.contains("USD is available")),
        "{poor}"
    );
    let unknown = errors(&json!({ "market": "DOGE/USD" }), 422, "value_invalid");
    assert_eq!(unknown["errors"][0]["nearest"], json!(["BTC/USD", "ETH/USD"]));
    user.delete("/api/v1/orders").expect(200);
}

fn an_amend_changes_price_or_total(world: &World) {
    let user = world.funded("10000.00", "0");
    let order = user.limit("buy", "47000.00", "0.1");
    let amend = |body: &Value| user.send("PATCH", &path(&order), &[], Some(body));
    let less = amend(&json!({ "quantity": "0.05" })).expect(200);
    assert_eq!((&less["quantity"], &less["id"]), (&json!("0.05000000"), &order["id"]));
    let moved = amend(&json!({ "price": "46000.00" })).expect(200);
    assert_eq!(moved["price"], "46000.00");
    let held = world.balance(&user, USD).held;
    assert_eq!(held, Amount::new(2_300 * 10_000_000_000));
    assert_eq!(amend(&json!({ "quantity": "100" })).problem(422), "insufficient_funds");
    assert_eq!(world.balance(&user, USD).held, held, "the hold is as it was");
    assert_eq!(amend(&json!({ "quantity": "0" })).problem(422), "value_invalid");
    assert_eq!(amend(&json!({})).problem(422), "value_invalid");
    user.delete(&path(&order)).expect(200);
    assert_eq!(amend(&json!({ "quantity": "0.01" })).problem(409), "order_closed");
}

fn cancel_all_cancels_what_is_open(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut eth = limit("buy", "2900.00", "0.1");
    eth["market"] = json!("ETH/USD");
    for _ in 0..3 {
        user.limit("buy", "47000.00", "0.01");
    }
    user.order(&eth).expect(201);
    let some = user.delete("/api/v1/orders?market=BTC-USD").expect(200);
    assert_eq!(some["cancelled"].as_array().map(Vec::len), Some(3), "{some}");
    let rest = user.delete("/api/v1/orders").expect(200);
    assert_eq!(rest["cancelled"].as_array().map(Vec::len), Some(1), "{rest}");
    assert_eq!(world.balance(&user, USD).held, Amount::ZERO);
    assert_eq!(user.delete("/api/v1/orders").expect(200)["cancelled"], json!([]));
}

fn lists_page_by_cursor_without_gaps(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut placed: Vec<_> = (0..7).map(|_| id(&user.limit("buy", "47000.00", "0.001"))).collect();
    placed.reverse();
    let sequence = user.get("/api/v1/wallet/balances").expect(200)["sequence"].to_string();
    for list in ["/api/v1/orders?status=open&limit=3", "/api/v1/orders?limit=3"] {
        let mut seen = Vec::new();
        let mut next = list.to_owned();
        loop {
            let page = user.send("GET", &next, &[("x-min-sequence", &sequence)], None).expect(200);
            seen.extend(page["items"].as_array().expect("items").iter().map(id));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            next = format!("{list}&cursor={cursor}");
        }
        let (mut sorted, mut expected) = (seen.clone(), placed.clone());
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected, "{list}");
    }
    user.delete("/api/v1/orders").expect(200);
    let open = user.get("/api/v1/orders?status=open").expect(200);
    assert_eq!(open, json!({ "items": [] }));
}

fn own_writes_are_read_by_their_sequence(world: &World) {
    let user = world.funded("10000.00", "0");
    let reply = user.order(&limit("buy", "47000.00", "0.001"));
    let order = reply.expect(201);
    let sequence = reply.header("x-sequence").expect("an order has a sequence").to_owned();
    let list =
        user.send("GET", "/api/v1/orders", &[("x-min-sequence", &sequence)], None).expect(200);
    assert_eq!(list["items"][0]["id"], order["id"]);
    let beyond = [("x-min-sequence", "999999999")];
    let behind = user.send("GET", "/api/v1/wallet/balances", &beyond, None);
    assert_eq!(behind.problem(503), "behind");
    assert!(behind.header("retry-after").is_some());
    let other = [("x-min-sequence", "dead.1")];
    assert_eq!(user.send("GET", "/api/v1/orders", &other, None).problem(409), "other_journal");
    let broken = [("x-min-sequence", "-1")];
    assert_eq!(user.send("GET", "/api/v1/orders", &broken, None).problem(400), "header_malformed");
    user.delete("/api/v1/orders").expect(200);
}

/// What cost the exchange that this one follows its users' money: many buys of one user at once.
fn many_orders_at_once_are_exact(world: &World) {
    const ORDERS: usize = 200;
    let (maker, taker) = (world.funded("0", "10"), world.funded("100000.00", "0"));
    maker.limit("sell", "50000.00", "10");
    let body =
        json!({ "market": "BTC/USD", "side": "buy", "orderType": "market", "quantity": "0.001" });
    let buy = |user: &User| user.order(&body).expect(201);
    thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..ORDERS / 8).for_each(|_| drop(buy(&taker)))))
            .collect();
        all.into_iter().for_each(|one| one.join().expect("every order is answered 201"));
    });
    // 0.001 BTC each less 0.2 %, for 50 USD each.
    assert_eq!(world.balance(&taker, BTC).total(), Amount::new(1_996_000_000));
    let spent = Amount::new(50 * 10_000_000_000 * ORDERS as u128);
    let left = Amount::new(100_000 * 10_000_000_000).checked_sub(spent);
    assert_eq!(Some(world.balance(&taker, USD).total()), left);
    maker.delete("/api/v1/orders").expect(200);
}
