//! The same orders through a whole exchange: over HTTP as two of its users, strictly one after the other on one
//! connection, then what it made of them read back and compared with the core.
//!
//! Invariant: every order is sent only after the answer to the one before it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use engine::{Action, AmendOrder, NewOrder, OrderRef, OrderType, Side, TimeInForce};
use serde_json::{Value, json};
use units::{CommandId, QuantityLots};

use super::grid::Grid;
use super::venue::Venue;
use super::{Mirror, Tally};
use crate::bench::http::{self, Blocking, Reply};

/// How long a page of a list may take to show what was answered before.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// How long to wait when the exchange says that it is asked too often.
const RATE_PAUSE: Duration = Duration::from_millis(200);
/// Rows of one page.
const PAGE_ROWS: usize = 500;

/// Makes an access token for the buyer or the seller, again and again: they live five minutes.
pub(crate) type Tokens = Box<dyn Fn(Side) -> anyhow::Result<String>>;

/// How old a token may be before the next one is made.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(120);

/// An order as it was sent.
#[derive(Clone, Debug)]
struct Sent {
    /// The exchange's id for it.
    id: String,
    side: Side,
}

/// A fill as both sides of it must show it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fill {
    taker: String,
    maker: String,
    price: String,
    quantity: String,
}

/// The exchange, seen from outside.
pub(crate) struct Server<'a> {
    client: Blocking,
    address: SocketAddr,
    grid: &'a Grid,
    market: String,
    tokens: Tokens,
    token_texts: [String; 2],
    token_time: Instant,
    /// By the core's id.
    sent: HashMap<CommandId, Sent>,
    /// The exchange's ids by the file's; of an id that is used again, the last.
    names: HashMap<String, String>,
    /// What the core has filled, in order.
    expected: Vec<Fill>,
    requests: u64,
    last_sequence: u64,
}

impl<'a> Server<'a> {
    /// Connects to the exchange.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or no token is to be had.
    pub(crate) fn new(
        address: SocketAddr,
        grid: &'a Grid,
        market: String,
        tokens: Tokens,
    ) -> anyhow::Result<Self> {
        let client = Blocking::open(address).with_context(|| format!("cannot reach {address}"))?;
        let token_texts = [tokens(Side::Buy)?, tokens(Side::Sell)?];
        Ok(Self {
            client,
            address,
            grid,
            market,
            tokens,
            token_texts,
            token_time: Instant::now(),
            sent: HashMap::new(),
            names: HashMap::new(),
            expected: Vec::new(),
            requests: 0,
            last_sequence: 0,
        })
    }

    /// Returns the requests that were sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    fn call(
        &mut self,
        side: Side,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Reply> {
        if self.token_time.elapsed() > TOKEN_AGE_MAX {
            self.token_texts = [(self.tokens)(Side::Buy)?, (self.tokens)(Side::Sell)?];
            self.token_time = Instant::now();
        }
        let token = match side {
            Side::Buy => &self.token_texts[0],
            Side::Sell => &self.token_texts[1],
        };
        let body = body.map(Value::to_string);
        let request = http::request(method, path, self.address, Some(token), body.as_deref());
        loop {
            self.requests += 1;
            let reply = self.client.call(&request);
            let reply = reply.with_context(|| format!("{method} {path} was not answered"))?;
            if reply.status != 429 {
                return Ok(reply);
            }
            std::thread::sleep(RATE_PAUSE);
        }
    }

    fn place(
        &mut self,
        command: CommandId,
        order: &NewOrder,
        name: &str,
    ) -> anyhow::Result<Option<Value>> {
        let NewOrder { side, price, quantity, quote_amount, time_in_force, post_only, .. } = order;
        let mut body = json!({
            "market": self.market,
            "side": if *side == Side::Buy { "buy" } else { "sell" },
            "orderType": if order.order_type == OrderType::Market { "market" } else { "limit" },
            "timeInForce": if *time_in_force == TimeInForce::Ioc { "ioc" } else { "gtc" },
            "postOnly": post_only,
        });
        if let Some(price) = price {
            body["price"] = self.grid.price_text(*price).into();
        }
        if *quantity != QuantityLots::ZERO {
            body["quantity"] = self.grid.quantity_text(*quantity).into();
        }
        if let Some(amount) = quote_amount {
            body["quoteAmount"] = self.grid.funds_text(*amount).into();
        }
        let reply = self.call(*side, "POST", "/api/v1/orders", Some(&body))?;
        if reply.status == 422 {
            // The core has refused it too, or the caller finds the difference.
            return Ok(None);
        }
        ensure!(reply.status == 201, "the order was not decided: {:?}", reply.json());
        let value = reply.json()?;
        let id = text(&value, &["id", "orderId"])
            .or_else(|| text(value.get("order")?, &["id", "orderId"]))
            .with_context(|| format!("the answer names no order: {value}"))?;
        self.last_sequence = value["sequence"].as_u64().unwrap_or(self.last_sequence);
        self.sent.insert(command, Sent { id: id.clone(), side: *side });
        if !name.is_empty() {
            self.names.insert(name.to_owned(), id);
        }
        Ok(Some(value))
    }

