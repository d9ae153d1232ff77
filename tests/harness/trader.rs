//! One user of the exchange, and exact amounts.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use crate::{Answer, Exchange, Http};

/// The decimals that every amount is brought to here.
const SCALE: usize = 18;

/// An exact amount: whole units of 10^-18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exact(pub i128);

impl Exact {
    /// Reads a decimal string.
    ///
    /// # Panics
    ///
    /// When it is none, or finer than can be held.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        assert!(fraction.len() <= SCALE, "{text} is finer than this test can hold");
        let all = format!("{whole}{fraction:0<SCALE$}");
        Self(sign * all.parse::<i128>().unwrap_or_else(|_| panic!("{text} is no decimal")))
    }

    /// Reads a JSON string.
    ///
    /// # Panics
    ///
    /// When it is no string with a decimal.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self::new(value.as_str().unwrap_or_else(|| panic!("{value} is no decimal string")))
    }
}

/// What an account has of one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Free to be spent.
    pub available: Exact,
    /// Set aside.
    pub held: Exact,
}

/// A user of the demo, logged in.
#[derive(Debug)]
pub struct Trader {
    /// Its connection.
    pub http: Http,
}

impl Trader {
    /// Logs the demo's first user in.
    #[must_use]
    pub fn alice(exchange: &Exchange) -> Self {
        Self { http: exchange.login("alice@demo.example", "alice-demo-password") }
    }

    /// Logs the demo's second user in.
    #[must_use]
    pub fn bob(exchange: &Exchange) -> Self {
        Self { http: exchange.login("bob@demo.example", "bob-demo-password") }
    }

    /// The same user on another connection.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { http: self.http.again() }
    }

    /// Places an order.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn place(&mut self, order: &Value) -> io::Result<Answer> {
        self.http.post("/api/v1/orders", order)
    }

    /// Places an order that may be sent again with the same key.
    ///
    /// # Errors
    ///
    /// The connection's.
    pub fn place_once(&mut self, key: &str, order: &Value) -> io::Result<Answer> {
        self.http.send("POST", "/api/v1/orders", &[("idempotency-key", key)], Some(order))
    }

    /// Returns the balances by asset.
    ///
    /// # Panics
    ///
    /// When they are refused.
    pub fn balances(&mut self) -> BTreeMap<String, Held> {
        let answer = self.http.get("/api/v1/wallet/balances").expect("it answers").expect(200);
        let list = answer["balances"].as_array().expect("balances are a list");
        let entry = |balance: &Value| {
            let asset = balance["asset"].as_str().expect("an asset is text").to_owned();
            let available = Exact::of(&balance["available"]);
            let held = Exact::of(&balance["held"]);
            assert_eq!(Exact::of(&balance["total"]).0, available.0 + held.0, "{balance}");
            (asset, Held { available, held })
        };
        list.iter().map(entry).collect()
    }

    /// Returns an order by its id, or nothing where it is not there.
    ///
    /// # Panics
    ///
    /// When the server answers neither.
    pub fn order(&mut self, id: &str) -> Option<Value> {
        let answer = self.http.get(&format!("/api/v1/orders/{id}")).expect("it answers");
        (answer.status != 404).then(|| answer.expect(200))
    }
}

/// A limit order that stands until it is cancelled.
#[must_use]
pub fn limit(market: &str, side: &str, quantity: &str, price: &str) -> Value {
    json!({"market": market, "side": side, "orderType": "limit", "quantity": quantity, "price": price})
}

/// A market order.
#[must_use]
pub fn market(market: &str, side: &str, quantity: &str) -> Value {
    json!({"market": market, "side": side, "orderType": "market", "quantity": quantity})
}
