//! Random programs: what several people, and the world, might ask of the exchange.

use engine::*;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use units::*;

use crate::pair::Pair;

/// One line of a program. Small numbers name things, so that lines meet each other and shrink well.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// The next batch, this much later.
    Wait(u64),
    Place(Place),
    /// Cancels the order of the command this many lines back; of a line to come where it is negative.
    Cancel {
        account: u8,
        back: i8,
    },
    CancelClient {
        account: u8,
        client: u8,
    },
    CancelAll {
        account: u8,
        market: Option<u8>,
    },
    Amend {
        account: u8,
        back: u8,
        client: Option<u8>,
        price: Option<u8>,
        quantity: Option<u8>,
    },
    Deposit {
        account: u8,
        asset: u8,
        amount: u32,
        reference: u8,
        sandbox: bool,
    },
    Transfer {
        from: u8,
        to: u8,
        asset: u8,
        amount: u32,
    },
    Withdraw {
        account: u8,
        asset: u8,
        amount: u32,
    },
    /// A step of a withdrawal some lines back.
    WithdrawalStep {
        account: u8,
        back: u8,
        step: u8,
    },
    MarketState {
        market: u8,
        state: MarketState,
    },
    Flags {
        account: u8,
        flags: AccountFlags,
    },
    Open {
        account: u8,
    },
    Limits(Limits),
    Fees {
        market: u8,
        maker: u16,
        taker: u16,
    },
    /// The command of some lines back once more: the same, or with another body.
    Repeat {
        back: u8,
        same: bool,
    },
    /// An order that comes too late.
    Late,
    /// A head of the audit log, this many rows beyond the last; behind it where that is negative.
    AuditHead {
        further: i8,
        head: u8,
    },
    /// Work of the state's own, from outside.
    Forged {
        back: u8,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    account: u8,
    market: u8,
    side: Side,
    order_type: OrderType,
    time_in_force: TimeInForce,
    /// For a good-till-date order: how much later.
    until: u32,
    post_only: bool,
    price: u8,
    quantity: u8,
    quote: Option<u32>,
    trigger: u8,
    display: Option<u8>,
    stp: SelfTradePrevention,
    client: Option<u8>,
    /// Gives or takes away a field that the type should not or should have.
    odd: Option<u8>,
}

fn account() -> impl Strategy<Value = u8> {
    prop_oneof![60 => 0_u8..4, 4 => Just(4), 1 => Just(9)]
}

fn market() -> impl Strategy<Value = u8> {
    prop_oneof![40 => Just(0_u8), 25 => Just(1), 1 => Just(7)]
}

fn asset() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 0_u8..3, 1 => Just(9)]
}

fn price() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 95_u8..=105, 2 => 80_u8..=120, 1 => 1_u8..]
}

fn quantity() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 1_u8..20, 2 => 0_u8..=210]
}

fn stp() -> impl Strategy<Value = SelfTradePrevention> {
    use SelfTradePrevention::*;
    select(vec![CancelNewest, CancelNewest, CancelOldest, CancelBoth, Allow])
}

fn place() -> impl Strategy<Value = Place> {
    use OrderType::*;
    use TimeInForce::*;
    let kind = (
        account(),
        market(),
        select(vec![Side::Buy, Side::Sell]),
        select(vec![Limit, Limit, Limit, Limit, Limit, Market, StopLimit, StopMarket]),
        select(vec![Gtc, Gtc, Gtc, Gtc, Ioc, Fok, Gtd(Time::ZERO)]),
        select(vec![0_u32, 1, 1_500_000, 20_000_000]),
    );
    let size = (price(), quantity(), of(0_u32..20_000), 90_u8..=110, of(0_u8..8));
    let rest = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        stp(),
        prop::option::weighted(0.2, 0_u8..4),
        prop::option::weighted(0.03, 0_u8..6),
    );
    (kind, size, rest).prop_map(|(kind, size, rest)| {
        let market_order = kind.3 == Market;
        Place {
            account: kind.0,
            market: kind.1,
            side: kind.2,
            order_type: kind.3,
            time_in_force: kind.4,
            until: kind.5,
            post_only: rest.0 && !market_order,
            price: size.0,
            quantity: size.1,
            quote: size.2.filter(|_| market_order),
            trigger: size.3,
            display: size.4.filter(|_| rest.1 && !market_order),
            stp: rest.2,
            client: rest.3,
            odd: rest.4,
        }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (2_u32..12, 1_u32..12, 1_u32..6, select(vec![20_000_000_u64, 60_000_000, 600_000_000]))
        .prop_map(|(open, rate, steps, dedup_window_micros)| Limits {
            open_orders_max: open,
            maker_open_orders_max: open + 5,
            orders_per_second_max: rate,
            maker_orders_per_second_max: 0,
            steps_max: steps,
            dedup_window_micros,
        })
}

fn flags() -> impl Strategy<Value = AccountFlags> {
    (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(locked, withdrawals_frozen, market_maker, closed)| AccountFlags {
            locked,
            withdrawals_frozen,
            market_maker,
            closed,
        })
}

fn amount() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), (0_u32..2_000).prop_map(|n| n * 100), 0_u32..100_000]
}