    fn order(&self, order: &OrderRef) -> anyhow::Result<Sent> {
        let OrderRef::Id(id) = order else { bail!("orders are named by their ids here") };
        self.sent.get(id).cloned().context("the order was sent before")
    }

    fn amend(&mut self, amend: &AmendOrder) -> anyhow::Result<()> {
        let Sent { id, side } = self.order(&amend.order)?;
        let total = amend.quantity.context("a reduction names the new quantity")?;
        let body = json!({ "quantity": self.grid.quantity_text(total) });
        let reply = self.call(side, "PATCH", &format!("/api/v1/orders/{id}"), Some(&body))?;
        reply.json().map(drop).context("the exchange does not reduce the order")
    }

    /// Compares the answer's fills with the core's; the makers are compared at the end.
    fn compare_answer(
        &mut self,
        venue: &Venue,
        command: CommandId,
        answer: Option<&Value>,
    ) -> anyhow::Result<()> {
        let fills = answer.map(|answer| list(&answer["fills"])).unwrap_or_default();
        let theirs: Vec<_> = fills.iter().map(|fill| amounts(fill)).collect::<Result<_, _>>()?;
        let ours: Vec<_> = venue
            .fills()
            .iter()
            .map(|fill| (self.grid.price_text(fill.price), self.grid.quantity_text(fill.quantity)))
            .map(|(price, quantity)| (plain(&price), plain(&quantity)))
            .collect();
        ensure!(theirs == ours, "the exchange answers the fills {theirs:?}; the core has {ours:?}");
        let Some(taker) = self.sent.get(&command).map(|sent| sent.id.clone()) else {
            return Ok(());
        };
        for (fill, (price, quantity)) in venue.fills().iter().zip(ours) {
            let maker = self.names.get(&*fill.maker).context("a maker was sent before")?.clone();
            self.expected.push(Fill { taker: taker.clone(), maker, price, quantity });
        }
        Ok(())
    }

    /// Reads every fill, every open order and the book back and compares them with the core.
    ///
    /// # Errors
    ///
    /// The exchange does not answer, or does not catch up.
    pub(crate) fn compare(&mut self, venue: &Venue, tally: &mut Tally) -> anyhow::Result<()> {
        let fills = self.fills()?;
        for (number, expected) in self.expected.iter().enumerate() {
            match fills.get(number) {
                Some(fill) if fill == expected => tally.exchange += 1,
                other => tally.differs(
                    0,
                    format!(
                        "fill {}: the exchange has {other:?}; the core {expected:?}",
                        number + 1
                    ),
                ),
            }
        }
        if fills.len() > self.expected.len() {
            let more = fills.len() - self.expected.len();
            tally.differs(0, format!("the exchange has {more} fills more than the core"));
        }
        self.compare_orders(venue, tally)?;
        self.compare_book(venue, tally)
    }

