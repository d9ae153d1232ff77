//! Scenes: text in, text out, through one [`check`].
//!
//! A scene is a file in `scenarios/`. A line that begins with `do` names the columns of the rows after it; each row is
//! a command, with `.` where a column has nothing, and what came of it after `=>`. `book` and `balances` show how things stand,
//! indented below. `UPDATE_SCENARIOS=1 cargo test -p engine --test exchange` writes what comes of everything
//! anew; the difference is then read, not trusted.
//!
//! One tick of a lot is one unit of quote, one lot one unit of base, so that sums can be done in the head. Everybody
//! mentioned has an account.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use engine::*;
use units::*;

use crate::pair::Pair;

const START: Time = Time::from_micros(1_700_000_000_000_000);

/// Runs a scene and compares what comes of it with what its file says.
pub(crate) fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/exchange/scenarios")
        .join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let actual = Scene::new().play(&expected);
    if std::env::var_os("UPDATE_SCENARIOS").is_some() {
        std::fs::write(&file, &actual).expect("the scene's file can be written");
        return;
    }
    for (line, (is, should)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "{name}.txt, line {}", line + 1);
    }
    assert_eq!(actual, expected, "{name}.txt");
}

struct Scene {
    pair: Pair,
    people: BTreeMap<String, AccountId>,
    /// Names of commands, and their ids.
    names: BTreeMap<String, CommandId>,
    order_names: BTreeMap<(MarketId, OrderId), String>,
    sent: BTreeMap<String, Command>,
    commands: u128,
}

