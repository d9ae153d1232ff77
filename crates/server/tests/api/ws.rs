//! The WebSocket, by a client that keeps a book.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use queue::CommandPublisher;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::Case;
use crate::http;
use crate::world::{User, World, config, limit};

pub const CASES: &[Case] = &[
    ("a_book_kept_by_diffs_is_the_book", a_book_kept_by_diffs_is_the_book),
    ("public_channels_tell_what_happens", public_channels_tell_what_happens),
    ("an_account_hears_every_change_once", an_account_hears_every_change_once),
    ("a_broken_connection_is_resumed_without_a_gap", a_broken_connection_is_resumed_without_a_gap),
    ("what_is_not_kept_any_more_is_read_back", what_is_not_kept_any_more_is_read_back),
    ("private_channels_need_a_token", private_channels_need_a_token),
    ("a_session_that_ends_ends_its_channels", a_session_that_ends_ends_its_channels),
    ("a_client_is_kept_within_its_limits", a_client_is_kept_within_its_limits),
    ("pages_of_other_sites_cannot_connect", pages_of_other_sites_cannot_connect),
    ("a_shutdown_is_announced", a_shutdown_is_announced),
    ("a_market_with_new_rules_begins_anew", a_market_with_new_rules_begins_anew),
];

/// A client.
pub struct Client(WebSocket<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let url = format!("ws://{address}/ws").into_client_request().expect("a plain address");
        let (socket, _) = tungstenite::client(url, stream).expect("the server takes connections");
        let mut client = Self(socket);
        let welcome = client.next();
        assert_eq!((&welcome["type"], &welcome["version"]), (&json!("welcome"), &json!(1)));
        client
    }

    fn signed_in(user: &User) -> Self {
        let mut client = Self::connect(user.address);
        client.send(&json!({ "op": "auth", "id": 1, "token": user.token }));
        let answer = client.next();
        assert_eq!((&answer["type"], &answer["id"]), (&json!("ok"), &json!(1)), "{answer}");
        assert!(answer["incarnation"].is_string(), "{answer}");
        client
    }

    pub fn text(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("the connection is open");
    }

    pub fn send(&mut self, request: &Value) {
        self.text(&request.to_string());
    }

    /// Sends, or not where the server has closed already.
    pub fn try_send(&mut self, request: &Value) {
        let _ = self.0.send(Message::text(request.to_string()));
    }

    fn frame(&mut self) -> Message {
        self.0.read().expect("the server says something")
    }

    /// Returns the next message, heartbeats aside.
    pub fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.frame() {
                let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                if message["type"] != "heartbeat" {
                    return message;
                }
            }
        }
    }

    /// Returns the next message of a type, passing others over.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    pub fn subscribe(&mut self, channels: &[&str]) {
        self.send(&json!({ "op": "subscribe", "channels": channels }));
        assert_eq!(self.next_of("ok")["op"], "subscribe");
    }

    /// Returns the code that the server closes with.
    pub fn closed(&mut self) -> u16 {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(Message::Close(None)) => panic!("the server closes with a code"),
                Ok(_) => {}
                Err(error) => panic!("the server closes in good form: {error}"),
            }
        }
    }
}

/// Prices and quantities, best first.
type Levels<'a> = Vec<(&'a str, &'a str)>;

/// A book as a client keeps it: by the price in cents.
#[derive(Default)]
struct Kept {
    bids: BTreeMap<u64, (String, String)>,
    asks: BTreeMap<u64, (String, String)>,
    last: u64,
}

impl Kept {
    fn take(&mut self, message: &Value) {
        let number = |field: &str| message[field].as_u64().expect("update ids are numbers");
        match message["type"].as_str() {
            Some("bookSnapshot") => *self = Self::default(),
            Some("bookUpdate") => assert_eq!(number("firstUpdateId"), self.last + 1, "no gap"),
            _ => return,
        }
        self.last = number("lastUpdateId");
        for (side, field) in [(&mut self.bids, "bids"), (&mut self.asks, "asks")] {
            for level in message[field].as_array().expect("a side is a list") {
                let text = |at: usize| level[at].as_str().expect("levels are texts").to_owned();
                let (price, quantity) = (text(0), text(1));
                let cents = price.replace('.', "").parse().expect("a price in cents");
                if quantity.chars().all(|c| c == '0' || c == '.') {
                    side.remove(&cents);
                } else {
                    side.insert(cents, (price, quantity));
                }
            }
        }
        assert_eq!(message["checksum"], self.checksum(), "{message}");
    }