fn market_state() -> impl Strategy<Value = MarketState> {
    use engine::MarketState::*;
    select(vec![Open, Open, Open, CancelOnly, PostOnly, Halted])
}

pub(crate) fn line() -> impl Strategy<Value = Line> {
    let cancel = (account(), -3_i8..12).prop_map(|(account, back)| Line::Cancel { account, back });
    let amend = (account(), 0_u8..12, of(0_u8..4), of(price()), of(quantity())).prop_map(
        |(account, back, client, price, quantity)| Line::Amend {
            account,
            back,
            client,
            price,
            quantity,
        },
    );
    let deposit = (account(), asset(), amount(), any::<u8>(), any::<bool>()).prop_map(
        |(account, asset, amount, reference, sandbox)| Line::Deposit {
            account,
            asset,
            amount,
            reference,
            sandbox,
        },
    );
    prop_oneof![
        8 => select(vec![0, 1, 700_000, 1_000_000, 7_000_000, 100_000_001, 301_000_003])
            .prop_map(Line::Wait),
        60 => place().prop_map(Line::Place),
        8 => cancel,
        2 => (account(), 0_u8..4).prop_map(|(account, client)| Line::CancelClient { account, client }),
        2 => (account(), of(market())).prop_map(|(account, market)| Line::CancelAll { account, market }),
        8 => amend,
        2 => deposit,
        2 => (account(), account(), asset(), amount())
            .prop_map(|(from, to, asset, amount)| Line::Transfer { from, to, asset, amount }),
        2 => (account(), asset(), amount())
            .prop_map(|(account, asset, amount)| Line::Withdraw { account, asset, amount }),
        4 => (account(), 0_u8..8, 0_u8..5)
            .prop_map(|(account, back, step)| Line::WithdrawalStep { account, back, step }),
        2 => (market(), market_state()).prop_map(|(market, state)| Line::MarketState { market, state }),
        2 => (prop_oneof![account(), Just(4)], flags()).prop_map(|(account, flags)| Line::Flags { account, flags }),
        2 => prop_oneof![account(), Just(4)].prop_map(|account| Line::Open { account }),
        1 => limits().prop_map(Line::Limits),
        1 => (market(), 0_u16..5_000, 0_u16..5_000)
            .prop_map(|(market, maker, taker)| Line::Fees { market, maker, taker }),
        3 => (0_u8..12, prop::bool::weighted(0.7)).prop_map(|(back, same)| Line::Repeat { back, same }),
        1 => Just(Line::Late),
        1 => (-2_i8..5, any::<u8>()).prop_map(|(further, head)| Line::AuditHead { further, head }),
        1 => (0_u8..12).prop_map(|back| Line::Forged { back }),
    ]
}

/// The kinds of market that programs run on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    band: Option<u32>,
    halt_move: Option<u32>,
    notional_min: u16,
    steps_max: u32,
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    (
        select(vec![None, Some(30_000), Some(100_000)]),
        select(vec![None, None, Some(20_000)]),
        select(vec![0_u16, 600]),
        select(vec![3_u32, 10_000]),
    )
        .prop_map(|(band, halt_move, notional_min, steps_max)| World {
            band,
            halt_move,
            notional_min,
            steps_max,
        })
}

const START: Time = Time::from_micros(1_700_000_000_000_000);

/// Runs a program's lines on a pair.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) pair: Pair,
    sent: Vec<Command>,
}

fn account_id(account: u8) -> AccountId {
    AccountId::new(1_000 + u64::from(account))
}

