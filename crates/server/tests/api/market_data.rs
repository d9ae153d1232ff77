//! Books, trades, tickers and candles.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Case;
use crate::http;
use crate::world::{World, config};

pub const CASES: &[Case] = &[
    ("a_market_says_its_rules", a_market_says_its_rules),
    ("a_book_shows_visible_quantity_by_price", a_book_shows_visible_quantity_by_price),
    (
        "a_book_that_has_not_changed_is_not_sent_again",
        a_book_that_has_not_changed_is_not_sent_again,
    ),
    ("statistics_are_the_sums_of_the_trades", statistics_are_the_sums_of_the_trades),
    ("candles_have_no_holes_and_sum_to_the_trades", candles_have_no_holes_and_sum_to_the_trades),
    ("a_server_that_starts_later_says_the_same", a_server_that_starts_later_says_the_same),
    ("bad_queries_are_refused_with_the_rule", bad_queries_are_refused_with_the_rule),
];

const BTC: &str = "/api/v1/markets/BTC-USD";

/// Makes three trades: a buyer takes two asks and half of a third.
fn trade(world: &World) {
    let seller = world.funded("0", "1");
    let buyer = world.funded("10000.00", "0");
    for (price, quantity) in [("50000.00", "0.01"), ("50010.00", "0.02"), ("50020.00", "0.03")] {
        seller.limit("sell", price, quantity);
    }
    let taken = buyer.limit("buy", "50020.00", "0.045");
    assert_eq!(taken["status"], "filled", "{taken}");
}

/// Waits until a server's statistics are complete.
fn ticker(address: std::net::SocketAddr) -> Value {
    let begun = Instant::now();
    loop {
        let reply = http::send(address, "GET", &format!("{BTC}/ticker"), &[], None);
        if reply.status == 200 {
            return reply.json();
        }
        assert_eq!(reply.problem(503), "behind");
        assert!(begun.elapsed() < Duration::from_secs(20), "the past is read");
        std::thread::yield_now();
    }
}

/// A decimal as a whole number of its last of ten places.
fn units(decimal: &Value) -> u128 {
    let text = decimal.as_str().expect("amounts are strings");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<10}").parse().expect("it is a decimal")
}

fn sum<'a>(items: impl IntoIterator<Item = &'a Value>, field: &str) -> u128 {
    items.into_iter().map(|item| units(&item[field])).sum()
}

/// Every trade of the market, newest first, page by page.
fn all_trades(world: &World) -> Vec<Value> {
    let mut trades = Vec::new();
    let mut path = format!("{BTC}/trades?limit=7");
    loop {
        let page = world.get(&path).expect(200);
        trades.extend(page["items"].as_array().expect("a page has items").iter().cloned());
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("{BTC}/trades?limit=7&cursor={cursor}"),
            None => return trades,
        }
    }
}

fn a_market_says_its_rules(world: &World) {
    let market = world.get(BTC).expect(200);
    assert_eq!(market["symbol"], "BTC/USD");
    assert_eq!(market["tickSize"], "0.01");
    assert_eq!(market["lotSize"], "0.00000001");
    assert_eq!(market["state"], "open");
    assert_eq!(market["takerFee"], "0.002");
    let all = world.get("/api/v1/markets").expect(200);
    assert_eq!(all["markets"][0]["symbol"], "BTC/USD");
}