    fn sides(&self) -> (Levels<'_>, Levels<'_>) {
        fn plain((price, quantity): &(String, String)) -> (&str, &str) {
            (price, quantity)
        }
        (self.bids.values().rev().map(plain).collect(), self.asks.values().map(plain).collect())
    }

    fn checksum(&self) -> u32 {
        let (bids, asks) = self.sides();
        let part = |levels: &[(&str, &str)]| {
            levels.iter().take(10).map(|(price, quantity)| format!("{price}:{quantity}")).collect()
        };
        let (bids, asks): (Vec<String>, Vec<String>) = (part(&bids), part(&asks));
        wire::checksum::crc32([bids, asks].concat().join("|").as_bytes())
    }
}

/// A small generator with a seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn a_book_kept_by_diffs_is_the_book(world: &World) {
    let seed = std::env::var("KX_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed} (KX_SEED)");
    let mut dice = Dice(seed);
    let users = [world.funded("1000000.00", "20"), world.funded("1000000.00", "20")];
    let mut first = Client::connect(world.address);
    first.subscribe(&["book:BTC-USD"]);
    let mut late = None;
    let mut sequence = String::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for round in 0..200 {
        if round == 100 {
            let mut client = Client::connect(world.address);
            client.subscribe(&["book:BTC-USD"]);
            late = Some(client);
        }
        let who = usize::from(dice.roll(2) == 1);
        let reply = if dice.roll(4) == 0 && !open.is_empty() {
            let at = usize::try_from(dice.roll(open.len() as u64)).expect("few orders");
            let (owner, id) = open.swap_remove(at);
            users[owner].delete(&format!("/api/v1/orders/{id}"))
        } else {
            let side = if dice.roll(2) == 0 { "buy" } else { "sell" };
            let price = format!("{}.{:02}", 49_990 + dice.roll(20), dice.roll(100));
            let quantity = format!("0.{:03}", 1 + dice.roll(99));
            let mut order = limit(side, &price, &quantity);
            if dice.roll(5) == 0 {
                order["displayQuantity"] = json!(format!("0.{:05}", 100 + dice.roll(100)));
            }
            let reply = users[who].order(&order);
            if reply.status == 201 {
                let id = reply.json()["id"].as_str().expect("an order has an id").to_owned();
                open.push((who, id));
            }
            reply
        };
        assert!([200, 201, 409, 422].contains(&reply.status), "{}", reply.text());
        if let Some(row) = reply.header("x-sequence").filter(|_| reply.status < 300) {
            sequence = row.to_owned();
        }
    }
    let headers = [("x-min-sequence", sequence.as_str())];
    let path = "/api/v1/markets/BTC-USD/book?depth=1000";
    let book = http::send(world.address, "GET", path, &headers, None).expect(200);
    for client in [&mut first, late.as_mut().expect("it has joined")] {
        let mut kept = Kept::default();
        while Some(kept.last) != book["lastUpdateId"].as_u64() {
            kept.take(&client.next());
        }
        let (bids, asks) = kept.sides();
        assert_eq!(json!(bids), book["bids"]);
        assert_eq!(json!(asks), book["asks"]);
        assert_eq!(json!(kept.checksum()), book["checksum"]);
    }
    for user in &users {
        user.delete("/api/v1/orders?market=BTC-USD");
    }
}

fn public_channels_tell_what_happens(world: &World) {
    let mut client = Client::connect(world.address);
    let channels = ["trades:BTC-USD", "ticker:BTC-USD", "candles:BTC-USD:1m", "status"];
    client.subscribe(&channels);
    let status = client.next_of("status");
    assert_eq!((&status["live"], &status["markets"][0]["state"]), (&json!(true), &json!("open")));
    let (seller, buyer) = (world.funded("0", "1"), world.funded("10000.00", "0"));
    seller.limit("sell", "50000.00", "0.0123");
    let bought = buyer.limit("buy", "50000.00", "0.0123");
    let price = bought["fills"][0]["price"].clone();
    let mut due = vec!["trades", "ticker", "candle"];
    while !due.is_empty() {
        let message = client.next();
        let fits = match message["type"].as_str() {
            Some("trades") if message["snapshot"] == false => message["trades"]
                .as_array()
                .is_some_and(|all| all.iter().any(|t| t["quantity"] == "0.01230000")),
            Some("ticker") => message["lastPrice"] == price,
            Some("candle") => message["candle"]["close"] == price && message["interval"] == "1m",
            _ => false,
        };
        if fits {
            due.retain(|kind| message["type"] != *kind);
        }
    }
    client.send(&json!({ "op": "ping", "id": 9 }));
    assert_eq!(client.next_of("pong")["id"], 9);
    client.send(&json!({ "op": "unsubscribe", "channels": channels }));
    assert_eq!(client.next_of("ok")["op"], "unsubscribe");
}