    /// Reads the fills of both users and joins them by trade.
    fn fills(&mut self) -> anyhow::Result<Vec<Fill>> {
        let started = Instant::now();
        loop {
            let mut trades: HashMap<u64, [Option<Value>; 2]> = HashMap::new();
            for side in [Side::Buy, Side::Sell] {
                for fill in self.pages(side, "/api/v1/fills")? {
                    let trade = fill["tradeId"].as_u64().context("a fill names its trade")?;
                    let maker = usize::from(fill["liquidity"] == "maker");
                    trades.entry(trade).or_default()[maker] = Some(fill);
                }
            }
            let whole = trades.values().all(|sides| sides.iter().all(Option::is_some));
            let enough = trades.len() >= self.expected.len() && whole;
            if !enough && started.elapsed() < CATCH_UP_MAX {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let mut trades: Vec<_> = trades.into_iter().collect();
            trades.sort_by_key(|(trade, _)| *trade);
            return trades.into_iter().map(|(_, sides)| joined(&sides)).collect();
        }
    }

    fn compare_orders(&mut self, venue: &Venue, tally: &mut Tally) -> anyhow::Result<()> {
        let mut open = HashMap::new();
        for side in [Side::Buy, Side::Sell] {
            for order in self.pages(side, "/api/v1/orders?status=open")? {
                let id = text(&order, &["id"]).context("an order has an id")?;
                let remaining = text(&order, &["remainingQuantity"]).unwrap_or_default();
                open.insert(id, plain(&remaining));
            }
        }
        for (name, ours) in venue.orders() {
            let id = self.names.get(name).context("an open order was sent before")?;
            let remaining = plain(&self.grid.quantity_text(ours.remaining));
            match open.remove(id) {
                Some(theirs) if theirs == remaining => tally.exchange += 1,
                theirs => tally.differs(
                    0,
                    format!("order {name}: {remaining} remains; the exchange has {theirs:?}"),
                ),
            }
        }
        for (id, remaining) in open {
            tally
                .differs(0, format!("the exchange has order {id} with {remaining}, the core none"));
        }
        Ok(())
    }

    fn compare_book(&mut self, venue: &Venue, tally: &mut Tally) -> anyhow::Result<()> {
        let market = self.market.replace('/', "-");
        let path = format!("/api/v1/markets/{market}/book?depth=100");
        let book = self.call(Side::Buy, "GET", &path, None)?.json()?;
        for (name, side) in [("bids", Side::Buy), ("asks", Side::Sell)] {
            let theirs: Vec<_> = list(&book[name]).iter().map(|level| level_of(level)).collect();
            let ours: Vec<_> = venue
                .depth(side)
                .take(theirs.len().max(1))
                .map(|(price, quantity)| {
                    (plain(&self.grid.price_text(price)), plain(&self.grid.quantity_text(quantity)))
                })
                .collect();
            if theirs != ours {
                tally.differs(0, format!("the {name} are {theirs:?}; the core has {ours:?}"));
            } else {
                tally.exchange += 1;
            }
        }
        Ok(())
    }

    /// Reads all pages of a list.
    fn pages(&mut self, side: Side, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{mark}limit={PAGE_ROWS}");
            if let Some(cursor) = &cursor {
                page.push_str(&format!("&cursor={cursor}"));
            }
            let mut value = self.call(side, "GET", &page, None)?.json()?;
            if let Some(list) = value["items"].as_array_mut() {
                items.append(list);
            }
            cursor = text(&value, &["nextCursor"]);
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }
}

impl Mirror for Server<'_> {
    fn send(&mut self, venue: &Venue, order_id: &str) -> anyhow::Result<()> {
        let Some((command, action)) = venue.last() else { return Ok(()) };
        match action {
            Action::PlaceOrder(order) => {
                let answer = self.place(command, order, order_id)?;
                self.compare_answer(venue, command, answer.as_ref())
            }
            Action::CancelOrder { order, .. } => {
                let Sent { id, side } = self.order(order)?;
                let reply = self.call(side, "DELETE", &format!("/api/v1/orders/{id}"), None)?;
                reply.json().map(drop).context("the exchange does not cancel the order")
            }
            Action::AmendOrder(amend) => self.amend(amend),
            other => bail!("nothing sends {other:?}"),
        }
    }
}

fn joined([taker, maker]: &[Option<Value>; 2]) -> anyhow::Result<Fill> {
    let (Some(taker), Some(maker)) = (taker, maker) else {
        bail!("a trade has one side only: {taker:?}, {maker:?}")
    };
    let (price, quantity) = amounts(maker)?;
    ensure!(
        amounts(taker)? == (price.clone(), quantity.clone()),
        "both sides have the same amounts"
    );
    let order = |fill: &Value| text(fill, &["orderId"]).context("a fill names its order");
    Ok(Fill { taker: order(taker)?, maker: order(maker)?, price, quantity })
}

fn amounts(fill: &Value) -> anyhow::Result<(String, String)> {
    let number = |key| text(fill, &[key]).with_context(|| format!("a fill has a {key}: {fill}"));
    Ok((plain(&number("price")?), plain(&number("quantity")?)))
}

fn level_of(level: &Value) -> (String, String) {
    let number = |index: usize| level[index].as_str().map(plain).unwrap_or_default();
    (number(0), number(1))
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map(|items| items.iter().collect()).unwrap_or_default()
}

fn text(value: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| value.get(key)?.as_str()).map(str::to_owned)
}

/// Writes a decimal without trailing zeros, so that texts compare as numbers.
fn plain(text: &str) -> String {
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text.to_owned(),
    }
}