fn a_book_shows_visible_quantity_by_price(world: &World) {
    let seller = world.funded("0", "3");
    let level = |book: &Value| {
        let asks = book["asks"].as_array().expect("a book has asks").clone();
        asks.into_iter().find(|level| level[0] == "54321.00").map(|level| level[1].clone())
    };
    let place = |quantity: &str| {
        let reply = seller.order(&crate::world::limit("sell", "54321.00", quantity));
        let order = reply.expect(201);
        let sequence = reply.header("x-sequence").expect("a row is named").to_owned();
        let headers = [("x-min-sequence", sequence.as_str())];
        let path = format!("{BTC}/book?depth=1000");
        let book = http::send(world.address, "GET", &path, &headers, None).expect(200);
        (order, book)
    };
    assert_eq!(level(&place("0.5").1), Some(json!("0.50000000")));
    let (order, book) = place("0.25");
    assert_eq!(level(&book), Some(json!("0.75000000")));
    let shallow = world.get(&format!("{BTC}/book?depth=1")).expect(200);
    assert!(shallow["asks"].as_array().is_some_and(|asks| asks.len() == 1));
    assert_eq!(shallow["checksum"], book["checksum"], "it is of ten levels in any case");
    // An iceberg shows its slice alone.
    let mut iceberg = crate::world::limit("sell", "54321.00", "1");
    iceberg["displayQuantity"] = json!("0.1");
    seller.order(&iceberg).expect(201);
    assert_eq!(level(&place("0.05").1), Some(json!("0.90000000")));
    let id = order["id"].as_str().expect("an order has an id");
    seller.delete(&format!("/api/v1/orders/{id}")).expect(200);
    seller.delete("/api/v1/orders?market=BTC-USD");
}

fn a_book_that_has_not_changed_is_not_sent_again(world: &World) {
    let path = format!("{BTC}/book?depth=5");
    // What the case before has cancelled may still be on its way to the book.
    let settled = world.live.sequence().to_string();
    let first = http::send(world.address, "GET", &path, &[("x-min-sequence", &settled)], None);
    let tag = first.header("etag").expect("a book has a tag").to_owned();
    let again = http::send(world.address, "GET", &path, &[("if-none-match", &tag)], None);
    assert_eq!((again.status, again.body.len()), (304, 0));
    world.funded("10000.00", "0").limit("buy", "46000.00", "0.01");
    let wait = world.live.sequence().to_string();
    let headers = [("if-none-match", tag.as_str()), ("x-min-sequence", wait.as_str())];
    let changed = http::send(world.address, "GET", &path, &headers, None);
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}

fn statistics_are_the_sums_of_the_trades(world: &World) {
    trade(world);
    let wait = world.live.sequence().to_string();
    ticker(world.address);
    let headers = [("x-min-sequence", wait.as_str())];
    let said =
        http::send(world.address, "GET", &format!("{BTC}/ticker"), &headers, None).expect(200);
    let trades = all_trades(world);
    assert!(trades.len() >= 3);
    assert_eq!(said["trades"], trades.len());
    assert_eq!(units(&said["volume"]), sum(&trades, "quantity"));
    assert_eq!(units(&said["quoteVolume"]), sum(&trades, "notional"));
    assert_eq!(said["lastPrice"], trades[0]["price"]);
    assert_eq!(said["open"], trades[trades.len() - 1]["price"]);
    let highest = trades.iter().map(|trade| units(&trade["price"])).max();
    assert_eq!(Some(units(&said["high"])), highest);
    let lowest = trades.iter().map(|trade| units(&trade["price"])).min();
    assert_eq!(Some(units(&said["low"])), lowest);
    let ids: Vec<u64> = trades.iter().filter_map(|trade| trade["tradeId"].as_u64()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1] + 1), "ids are without gaps: {ids:?}");
    assert_eq!(trades[0]["takerSide"], "buy");
    let latest = world.get("/api/v1/public/trades?limit=1").expect(200);
    assert_eq!(latest["items"][0]["market"], "BTC/USD");
}

