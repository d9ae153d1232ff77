//! Prices of other exchanges: shown where somebody says them, invented nowhere, and nothing waits for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use breaker::Rules;
use feeds::{Settings, Timing};
use parking_lot::Mutex;
use serde_json::{Value, json};
use server::ServerConfig;

use crate::Case;
use crate::http;
use crate::world::{World, config};

pub const CASES: &[Case] = &[
    ("without_feeds_there_are_no_outside_prices", without_feeds_there_are_no_outside_prices),
    ("an_outside_price_stands_beside_our_own", an_outside_price_stands_beside_our_own),
    (
        "trading_goes_on_while_the_feeds_are_black_holed",
        trading_goes_on_while_the_feeds_are_black_holed,
    ),
];

fn with_feeds(sources: &[String]) -> ServerConfig {
    let ms = Duration::from_millis;
    let timing = Timing {
        stale: Duration::from_secs(5),
        poll: ms(100),
        connect_max: ms(500),
        answer_max: ms(500),
        retry_min: ms(20),
        retry_max: ms(100),
        look: ms(50),
        breaker: Rules { open: ms(500), open_max: ms(500), ..Timing::default().breaker },
    };
    let sources = sources.iter().map(|text| text.parse().expect("a source")).collect();
    ServerConfig { price_feeds: Settings { sources, timing }, ..config() }
}

fn get(address: SocketAddr, path: &str) -> Value {
    http::send(address, "GET", path, &[], None).expect(200)
}

fn of(prices: &Value, market: &str) -> Value {
    let all = prices["prices"].as_array().expect("a list");
    all.iter().find(|price| price["market"] == market).expect("every market is there").clone()
}

fn without_feeds_there_are_no_outside_prices(world: &World) {
    let prices = world.get("/api/v1/public/prices").expect(200);
    assert_eq!(prices["status"], "off");
    let btc = of(&prices, "BTC/USD");
    assert_eq!((&btc["availability"], &btc["outside"]), (&json!("off"), &Value::Null));
    let trading = world.get("/api/health/trading").expect(200);
    assert_eq!(trading["priceFeeds"], json!({ "status": "off", "feeds": [] }));
    assert_eq!(trading["circuitBreakers"][0], json!({ "name": "mail", "state": "closed" }));
}

/// A server that answers as Kraken does, with this price.
fn kraken(price: &Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let price = Arc::clone(price);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let body = format!(
                r#"{{"error":[],"result":{{"XXBTZUSD":{{"c":["{}","0.1"]}}}}}}"#,
                price.lock()
            );
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    address
}

fn an_outside_price_stands_beside_our_own(world: &World) {
    let (maker, taker) = (world.funded("1000.00", "1"), world.funded("1000.00", "0"));
    maker.limit("sell", "50000.00", "0.001");
    taker.limit("buy", "50000.00", "0.001");
    let price = Arc::new(Mutex::new("40000.50000".to_owned()));
    let address = world.serve(with_feeds(&[format!("kraken=http://{}", kraken(&price))]));
    let seen = world.wait("the price is there", || {
        let prices = get(address, "/api/v1/public/prices");
        let btc = of(&prices, "BTC/USD");
        (btc["availability"] == "available").then_some((prices, btc))
    });
    let (prices, btc) = seen;
    assert_eq!(prices["status"], "degraded", "the other market has none: {prices}");
    assert_eq!(of(&prices, "ETH/USD")["outside"], Value::Null);
    assert_eq!(btc["lastPrice"], "50000.00");
    let outside = &btc["outside"];
    assert_eq!((&outside["price"], &outside["source"]), (&json!("40000.5"), &json!("kraken")));
    assert_eq!(
        (&outside["instrument"], &outside["differencePercent"]),
        (&json!("XBTUSD"), &json!("24.99"))
    );
    assert!(outside["ageMs"].is_u64() && outside["asOf"].is_string(), "{outside}");
    let feed = get(address, "/api/health/trading")["priceFeeds"]["feeds"][0].clone();
    assert_eq!((&feed["name"], &feed["state"]), (&json!("kraken"), &json!("up")));
    // Wrong by half, against our own market: said, and not shown.
    *price.lock() = "25000".to_owned();
    world.wait("it is suspicious", || {
        let btc = of(&get(address, "/api/v1/public/prices"), "BTC/USD");
        (btc["availability"] == "suspicious" && btc["outside"].is_null()).then_some(())
    });
    let trading = get(address, "/api/health/trading");
    assert_eq!(trading["operational"], true);
    assert_eq!(trading["priceFeeds"]["feeds"][0]["state"], "suspicious", "{trading}");
    assert_eq!(get(address, "/ready")["ready"], true);
}