/// Reads an account's changes until the order of this id is closed.
fn changes_until(client: &mut Client, id: &Value, status: &str) -> Vec<Value> {
    let mut changes = Vec::new();
    loop {
        let change = client.next_of("account");
        let order = &change["data"];
        let last = change["channel"] == "orders" && order["id"] == *id && order["status"] == status;
        changes.push(change);
        if last {
            return changes;
        }
    }
}

fn number(message: &Value) -> u64 {
    message["accountSequence"].as_u64().expect("changes are numbered")
}

fn assert_gapless(after: u64, changes: &[Value]) {
    let numbers: Vec<u64> = changes.iter().map(number).collect();
    let expected: Vec<u64> = (after + 1..).take(changes.len()).collect();
    assert_eq!(numbers, expected, "every change once and in order");
}

const OWN: [&str; 4] = ["orders", "fills", "balances", "withdrawals"];

fn an_account_hears_every_change_once(world: &World) {
    let (user, other) = (world.funded("10000.00", "0"), world.funded("0", "1"));
    let mut client = Client::signed_in(&user);
    client.subscribe(&OWN);
    let snapshot = client.next_of("accountSnapshot");
    assert_eq!(snapshot["orders"], json!([]));
    assert_eq!(snapshot["balances"][0]["available"], "10000.00");
    other.limit("sell", "50000.00", "0.01");
    let order = user.limit("buy", "50000.00", "0.02");
    let path = format!("/api/v1/orders/{}", order["id"].as_str().expect("an id"));
    user.delete(&path).expect(200);
    let mut changes = changes_until(&mut client, &order["id"], "cancelled");
    let fills: Vec<Value> =
        changes.iter().filter(|change| change["channel"] == "fills").cloned().collect();
    assert_eq!(fills.len(), 1);
    assert_eq!(fills[0]["data"]["orderId"], order["id"]);
    assert_eq!(fills[0]["data"]["liquidity"], "taker");
    assert_eq!(fills[0]["data"]["feeAsset"], "BTC");
    // The hold that is released may come after the order.
    let last = world.live.read(|state| state.account(user.account)).expect("it is open");
    while changes.last().map(number) != Some(last.account_sequence) {
        changes.push(client.next_of("account"));
    }
    assert_gapless(number(&snapshot), &changes);
    let usd = changes.iter().rfind(|change| change["data"]["asset"] == "USD").expect("it paid");
    let balance = world.live.read(|state| state.balance(user.account, crate::world::USD));
    let asset = engine::AssetConfig { symbol: "USD".into(), scale: 10, transfer_scale: 2 };
    let available = wire::decimal::format_amount(&asset, balance.available);
    assert_eq!(usd["data"]["available"], json!(available));
    assert_eq!(usd["data"]["held"], "0.00");
}

fn a_broken_connection_is_resumed_without_a_gap(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut client = Client::signed_in(&user);
    client.subscribe(&OWN);
    let seen = number(&client.next_of("accountSnapshot"));
    drop(client);
    let ids: Vec<Value> =
        ["47000.00", "47001.00"].map(|price| user.limit("buy", price, "0.01")["id"].clone()).into();
    let mut again = Client::signed_in(&user);
    again.send(&json!({ "op": "resume", "accountSequence": seen }));
    assert_eq!(again.next()["op"], "resume");
    let changes = changes_until(&mut again, &ids[1], "open");
    assert_gapless(seen, &changes);
    assert!(changes.iter().any(|change| change["data"]["id"] == ids[0]), "{changes:?}");

    // What is not known any more, or was never there, is begun anew.
    let mut lost = Client::signed_in(&user);
    lost.send(&json!({ "op": "resume", "accountSequence": 1_000_000 }));
    assert_eq!(lost.next_of("resync")["accountSequence"], 1_000_000);
    let snapshot = lost.next_of("accountSnapshot");
    assert_eq!(snapshot["orders"].as_array().map(Vec::len), Some(2), "{snapshot}");
    let now = number(&snapshot);
    // Another journal's number means nothing here.
    let mut restored = Client::signed_in(&user);
    restored.send(&json!({ "op": "resume", "accountSequence": now, "incarnation": "1" }));
    assert_eq!(restored.next_of("resync")["accountSequence"], now);
    // Nothing has happened since: there is nothing to say, and what comes next is heard.
    let mut quiet = Client::signed_in(&user);
    quiet.send(&json!({ "op": "resume", "accountSequence": now, "channels": ["orders"] }));
    assert_eq!(quiet.next()["op"], "resume");
    let order = user.limit("buy", "47002.00", "0.01");
    let heard = changes_until(&mut quiet, &order["id"], "open");
    assert!(heard.iter().all(|change| change["channel"] == "orders" && number(change) > now));
}