fn candles_have_no_holes_and_sum_to_the_trades(world: &World) {
    trade(world);
    let wait = world.live.sequence().to_string();
    ticker(world.address);
    let headers = [("x-min-sequence", wait.as_str())];
    // The trades are asked for without a sequence: the market data has to be there before.
    http::send(world.address, "GET", &format!("{BTC}/ticker"), &headers, None).expect(200);
    let trades = all_trades(world);
    for (interval, minutes) in
        [("1m", 1), ("5m", 5), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440)]
    {
        let path = format!("{BTC}/candles?interval={interval}&limit=1000");
        let body = http::send(world.address, "GET", &path, &headers, None).expect(200);
        let candles = body["candles"].as_array().expect("there are candles");
        assert_eq!(sum(candles, "volume"), sum(&trades, "quantity"), "{interval}");
        assert_eq!(sum(candles, "quoteVolume"), sum(&trades, "notional"), "{interval}");
        let counted: u64 = candles.iter().filter_map(|candle| candle["trades"].as_u64()).sum();
        assert_eq!(usize::try_from(counted), Ok(trades.len()), "{interval}");
        let moment = |candle: &Value, field: &str| {
            wire::time::parse(candle[field].as_str().expect("a time")).expect("a time").micros()
        };
        for pair in candles.windows(2) {
            assert_eq!(moment(&pair[0], "closeTime"), moment(&pair[1], "openTime"), "{interval}");
            assert_eq!(pair[0]["closed"], true);
            if pair[1]["trades"] == 0 {
                assert_eq!(pair[1]["open"], pair[0]["close"]);
                assert_eq!(pair[1]["volume"], "0.00000000");
            }
        }
        for candle in candles {
            assert_eq!(moment(candle, "openTime") % (minutes * 60_000_000), 0, "{interval}");
            assert!(units(&candle["low"]) <= units(&candle["open"]));
            assert!(units(&candle["close"]) <= units(&candle["high"]));
        }
        let last = candles.last().expect("there are candles");
        assert_eq!((&last["close"], &last["closed"]), (&trades[0]["price"], &json!(false)));
    }
    let none = format!("{BTC}/candles?end=2020-01-01T00:00:00Z");
    assert_eq!(world.get(&none).expect(200)["candles"], json!([]));
}

/// What the first server has heard, the second one reads from the projections.
fn a_server_that_starts_later_says_the_same(world: &World) {
    trade(world);
    let later = world.serve(config());
    ticker(later);
    let wait = world.live.sequence().to_string();
    let headers = [("x-min-sequence", wait.as_str())];
    for path in ["ticker", "trades?limit=500", "candles?interval=1m", "candles?interval=1h", "book"]
    {
        let path = format!("{BTC}/{path}");
        let of = |address| {
            let mut body = http::send(address, "GET", &path, &headers, None).expect(200);
            // The row that it shows and the time go on while both are asked.
            let fields = body.as_object_mut().expect("an object");
            fields.retain(|name, _| name != "sequence" && name != "time");
            body
        };
        assert_eq!(of(world.address), of(later), "{path}");
    }
}

fn bad_queries_are_refused_with_the_rule(world: &World) {
    for path in [
        "book?depth=0",
        "book?depth=-1",
        "book?depth=1001",
        "book?depth=1e3",
        "book?depth=",
        "trades?limit=0",
        "trades?limit=501",
        "trades?cursor=x",
        "trades?cursor=-1",
        "candles?interval=2m",
        "candles?limit=1001",
        "candles?start=yesterday",
        "candles?end=0",
    ] {
        let reply = world.get(&format!("{BTC}/{path}"));
        assert_eq!(reply.problem(422), "value_invalid", "{path}");
        assert!(reply.json()["errors"][0]["message"].as_str().is_some(), "{path}");
    }
    assert_eq!(world.get(&format!("{BTC}/book?dept=1")).problem(400), "query_malformed");
    for symbol in [
        "btc-usd",
        "BTC-EUR",
        "BTC",
        "BTC%2FUSD%3BDROP",
        "..%2f",
        "btc_usd%20",
        "BTC-USD%00",
        "%F0%9F%92%A5",
        "'%20OR%201=1",
    ] {
        for part in ["", "/book", "/trades", "/ticker", "/candles"] {
            let reply = world.get(&format!("/api/v1/markets/{symbol}{part}"));
            assert_eq!(reply.problem(404), "not_found", "{symbol}{part}");
        }
    }
    let posted = world.post(&format!("{BTC}/book"), &json!({}));
    assert_eq!(posted.problem(405), "method_not_allowed");
}