/// The id of the command that is sent as the nth: one in three says nothing of a time, the others are UUIDv7 of times that are
/// not quite in order.
fn id(n: usize) -> CommandId {
    let random = (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    if n.is_multiple_of(3) {
        return CommandId::new(random & !(0xf << 76) | 8 << 76);
    }
    let millisecond = n as u128 + random % 7;
    CommandId::new(millisecond << 80 | 7 << 76 | random & ((1 << 76) - 1))
}

fn ticks(price: u8) -> Option<PriceTicks> {
    PriceTicks::new(u64::from(price))
}

fn lots(quantity: u8) -> QuantityLots {
    QuantityLots::new(u64::from(quantity))
}

fn client_id(client: u8) -> ClientOrderId {
    ClientOrderId::new(&format!("mine-{client}")).expect("it is plain")
}

impl Runner {
    pub(crate) fn new(world: World) -> Self {
        let mut runner = Self { pair: Pair::new(START), sent: Vec::new() };
        runner.send(Action::Genesis(Settings { incarnation: 1, salt: 99, sandbox: true }));
        let limits = Limits { steps_max: world.steps_max, ..Limits::default() };
        runner.send(Action::SetLimits(limits));
        for (symbol, scale, transfer_scale) in [("USD", 6, 4), ("BTC", 8, 6), ("ETH", 8, 6)] {
            let symbol = symbol.into();
            runner.send(Action::DefineAsset(AssetConfig { symbol, scale, transfer_scale }));
        }
        for (symbol, base, quote) in [("BTC/USD", 1, 0), ("ETH/BTC", 2, 1)] {
            runner.send(Action::DefineMarket(MarketConfig {
                symbol: symbol.into(),
                base: AssetId::new(base),
                quote: AssetId::new(quote),
                base_units_per_lot: 10,
                quote_units_per_tick_lot: 3,
                tick_size: Amount::new(30_000_000),
                notional_min: Amount::new(u128::from(world.notional_min)),
                quantity_max: QuantityLots::new(200),
                maker_fee: RatePpm::new(1_000),
                taker_fee: RatePpm::new(2_500),
                band: world.band.map(RatePpm::new),
                halt_move: world.halt_move.map(RatePpm::new),
                initial_price: if base == 1 { ticks(100) } else { None },
            }));
        }
        for account in 0..4 {
            runner.send(Action::OpenAccount { account: account_id(account) });
            for asset in 0..3 {
                runner.send(Action::Deposit {
                    account: account_id(account),
                    asset: AssetId::new(asset),
                    amount: Amount::new(if account == 3 { 5_000 } else { 200_000 }),
                    reference: ReferenceHash::new(u128::from(account) * 10 + u128::from(asset)),
                    sandbox: true,
                });
            }
        }
        runner
    }

    fn send(&mut self, action: Action) {
        let n = self.sent.len();
        let command = Command {
            id: id(n),
            // Orders with one client order id have one of two bodies.
            body_hash: (n % 2) as u64,
            expires_at: self.pair.naive.now.plus_micros(15_000_000),
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        self.send_command(command);
    }

    fn send_command(&mut self, command: Command) {
        self.sent.push(command.clone());
        self.pair.client(&command);
    }

    fn back(&self, back: u8) -> CommandId {
        id(self.sent.len().saturating_sub(1 + usize::from(back)))
    }

    pub(crate) fn run(&mut self, line: &Line) {
        match line.clone() {
            Line::Wait(micros) => self.pair.next_batch(micros),
            Line::Place(place) => {
                let order = self.order(&place);
                self.send(Action::PlaceOrder(order));
            }
            Line::Cancel { account, back } => {
                let order = id((self.sent.len() as i64 - 1 - i64::from(back)).max(0) as usize);
                let order = OrderRef::Id(order);
                self.send(Action::CancelOrder { account: account_id(account), order });
            }
            Line::CancelClient { account, client } => {
                let order = OrderRef::Client(client_id(client));
                self.send(Action::CancelOrder { account: account_id(account), order });
            }
            Line::CancelAll { account, market } => {
                let market = market.map(|market| MarketId::new(market.into()));
                self.send(Action::CancelAll { account: account_id(account), market });
            }
            Line::Amend { account, back, client, price, quantity } => {
                let order = match client {
                    Some(client) => OrderRef::Client(client_id(client)),
                    None => OrderRef::Id(self.back(back)),
                };
                self.send(Action::AmendOrder(AmendOrder {
                    account: account_id(account),
                    order,
                    price: price.and_then(ticks),
                    quantity: quantity.map(lots),
                }));
            }
            Line::Repeat { back, same } => {
                let Some(at) = self.sent.len().checked_sub(1 + usize::from(back)) else {
                    return;
                };
                let mut command = self.sent[at].clone();
                if !same {
                    command.body_hash += 7;
                }
                self.pair.client(&command);
            }
            Line::Late => {
                let n = self.sent.len();
                let now = self.pair.naive.now.micros();
                let action = Action::CancelAll { account: account_id(0), market: None };
                self.send_command(Command {
                    id: id(n),
                    body_hash: 0,
                    expires_at: Time::from_micros(now - 1),
                    trace_id: 5,
                    origin: Origin::Client,
                    action,
                });
            }
            Line::Forged { back } => {
                let (market, order) = (MarketId::new(0), self.back(back));
                self.send(match back % 5 {
                    0 => Action::ExpireOrder { market, order },
                    1 => Action::CancelNext { market, order, reason: CancelReason::Account },
                    2 => Action::TriggerStop { market, order },
                    3 => Action::Restore { incarnation: 9, lost: None },
                    _ => Action::HaltMarket { market },
                });
            }
            other => self.run_rest(other),
        }
    }

    fn run_rest(&mut self, line: Line) {
        let asset_id = |asset: u8| AssetId::new(asset.into());
        let units = |amount: u32| Amount::new(amount.into());
        let market_id = |market: u8| MarketId::new(market.into());
        match line {
            Line::Deposit { account, asset, amount, reference, sandbox } => {
                self.send(Action::Deposit {
                    account: account_id(account),
                    asset: asset_id(asset),
                    amount: units(amount),
                    reference: ReferenceHash::new(reference.into()),
                    sandbox,
                });
            }
            Line::Transfer { from, to, asset, amount } => {
                self.send(Action::Transfer {
                    from: account_id(from),
                    to: account_id(to),
                    asset: asset_id(asset),
                    amount: units(amount),
                });
            }
            Line::Withdraw { account, asset, amount } => {
                self.send(Action::RequestWithdrawal {
                    account: account_id(account),
                    asset: asset_id(asset),
                    amount: units(amount),
                    destination: ReferenceHash::new(5),
                });
            }
            Line::WithdrawalStep { account, back, step } => {
                let open = self.pair.naive.withdrawals.keys().nth(usize::from(back % 2)).copied();
                let withdrawal = open.unwrap_or_else(|| self.back(back));
                self.send(match step {
                    0 => Action::ApproveWithdrawal { withdrawal },
                    1 => Action::SendWithdrawal { withdrawal },
                    2 => Action::SettleWithdrawal { withdrawal },
                    3 => Action::FailWithdrawal { withdrawal },
                    _ => Action::CancelWithdrawal { account: account_id(account), withdrawal },
                });
            }
            Line::MarketState { market, state } => {
                self.send(Action::SetMarketState { market: market_id(market), state });
            }
            Line::Flags { account, flags } => {
                self.send(Action::SetAccountFlags { account: account_id(account), flags });
            }
            Line::Open { account } => {
                // Ids below 1,000 are the exchange's own.
                let account = if account == 9 { AccountId::new(9) } else { account_id(account) };
                self.send(Action::OpenAccount { account });
            }
            Line::AuditHead { further, head } => {
                let noted = self.pair.naive.audit_heads.last().map_or(0, |noted| noted.rows);
                let rows = noted.saturating_add_signed(further.into());
                self.send(Action::NoteAuditHead(AuditHead { rows, head: Hash32([head; 32]) }));
            }
            Line::Limits(limits) => self.send(Action::SetLimits(limits)),
            Line::Fees { market, maker, taker } => {
                let Ok(found) = self.pair.naive.market(market_id(market)) else {
                    return;
                };
                let mut config = found.config.clone();
                config.maker_fee = RatePpm::new(maker.into());
                config.taker_fee = RatePpm::new(taker.into());
                self.send(Action::DefineMarket(config));
            }
            _ => unreachable!("run elsewhere"),
        }
    }

    fn order(&self, place: &Place) -> NewOrder {
        let has_price = matches!(place.order_type, OrderType::Limit | OrderType::StopLimit);
        let stop = matches!(place.order_type, OrderType::StopLimit | OrderType::StopMarket);
        let time_in_force = match place.time_in_force {
            TimeInForce::Gtd(_) => {
                TimeInForce::Gtd(self.pair.naive.now.plus_micros(place.until.into()))
            }
            other => other,
        };
        let mut order = NewOrder {
            account: account_id(place.account),
            market: MarketId::new(place.market.into()),
            side: place.side,
            order_type: place.order_type,
            time_in_force,
            post_only: place.post_only,
            price: ticks(place.price).filter(|_| has_price),
            quantity: lots(place.quantity),
            quote_amount: place.quote.map(|quote| Amount::new(quote.into())),
            trigger: ticks(place.trigger).filter(|_| stop),
            display: place.display.map(lots),
            self_trade_prevention: place.stp,
            client_order_id: place.client.map(client_id),
        };
        match place.odd {
            Some(0) => order.price = None,
            Some(1) => order.price = ticks(100),
            Some(2) => order.trigger = None,
            Some(3) => order.trigger = ticks(100),
            Some(4) => order.quote_amount = Some(Amount::new(5_000)),
            Some(_) => order.post_only = true,
            None => {}
        }
        order
    }
}
