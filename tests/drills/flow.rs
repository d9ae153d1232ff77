//! What the users do: orders that cross, rest and are cancelled, made up from a seed or taken from a recorded day.

use std::collections::HashMap;
use std::path::PathBuf;

use e2e::Random;
use serde_json::{Value, json};

/// Lots of one whole unit of a base asset: both markets have eight decimals.
pub(crate) const LOTS: u64 = 100_000_000;
/// The last six digits of a quantity number the order.
const NUMBERS: u64 = 1_000_000;

/// What one user does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Place {
        market: &'static str,
        side: &'static str,
        body: Value,
        quantity_lots: u64,
        rests: bool,
    },
    /// Cancels one of its orders that may still rest: the how-manieth of them, counted from the oldest.
    Cancel {
        which: u64,
    },
}

/// A market and the price, in cents, about which it is traded.
const MARKETS: [(&str, u64); 2] = [("BTC/USD", 6_500_000), ("ETH/USD", 300_000)];

/// One user's source of steps.
#[derive(Debug)]
pub(crate) struct Flow {
    random: Random,
    /// Orders placed so far, over all loads: it makes every quantity of a user another.
    number: u64,
    recorded: Vec<Recorded>,
    at: usize,
}

impl Flow {
    pub(crate) fn new(seed: u64, first_number: u64, recorded: Vec<Recorded>) -> Self {
        Self { random: Random::new(seed), number: first_number, recorded, at: 0 }
    }

    /// Returns the next step of somebody who has `resting` orders that may still rest.
    pub(crate) fn next(&mut self, resting: u64) -> Step {
        let chance = self.random.below(100);
        // Well below the number of open orders that an account may have.
        if resting > 40 || (resting > 0 && chance < 15) {
            return Step::Cancel { which: self.random.below(resting) };
        }
        // Half of what is placed is as it was recorded, where there is a recording.
        if chance % 2 == 0 && !self.recorded.is_empty() {
            let recorded = self.recorded[self.at % self.recorded.len()].clone();
            self.at += 1;
            if let Some(step) = self.replay(&recorded) {
                return step;
            }
        }
        self.invent(chance)
    }

    fn replay(&mut self, recorded: &Recorded) -> Option<Step> {
        let (market, middle) = MARKETS[0];
        let price = middle * recorded.price_ppm / 1_000_000;
        // Within the market's band, as far as it may wander.
        let near = (940_000..=1_060_000).contains(&recorded.price_ppm);
        near.then(|| {
            let lots = recorded.lots.clamp(LOTS / 100, LOTS / 10);
            self.limit(market, recorded.side, price, lots, "gtc")
        })
    }

    fn invent(&mut self, chance: u64) -> Step {
        let (market, middle) = MARKETS[usize::try_from(self.random.below(2)).unwrap_or(0)];
        let side = if self.random.below(2) == 0 { "buy" } else { "sell" };
        let lots = LOTS / 100 + self.random.below(LOTS / 25);
        if chance >= 90 {
            let quantity_lots = self.numbered(lots);
            let body = json!({"market": market, "side": side, "orderType": "market", "quantity": decimal(quantity_lots)});
            return Step::Place { market, side, body, quantity_lots, rests: false };
        }
        // Both sides quote about the middle, so that about half of the orders cross at once.
        let width = middle / 1_000;
        let price = middle - width + self.random.below(2 * width);
        self.limit(market, side, price, lots, if chance >= 70 { "ioc" } else { "gtc" })
    }

    fn limit(
        &mut self,
        market: &'static str,
        side: &'static str,
        cents: u64,
        lots: u64,
        time_in_force: &str,
    ) -> Step {
        let quantity_lots = self.numbered(lots);
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        let body = json!({
            "market": market, "side": side, "orderType": "limit", "timeInForce": time_in_force,
            "quantity": decimal(quantity_lots), "price": price,
        });
        Step::Place { market, side, body, quantity_lots, rests: time_in_force == "gtc" }
    }

    /// Returns a quantity near `lots` that no other order of this user has.
    fn numbered(&mut self, lots: u64) -> u64 {
        self.number += 1;
        assert!(self.number < NUMBERS, "a user places fewer orders than there are numbers");
        (lots / NUMBERS).max(1) * NUMBERS + self.number
    }

    /// Returns how many orders were placed.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// Writes a quantity.
pub(crate) fn decimal(lots: u64) -> String {
    format!("{}.{:08}", lots / LOTS, lots % LOTS)
}

/// Reads a quantity.
pub(crate) fn lots(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<8}").parse().unwrap_or_else(|_| panic!("{text} is no quantity"))
}

/// An order of the recorded day: its price in millionths of the day's middle, so that it can be set about ours.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    side: &'static str,
    price_ppm: u64,
    lots: u64,
}

/// Reads the recording and divides it among users, in its order. Without the recording there is none: what is made up
/// does alone.
pub(crate) fn recording(users: usize) -> Vec<Vec<Recorded>> {
    let mut divided = vec![Vec::new(); users];
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/coinbase/replay_coinbase_0.in");
    let Ok(text) = std::fs::read_to_string(path) else {
        return divided;
    };
    let received = text.lines().filter(|line| line.contains(r#""type":"received""#));
    let messages = received.filter_map(|line| {
        serde_json::from_str::<HashMap<String, Value>>(&line[line.find('{')?..]).ok()
    });
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let orders: Vec<(&'static str, f64, f64)> = messages
        .filter_map(|message| {
            let side = if message.get("side")?.as_str()? == "buy" { "buy" } else { "sell" };
            Some((side, number(message.get("price")?)?, number(message.get("size")?)?))
        })
        .collect();
    let mut prices: Vec<f64> = orders.iter().map(|(_, price, _)| *price).collect();
    prices.sort_by(f64::total_cmp);
    let Some(middle) = prices.get(prices.len() / 2).copied() else {
        return divided;
    };
    for (place, (side, price, size)) in orders.into_iter().enumerate() {
        let whole = |value: f64| format!("{value:.0}").parse::<u64>().unwrap_or(0);
        let recorded = Recorded {
            side,
            price_ppm: whole(price / middle * 1_000_000.0),
            lots: whole(size * 100_000_000.0),
        };
        divided[place % users].push(recorded);
    }
    divided
}