/// Another server has kept nothing of the account: it says `resync`, and the fills that were missed.
fn what_is_not_kept_any_more_is_read_back(world: &World) {
    let (user, other) = (world.funded("10000.00", "0"), world.funded("0", "1"));
    let mut client = Client::signed_in(&user);
    client.subscribe(&OWN);
    let seen = number(&client.next_of("accountSnapshot"));
    drop(client);
    other.limit("sell", "50000.00", "0.01");
    let bought = user.limit("buy", "50000.00", "0.01");
    let mut moved = user.clone();
    moved.address = world.serve(config());
    let mut again = Client::signed_in(&moved);
    again.send(&json!({ "op": "resume", "accountSequence": seen }));
    again.next_of("resync");
    let until = number(&again.next_of("accountSnapshot"));
    let missed = again.next_of("missedFills");
    assert_eq!((&missed["after"], &missed["until"]), (&json!(seen), &json!(until)));
    assert_eq!(missed["complete"], true);
    assert_eq!(missed["fills"].as_array().map(Vec::len), Some(1), "{missed}");
    assert_eq!(missed["fills"][0]["orderId"], bought["id"]);
    assert!((seen + 1..=until).contains(&number(&missed["fills"][0])), "{missed}");
}

fn private_channels_need_a_token(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut client = Client::connect(world.address);
    for channel in OWN {
        client.send(&json!({ "op": "subscribe", "id": 3, "channels": [channel] }));
        let refused = client.next();
        assert_eq!((&refused["code"], &refused["id"]), (&json!("unauthenticated"), &json!(3)));
    }
    client.send(&json!({ "op": "resume", "accountSequence": 0 }));
    assert_eq!(client.next()["code"], "unauthenticated");
    let forged = format!("{}x", user.token);
    for token in ["", "x", forged.as_str(), user.refresh.as_str()] {
        client.send(&json!({ "op": "auth", "token": token }));
        assert_eq!(client.next()["code"], "unauthenticated", "{token}");
    }
    // A token in the address opens nothing.
    let stream = TcpStream::connect(world.address).expect("the server listens");
    let url = format!("ws://{}/ws?token={}", world.address, user.token);
    let request = url.into_client_request().expect("a plain address");
    let (socket, _) = tungstenite::client(request, stream).expect("the server takes connections");
    let mut client = Client(socket);
    client.next_of("welcome");
    client.send(&json!({ "op": "subscribe", "channels": ["orders"] }));
    assert_eq!(client.next()["code"], "unauthenticated");
}

fn a_session_that_ends_ends_its_channels(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut client = Client::signed_in(&user);
    client.subscribe(&["orders"]);
    client.next_of("accountSnapshot");
    let body = json!({ "refreshToken": user.refresh });
    assert!(user.post("/api/v1/auth/logout", &body).status < 300);
    client.next_of("authExpired");
    client.send(&json!({ "op": "subscribe", "channels": ["orders"] }));
    assert_eq!(client.next()["code"], "unauthenticated");
}