/// A row by its columns.
struct Row<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Row<'a> {
    fn get(&self, column: &str) -> Option<&'a str> {
        self.0.get(column).copied().filter(|cell| *cell != ".")
    }

    fn need(&self, column: &str) -> &'a str {
        self.get(column).unwrap_or_else(|| panic!("a row of {:?} needs `{column}`", self.0))
    }

    fn number(&self, column: &str) -> Option<u64> {
        let cell = self.get(column)?;
        Some(cell.parse().unwrap_or_else(|_| panic!("{column}: {cell} is not a whole number")))
    }

    fn price(&self, column: &str) -> Option<PriceTicks> {
        self.number(column).map(|ticks| PriceTicks::new(ticks).expect("a price is not zero"))
    }
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            pair: Pair::new(START),
            people: BTreeMap::new(),
            names: BTreeMap::new(),
            order_names: BTreeMap::new(),
            sent: BTreeMap::new(),
            commands: 0,
        };
        scene.done(Action::Genesis(Settings { incarnation: 1, salt: 7, sandbox: true }));
        for symbol in ["USD", "BTC", "ETH"] {
            let symbol = symbol.into();
            scene.done(Action::DefineAsset(AssetConfig { symbol, scale: 0, transfer_scale: 0 }));
        }
        for (symbol, base) in [("BTC/USD", 1), ("ETH/USD", 2)] {
            scene.done(Action::DefineMarket(MarketConfig {
                symbol: symbol.into(),
                base: AssetId::new(base),
                quote: AssetId::new(0),
                base_units_per_lot: 1,
                quote_units_per_tick_lot: 1,
                tick_size: Amount::new(1),
                notional_min: Amount::ZERO,
                quantity_max: QuantityLots::new(u64::MAX),
                maker_fee: RatePpm::new(0),
                taker_fee: RatePpm::new(0),
                band: None,
                halt_move: None,
                initial_price: None,
            }));
        }
        scene
    }

    fn done(&mut self, action: Action) {
        let command = self.command(action);
        let decision = self.pair.client(&command);
        assert_eq!(decision, Decision::Event(Event::Done), "for {command:?}");
    }

    fn command(&mut self, action: Action) -> Command {
        self.commands += 1;
        Command {
            id: CommandId::new(self.commands),
            body_hash: 1,
            expires_at: self.pair.naive.now.plus_micros(15_000_000),
            trace_id: 0,
            origin: Origin::Client,
            action,
        }
    }

    fn play(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut columns: Vec<&str> = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> =
                line.split("=>").next().unwrap_or("").split_whitespace().collect();
            match words.first().copied() {
                // What was shown below a question, or came of a row beside its own outcome.
                Some(_) if line.starts_with(' ') => continue,
                None => writeln!(out, "{line}"),
                Some(word) if word.starts_with('#') => writeln!(out, "{line}"),
                Some("do") => {
                    columns.clone_from(&words);
                    writeln!(out, "{line}")
                }
                Some("book") => writeln!(out, "{line}\n{}", self.book(&words)),
                Some("balances") => writeln!(out, "{line}\n{}", self.balances()),
                Some(_) => {
                    assert!(words.len() <= columns.len(), "more cells than columns: {line}");
                    let row = Row(columns.iter().copied().zip(words.iter().copied()).collect());
                    let head = line.split("=>").next().unwrap_or("").trim_end();
                    writeln!(out, "{head} => {}", self.row(&row))
                }
            }
            .expect("a string can be written to");
        }
        self.pair.close_batch();
        out
    }

    fn account(&mut self, name: &str) -> AccountId {
        if let Some(account) = self.people.get(name) {
            return *account;
        }
        let account = AccountId::new(1_000 + self.people.len() as u64);
        self.people.insert(name.to_owned(), account);
        self.done(Action::OpenAccount { account });
        account
    }

    /// The id of a named command, sent or to come.
    fn id(&mut self, name: &str) -> CommandId {
        let next = CommandId::new(1_000_000 + self.names.len() as u128);
        *self.names.entry(name.to_owned()).or_insert(next)
    }

    fn row(&mut self, row: &Row<'_>) -> String {
        match row.need("do") {
            "wait" => {
                let seconds: u64 = row.need("lots").parse().expect("seconds");
                self.pair.next_batch(seconds * 1_000_000);
                return format!("later{}", self.own_work(0));
            }
            "restart" => {
                self.pair.restart();
                return format!("the same state{}", self.own_work(0));
            }
            "repeat" | "forge" => {
                let mut command = self.sent[row.need("order")].clone();
                if row.need("do") == "forge" {
                    command.body_hash += 1;
                }
                return self.send(&command);
            }
            _ => {}
        }
        let action = self.action(row);
        let mut command = self.command(action);
        let makes = matches!(row.need("do"), "place" | "withdraw" | "late");
        if makes {
            command.id = self.id(row.need("order"));
            self.sent.insert(row.need("order").to_owned(), command.clone());
        }
        if row.need("do") == "late" {
            command.expires_at = Time::from_micros(START.micros() - 1);
        }
        self.send(&command)
    }

    fn send(&mut self, command: &Command) -> String {
        let before = self.pair.entries.len();
        let outcome = match self.pair.client(command) {
            Decision::Event(event) => {
                if let (Action::PlaceOrder(new), Event::OrderPlaced(placed)) =
                    (&command.action, &event)
                {
                    let name = self.name(command.id);
                    self.order_names.insert((new.market, placed.order_id), name);
                }
                self.event(&event, &command.action)
            }
            Decision::Repeat { .. } => return "repeat: nothing happens".to_owned(),
            Decision::IdReused => return "refused: id_reused".to_owned(),
        };
        outcome + &self.own_work(before + 1)
    }

    /// What the state has done of itself since an entry.
    fn own_work(&self, from: usize) -> String {
        let entries = self.pair.entries[from..].iter();
        let lines = entries.map(|entry| {
            let (command, event) = (&entry.command, &entry.event);
            let what = match &command.action {
                Action::ExpireOrder { order, .. } => format!("expire {}", self.name(*order)),
                Action::CancelNext { order, .. } => format!("cancel {}", self.name(*order)),
                Action::TriggerStop { order, .. } => format!("trigger {}", self.name(*order)),
                Action::HaltMarket { .. } => "halt".to_owned(),
                other => panic!("not the state's own work: {other:?}"),
            };
            format!("\n    {what} => {}", self.event(event, &command.action))
        });
        lines.collect()
    }

    fn name(&self, id: CommandId) -> String {
        let found = self.names.iter().find(|(_, named)| **named == id);
        found.map_or_else(|| format!("#{id}"), |(name, _)| name.clone())
    }

    fn event(&self, event: &Event, action: &Action) -> String {
        match event {
            Event::Rejected(reject) => format!("refused: {}", reject.code()),
            Event::Done => "done".to_owned(),
            Event::OrderPlaced(placed) => {
                let Action::PlaceOrder(new) = action else { panic!("only an order is placed") };
                self.placed(new.market, placed)
            }
            Event::OrderCancelled { order, reason, .. } => {
                format!("{} cancelled: {reason:?}", self.name(*order))
            }
            Event::CancelRemembered => "remembered".to_owned(),
            Event::OrdersCancelled { orders, more } => {
                let names: Vec<_> = orders.iter().map(|(_, order)| self.name(*order)).collect();
                let more = if *more { ", more to come" } else { "" };
                format!("cancelled: [{}]{more}", names.join(" "))
            }
            Event::OrderReduced { quantity, .. } => format!("keeps its place, {quantity} in all"),
            Event::OrderReplaced { market, placed, .. }
            | Event::StopTriggered { market, placed, .. } => self.placed(*market, placed),
        }
    }

    fn placed(&self, market: MarketId, placed: &PlacedOrder) -> String {
        let mut text = format!("holds {}", placed.hold);
        let named = |order: OrderId| self.order_names[&(market, order)].as_str();
        for step in &placed.steps {
            match step {
                Step::Fill(fill) => {
                    let maker = named(fill.maker);
                    write!(text, "; {maker} {}@{}", fill.quantity, fill.price)
                        .expect("a string can be written to");
                    if !fill.maker_fee.is_zero() || !fill.taker_fee.is_zero() {
                        write!(text, " fees {}/{}", fill.maker_fee, fill.taker_fee)
                            .expect("a string can be written to");
                    }
                }
                Step::MakerCancelled { maker, remaining } => {
                    write!(text, "; cancels {}'s {remaining}", named(*maker))
                        .expect("a string can be written to");
                }
            }
        }
        let ending = match placed.ending {
            Ending::Filled => "filled".to_owned(),
            Ending::Rests => "rests".to_owned(),
            Ending::Waits => "waits".to_owned(),
            Ending::Cancelled(reason) => format!("cancelled: {reason:?}"),
        };
        format!("{text}; {ending}")
    }

    fn book(&self, words: &[&str]) -> String {
        let market = MarketId::new(if words.get(1) == Some(&"eth") { 1 } else { 0 });
        let mut lines = Vec::new();
        for (side, name) in [(Side::Sell, "ask"), (Side::Buy, "bid")] {
            let mut levels: Vec<String> = self
                .pair
                .state
                .depth(market, side)
                .map(|level| {
                    format!("    {name} {} {} ({})", level.price, level.quantity, level.orders)
                })
                .collect();
            if side == Side::Sell {
                levels.reverse();
            }
            lines.append(&mut levels);
        }
        if lines.is_empty() { "    empty".to_owned() } else { lines.join("\n") }
    }

    fn balances(&self) -> String {
        let fees = ("fees".to_owned(), AccountId::FEES);
        let mut people: Vec<_> = self.people.clone().into_iter().collect();
        people.push(fees);
        let lines = people.into_iter().filter_map(|(name, account)| {
            let cells: Vec<String> = [("USD", 0), ("BTC", 1), ("ETH", 2)]
                .into_iter()
                .map(|(symbol, asset)| {
                    (symbol, self.pair.state.balance(account, AssetId::new(asset)))
                })
                .filter(|(_, balance)| !balance.total().is_zero())
                .map(|(symbol, balance)| match balance.held {
                    Amount::ZERO => format!("{symbol} {}", balance.available),
                    held => format!("{symbol} {} + {held} held", balance.available),
                })
                .collect();
            (!cells.is_empty()).then(|| format!("    {name}: {}", cells.join(", ")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn action(&mut self, row: &Row<'_>) -> Action {
        let market = MarketId::new(if row.get("market") == Some("eth") { 1 } else { 0 });
        let asset = AssetId::new(match row.get("asset") {
            None | Some("usd") => 0,
            Some("btc") => 1,
            Some("eth") => 2,
            Some(other) => panic!("no asset {other}"),
        });
        let amount = Amount::new(row.number("lots").unwrap_or_default().into());
        let reference = ReferenceHash::new(self.commands);
        match row.need("do") {
            "deposit" => {
                let account = self.account(row.need("who"));
                Action::Deposit { account, asset, amount, reference, sandbox: true }
            }
            "transfer" => {
                let from = self.account(row.need("who"));
                let to = self.account(row.need("to"));
                Action::Transfer { from, to, asset, amount }
            }
            "withdraw" => {
                let account = self.account(row.need("who"));
                Action::RequestWithdrawal { account, asset, amount, destination: reference }
            }
            "place" | "late" => Action::PlaceOrder(self.new_order(row, market)),
            "cancel" => {
                let account = self.account(row.need("who"));
                let order = match row.get("client") {
                    Some(client) => OrderRef::Client(ClientOrderId::new(client).expect("plain")),
                    None => OrderRef::Id(self.id(row.need("order"))),
                };
                Action::CancelOrder { account, order }
            }
            "cancel-all" => {
                let account = self.account(row.need("who"));
                Action::CancelAll { account, market: row.get("market").map(|_| market) }
            }
            "amend" => Action::AmendOrder(AmendOrder {
                account: self.account(row.need("who")),
                order: OrderRef::Id(self.id(row.need("order"))),
                price: row.price("price"),
                quantity: row.number("lots").map(QuantityLots::new),
            }),
            "steps-max" => Action::SetLimits(Limits {
                steps_max: row.number("lots").expect("a number").try_into().expect("small"),
                ..Limits::default()
            }),
            "state" => Action::SetMarketState {
                market,
                state: match row.need("type") {
                    "open" => MarketState::Open,
                    "post-only" => MarketState::PostOnly,
                    "cancel-only" => MarketState::CancelOnly,
                    "halted" => MarketState::Halted,
                    other => panic!("no market state {other}"),
                },
            },
            "audit-head" => Action::NoteAuditHead(AuditHead {
                rows: row.number("lots").expect("a number"),
                head: Hash32([7; 32]),
            }),
            "rules" => self.rules(row, market),
            other => panic!("nobody knows how to {other}"),
        }
    }

    /// Changes a market's rules: fees, band and halting move in parts per million, the price it starts from.
    fn rules(&self, row: &Row<'_>, market: MarketId) -> Action {
        let mut config = self.pair.state.market(market).expect("it is defined").config.clone();
        let rate = |column: &str| {
            row.number(column).map(|ppm| RatePpm::new(u32::try_from(ppm).expect("a rate")))
        };
        config.maker_fee = rate("maker").unwrap_or(config.maker_fee);
        config.taker_fee = rate("taker").unwrap_or(config.taker_fee);
        config.band = rate("band").or(config.band);
        config.halt_move = rate("halt").or(config.halt_move);
        config.initial_price = row.price("price").or(config.initial_price);
        Action::DefineMarket(config)
    }

    fn new_order(&mut self, row: &Row<'_>, market: MarketId) -> NewOrder {
        NewOrder {
            account: self.account(row.need("who")),
            market,
            side: match row.need("side") {
                "buy" => Side::Buy,
                "sell" => Side::Sell,
                other => panic!("no side {other}"),
            },
            order_type: match row.get("type").unwrap_or("limit") {
                "limit" => OrderType::Limit,
                "market" => OrderType::Market,
                "stop-limit" => OrderType::StopLimit,
                "stop-market" => OrderType::StopMarket,
                other => panic!("no order type {other}"),
            },
            time_in_force: match row.get("tif").unwrap_or("gtc") {
                "gtc" => TimeInForce::Gtc,
                "ioc" => TimeInForce::Ioc,
                "fok" => TimeInForce::Fok,
                seconds => {
                    let seconds = seconds.strip_prefix('+').and_then(|text| text.parse().ok());
                    let seconds: u64 = seconds.expect("gtc, ioc, fok or +seconds");
                    TimeInForce::Gtd(self.pair.naive.now.plus_micros(seconds * 1_000_000))
                }
            },
            post_only: row.get("post").is_some(),
            price: row.price("price"),
            quantity: QuantityLots::new(row.number("lots").unwrap_or_default()),
            quote_amount: row.number("quote").map(|quote| Amount::new(quote.into())),
            trigger: row.price("trigger"),
            display: row.number("display").map(QuantityLots::new),
            self_trade_prevention: match row.get("stp").unwrap_or("newest") {
                "newest" => SelfTradePrevention::CancelNewest,
                "oldest" => SelfTradePrevention::CancelOldest,
                "both" => SelfTradePrevention::CancelBoth,
                "allow" => SelfTradePrevention::Allow,
                other => panic!("no self-trade prevention {other}"),
            },
            client_order_id: row.get("client").and_then(ClientOrderId::new),
        }
    }
}
