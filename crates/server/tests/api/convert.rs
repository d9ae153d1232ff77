//! Conversions at the price of the book.

use serde_json::{Value, json};
use units::Amount;

use crate::Case;
use crate::world::{BTC, USD, World};

pub const CASES: &[Case] = &[
    (
        "a_conversion_is_filled_at_its_quote_or_not_at_all",
        a_conversion_is_filled_at_its_quote_or_not_at_all,
    ),
    ("bad_quotes_convert_nothing", bad_quotes_convert_nothing),
];

fn a_conversion_is_filled_at_its_quote_or_not_at_all(world: &World) {
    let (maker, user) = (world.funded("100000.00", "10"), world.funded("1000.00", "0"));
    maker.limit("sell", "50000.00", "0.01");
    maker.limit("sell", "50100.00", "1");
    maker.limit("buy", "49900.00", "1");
    let quote = |body: Value| user.post("/api/v1/convert/quote", &body);
    let bought = quote(json!({ "from": "USD", "to": "BTC", "amount": "600.00" })).expect(200);
    assert_eq!((&bought["side"], &bought["price"]), (&json!("buy"), &json!("50100.00")));
    let accept =
        |quote: &Value| user.post("/api/v1/convert", &json!({ "quoteId": quote["quoteId"] }));
    let order = accept(&bought).expect(201);
    assert_eq!((&order["status"], &order["timeInForce"]), (&json!("filled"), &json!("fok")));
    assert_eq!(order["filledQuantity"], bought["quantity"]);
    assert_eq!(order["filledNotional"], bought["give"], "what was quoted is what was given");
    let received = world.balance(&user, BTC).total();
    let text = bought["receive"].as_str().expect("text");
    // Each of two fills rounds its fee up by itself: never more than a unit below the quote.
    let quoted = units_of(text);
    assert!(quoted.abs_diff(received.get()) <= 1, "{text} {received}");
    assert_eq!(accept(&bought).expect(200), order, "a quote is good once");
    let stranger = world.funded("1000.00", "0");
    let stolen = stranger.post("/api/v1/convert", &json!({ "quoteId": bought["quoteId"] }));
    assert_eq!(stolen.problem(422), "value_invalid");

    let sold = quote(json!({ "from": "BTC", "to": "USD", "amount": "0.005" })).expect(200);
    assert_eq!((&sold["price"], &sold["receive"]), (&json!("49900.00"), &json!("249.001")));
    // The book moves away: nothing happens.
    maker.delete("/api/v1/orders").expect(200);
    let before = world.balance(&user, USD);
    let killed = accept(&sold).expect(201);
    assert_eq!(
        (&killed["status"], &killed["reason"]),
        (&json!("cancelled"), &json!("fill_or_kill"))
    );
    assert_eq!(world.balance(&user, USD), before);
    assert_eq!(world.balance(&user, BTC).held, Amount::ZERO);
}

fn bad_quotes_convert_nothing(world: &World) {
    let user = world.funded("1000.00", "0");
    let before = world.digest();
    let quote = |body: Value| user.post("/api/v1/convert/quote", &body);
    let empty = quote(json!({ "from": "USD", "to": "ETH", "amount": "10.00" }));
    assert_eq!(empty.problem(422), "no_liquidity");
    for body in [
        json!({}),
        json!({ "from": "USD", "to": "USD", "amount": "1" }),
        json!({ "from": "USD", "to": "DOGE", "amount": "1" }),
        json!({ "from": "BTC", "to": "ETH", "amount": "1" }),
        json!({ "from": "USD", "to": "BTC", "amount": "0" }),
        json!({ "from": "USD", "to": "BTC", "amount": "-5" }),
        json!({ "from": "USD", "to": "BTC", "amount": "NaN" }),
    ] {
        assert_eq!(quote(body.clone()).problem(422), "value_invalid", "{body}");
    }
    for text in ["", "x", "AAAA", &"A".repeat(100), "\u{0}"] {
        let reply = user.post("/api/v1/convert", &json!({ "quoteId": text }));
        assert_eq!(reply.problem(422), "value_invalid", "{text}");
    }
    assert_eq!(world.digest(), before);
}

/// Returns the ledger units of a decimal, of which there are ten digits after the point.
fn units_of(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<10}").parse().expect("a decimal")
}