/// A port that takes connections and never answers, for as long as the process lives.
fn black_hole() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut held = Vec::new();
        held.extend(listener.incoming().flatten());
    });
    address
}

fn trading_goes_on_while_the_feeds_are_black_holed(world: &World) {
    let sources =
        [format!("binance=ws://{}", black_hole()), format!("kraken=http://{}", black_hole())];
    let mut user = world.funded("100000.00", "1");
    user.address = world.serve(with_feeds(&sources));
    let states = || {
        let trading = get(user.address, "/api/health/trading");
        let breakers = trading["circuitBreakers"].as_array().expect("a list").clone();
        let named = |name: &str| {
            let found = breakers.iter().find(|breaker| breaker["name"] == name);
            found.expect("it is there")["state"].as_str().expect("text").to_owned()
        };
        (trading.clone(), named("price_feed_binance"), named("price_feed_kraken"))
    };
    let mut orders = 0;
    world.wait("both breakers open, and every order is taken meanwhile", || {
        for _ in 0..5 {
            user.limit("buy", "47000.00", "0.0001");
            orders += 1;
        }
        user.delete("/api/v1/orders").expect(200);
        let (trading, binance, kraken) = states();
        assert_eq!(trading["operational"], true, "{trading}");
        (binance == "open" && kraken == "open").then_some(())
    });
    let (trading, ..) = states();
    assert_eq!(trading["priceFeeds"]["status"], "not_available");
    let down = |feed: &Value| feed["state"] == "down" && feed["ageMs"].is_null();
    let all = trading["priceFeeds"]["feeds"].as_array().expect("a list");
    assert!(all.len() == 2 && all.iter().all(down), "{trading}");
    let btc = of(&get(user.address, "/api/v1/public/prices"), "BTC/USD");
    let none = (&json!("not_available"), &Value::Null);
    assert_eq!((&btc["availability"], &btc["outside"]), none);
    assert_eq!(get(user.address, "/ready")["ready"], true);
    // A conversion is a quote from our own book.
    user.limit("sell", "52000.00", "0.01");
    let other = world.funded("1000.00", "0");
    let quote = json!({ "from": "USD", "to": "BTC", "amount": "100.00" });
    let quoted = other.post("/api/v1/convert/quote", &quote).expect(200);
    let accepted = json!({ "quoteId": quoted["quoteId"] });
    assert_eq!(other.post("/api/v1/convert", &accepted).expect(201)["status"], "filled");
    let metrics = http::send(user.address, "GET", "/metrics", &[], None).text();
    for name in ["price_feed_binance", "price_feed_kraken"] {
        let opened = format!("kx_circuit_breaker_opened_total{{breaker=\"{name}\"}} ");
        let line = metrics.lines().find(|line| line.starts_with(&opened)).expect("it is there");
        assert!(!line.ends_with(" 0"), "{line}");
    }
    assert!(metrics.contains("kx_price_feed_up{feed=\"binance\"} 0\n"), "{metrics}");
    assert!(orders >= 5);
    user.delete("/api/v1/orders").expect(200);
}