fn a_client_is_kept_within_its_limits(world: &World) {
    let mut client = Client::connect(world.address);
    for text in ["", "{", "null", "[]", "{\"op\":\"steal\"}", "{\"op\":\"ping\",\"x\":1}"] {
        client.text(text);
        assert_eq!(client.next()["code"], "request_malformed", "{text}");
    }
    for channel in
        ["book:NOP-USD", "book:btc-usd", "orders:1001", "balances:*", "candles:BTC-USD:2m"]
    {
        client.send(&json!({ "op": "subscribe", "channels": [channel] }));
        let refused = client.next();
        assert_eq!(
            (&refused["code"], &refused["channel"]),
            (&json!("channel_unknown"), &json!(channel))
        );
    }
    let many = vec!["book:BTC-USD"; 10_000 / 16];
    client.send(&json!({ "op": "subscribe", "channels": many }));
    assert_eq!(client.next()["code"], "too_many_channels");

    for length in [20_000, 1_048_576] {
        let mut client = Client::connect(world.address);
        // The server may close before it has read it all.
        let _ = client.0.send(Message::text("x".repeat(length)));
        assert_eq!(client.closed(), 1009, "{length}");
    }
    let mut binary = Client::connect(world.address);
    binary.0.send(Message::binary(vec![1, 2, 3])).expect("the connection is open");
    assert_eq!(binary.closed(), 1008);
    for ping in [false, true] {
        let mut flood = Client::connect(world.address);
        for _ in 0..200 {
            let frame = if ping { Message::Ping(Vec::new().into()) } else { Message::text("{}") };
            // The server may have closed already.
            if flood.0.send(frame).is_err() {
                break;
            }
        }
        assert_eq!(flood.closed(), 1008, "pings: {ping}");
    }
}

fn pages_of_other_sites_cannot_connect(world: &World) {
    let upgrade = |origin: Option<&str>| {
        let mut headers = vec![
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.extend(origin.map(|origin| ("origin", origin)));
        http::send(world.address, "GET", "/ws", &headers, None)
    };
    for origin in ["http://evil.example", "null", "", "https://evil.example:5000"] {
        assert_eq!(upgrade(Some(origin)).problem(403), "origin_forbidden", "{origin}");
    }
    assert_eq!(world.get("/ws").problem(400), "header_malformed");
    assert_eq!(world.get("/ws/").problem(404), "not_found");
}

fn a_shutdown_is_announced(world: &World) {
    let stop = CancellationToken::new();
    let (address, serving) = world.serve_until(config(), stop.clone());
    let mut client = Client::connect(address);
    client.subscribe(&["book:BTC-USD"]);
    stop.cancel();
    let notice = client.next_of("shutdown");
    assert!(notice["reconnectAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{notice}");
    assert_eq!(client.closed(), 1012);
    world.runtime.block_on(serving).expect("the server has stopped");
}

/// Who listens is given a new snapshot, and what follows fits to it; an account's own stream goes on without a gap.
fn a_market_with_new_rules_begins_anew(world: &World) {
    let user = world.funded("10000.00", "0");
    let mut book = Client::connect(world.address);
    book.subscribe(&["book:BTC-USD"]);
    let mut kept = Kept::default();
    kept.take(&book.next_of("bookSnapshot"));
    let mut own = Client::signed_in(&user);
    own.subscribe(&OWN);
    let seen = number(&own.next_of("accountSnapshot"));

    let market = world.live.read(|state| {
        let market = state.market(units::MarketId::new(0)).expect("the first market is there");
        let notional_min = units::Amount::new(market.config.notional_min.get() * 2);
        engine::MarketConfig { notional_min, ..market.config.clone() }
    });
    let command = engine::Command {
        id: units::CommandId::new(uuid::Uuid::now_v7().as_u128()),
        body_hash: 1,
        expires_at: world.live.journal_now().plus_micros(15_000_000),
        trace_id: 0,
        origin: engine::Origin::Client,
        action: engine::Action::DefineMarket(market),
    };
    let mut waiter = world.live.expect(command.id);
    let (incarnation, seen_row) = (world.live.incarnation(), world.live.sequence());
    let message = journal::Message { incarnation, seen: seen_row, command };
    let outcome = world.runtime.block_on(async {
        world.queue.publish(message.encode().into(), 0).await;
        waiter.outcome(Duration::from_secs(10)).await.expect("it is decided")
    });
    assert_eq!(outcome.entry().event, engine::Event::Done);
    let rules = world.get("/api/v1/markets/BTC-USD").expect(200);
    assert_eq!(rules["notionalMin"], "2.00");

    let order = user.limit("buy", "47003.00", "0.01");
    kept.take(&book.next_of("bookSnapshot"));
    while !kept.bids.contains_key(&4_700_300) {
        kept.take(&book.next_of("bookUpdate"));
    }
    let changes = changes_until(&mut own, &order["id"], "open");
    assert_gapless(seen, &changes);
}
