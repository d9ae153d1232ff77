//! A small exchange for the tests: decides with the real core, appends to a real journal, hands out what followers get.

use std::sync::Arc;

use ::journal::{Applied, Batch, Entry, apply, seal};
use engine::{
    AccountFlags, Action, AmendOrder, AssetConfig, ClientOrderId, Command, Decision, MarketConfig,
    MarketState, NewOrder, OrderRef, OrderType, Origin, SelfTradePrevention, Settings, Side, State,
    TimeInForce, internal_command, next_internal,
};
use store::Db;
use store::journal::Appender;
use units::{
    AccountId, Amount, AssetId, CommandId, Hash32, MarketId, PriceTicks, QuantityLots, RatePpm,
    ReferenceHash, Time,
};

use crate::common::BEGIN;

/// The incarnation of the tests' journals: a number that needs all 64 bits.
pub(crate) const INCARNATION: u64 = u64::MAX - 7;

/// A pseudo-random generator whose seed is printed, and taken from `KX_SEED`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(default: u64) -> Self {
        let seed = std::env::var("KX_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(default);
        eprintln!("KX_SEED={seed}");
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

/// The sequencer of the tests.
pub(crate) struct Exchange {
    appender: Appender,
    state: State,
    hash: Hash32,
    time: u64,
    ids: u128,
}

pub(crate) const USD: AssetId = AssetId::new(0);
pub(crate) const BTC: AssetId = AssetId::new(1);
pub(crate) const ETH: AssetId = AssetId::new(2);
pub(crate) const BTC_USD: MarketId = MarketId::new(0);
pub(crate) const ETH_BTC: MarketId = MarketId::new(1);

pub(crate) fn account(number: u64) -> AccountId {
    AccountId::new(1000 + number)
}

fn asset(symbol: &str, scale: u8, transfer_scale: u8) -> Action {
    Action::DefineAsset(AssetConfig { symbol: symbol.into(), scale, transfer_scale })
}

/// BTC/USD: a tick of 0.01 USD, a lot of 0.00001 BTC. ETH/BTC: a tick of 0.00001 BTC, a lot of 0.0001 ETH.
fn market(symbol: &str, base: AssetId, quote: AssetId, per_lot: u64, tick_size: u128) -> Action {
    Action::DefineMarket(MarketConfig {
        symbol: symbol.into(),
        base,
        quote,
        base_units_per_lot: per_lot,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(tick_size),
        notional_min: Amount::new(1),
        quantity_max: QuantityLots::new(1_000_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: PriceTicks::new(5_000),
    })
}

impl Exchange {
    /// Begins a journal: two markets, and `accounts` accounts with money.
    pub(crate) async fn open(db: &Db, accounts: u64) -> (Self, Vec<Arc<Applied>>) {
        let appender = Appender::claim(db, "test").await.expect("an epoch");
        let (state, hash) = (State::new(), Hash32::default());
        let mut this = Self { appender, state, hash, time: BEGIN, ids: 0 };
        let settings = Settings { incarnation: INCARNATION, salt: 3, sandbox: true };
        let mut actions = vec![
            Action::Genesis(settings),
            asset("USD", 7, 2),
            asset("BTC", 8, 8),
            asset("ETH", 8, 8),
            market("BTC/USD", BTC, USD, 1_000, 100_000),
            market("ETH/BTC", ETH, BTC, 10_000, 1_000),
        ];
        for number in 0..accounts {
            actions.push(Action::OpenAccount { account: account(number) });
            for asset in [USD, BTC, ETH] {
                actions.push(this.deposit(number, asset, 1_000_000_000_000));
            }
        }
        let mut batches = Vec::new();
        for (at, actions) in actions.chunks(256).enumerate() {
            // Genesis stands alone.
            if at == 0 {
                batches.push(this.commit(vec![actions[0].clone()]).await);
                batches.push(this.commit(actions[1..].to_vec()).await);
            } else {
                batches.push(this.commit(actions.to_vec()).await);
            }
        }
        (this, batches)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn deposit(&mut self, number: u64, asset: AssetId, amount: u128) -> Action {
        self.ids += 1;
        Action::Deposit {
            account: account(number),
            asset,
            amount: Amount::new(amount),
            reference: ReferenceHash::new(self.ids << 64),
            sandbox: true,
        }
    }

    /// Gives the next command its id: rising, as UUIDv7 are.
    pub(crate) fn command(&mut self, action: Action) -> Command {
        self.ids += 1;
        Command {
            id: CommandId::new((0x0198_0000_u128 << 96) | self.ids),
            body_hash: 1,
            expires_at: Time::MAX,
            trace_id: 0,
            origin: Origin::Client,
            action,
        }
    }

    /// Decides actions, and what comes of them, as one batch, and appends it.
    pub(crate) async fn commit(&mut self, actions: Vec<Action>) -> Arc<Applied> {
        let commands = actions.into_iter().map(|action| self.command(action)).collect();
        self.commit_commands(commands).await
    }

    pub(crate) async fn commit_commands(&mut self, commands: Vec<Command>) -> Arc<Applied> {
        let sequence = self.state.sequence().next();
        self.time += 100_000;
        let time = Time::from_micros(self.time);
        // Decided on a copy, so that the batch is then followed as every follower does it.
        let mut deciding = copy(&self.state);
        deciding.open_batch(engine::Stamp { sequence, time });
        let mut entries = Vec::new();
        for command in commands {
            decide(&mut deciding, command, &mut entries);
            while let Some(action) = next_internal(&deciding) {
                decide(&mut deciding, internal_command(action), &mut entries);
            }
        }
        let epoch = self.appender.epoch();
        let rules = ::journal::RULES;
        let batch = Batch { sequence, time, incarnation: INCARNATION, epoch, rules, entries };
        let row = seal(&batch, self.hash);
        self.appender.append(&row).await.expect("appended");
        self.hash = row.hash;
        let effects = apply(&mut self.state, &batch);
        Arc::new(Applied { batch, hash: row.hash, effects })
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        self.time += seconds * 1_000_000;
    }

    /// Makes batches of everything that traders do, at random.
    pub(crate) async fn trade(
        &mut self,
        random: &mut Random,
        batches: usize,
        accounts: u64,
    ) -> Vec<Arc<Applied>> {
        let mut made = Vec::new();
        for _ in 0..batches {
            let count = random.below(40);
            let actions = (0..count).map(|_| self.action(random, accounts)).collect();
            made.push(self.commit(actions).await);
            self.advance(random.below(20));
        }
        made
    }

    fn action(&mut self, random: &mut Random, accounts: u64) -> Action {
        let owner = account(random.below(accounts));
        let open = || self.state.open_orders(owner).map(|order| order.id).collect::<Vec<_>>();
        match random.below(20) {
            0 => Action::Transfer {
                from: owner,
                to: account(random.below(accounts + 1)),
                asset: BTC,
                amount: Amount::new(u128::from(random.below(50_000))),
            },
            1 => Action::RequestWithdrawal {
                account: owner,
                asset: USD,
                amount: Amount::new(u128::from(random.below(50)) * 100_000),
                destination: ReferenceHash::new(u128::MAX - u128::from(random.below(100))),
            },
            2 => {
                let waiting: Vec<_> = self.state.withdrawals().map(|each| each.id).collect();
                let at = random.below(waiting.len().max(1) as u64) as usize;
                let withdrawal = waiting.get(at).copied().unwrap_or(CommandId::new(9));
                match random.below(5) {
                    0 => Action::ApproveWithdrawal { withdrawal },
                    1 => Action::SendWithdrawal { withdrawal },
                    2 => Action::SettleWithdrawal { withdrawal },
                    3 => Action::FailWithdrawal { withdrawal },
                    _ => Action::CancelWithdrawal { account: owner, withdrawal },
                }
            }
            3 => self.deposit(random.below(accounts + 1), ETH, u128::from(random.below(1_000))),
            4 | 5 => match open().first() {
                Some(order) => Action::CancelOrder { account: owner, order: OrderRef::Id(*order) },
                None => Action::CancelAll { account: owner, market: None },
            },
            6 => match open().last() {
                Some(order) => Action::AmendOrder(AmendOrder {
                    account: owner,
                    order: OrderRef::Id(*order),
                    price: PriceTicks::new(4_900 + random.below(200)),
                    quantity: Some(QuantityLots::new(1 + random.below(900))),
                }),
                None => Action::Tick,
            },
            7 if random.below(10) == 0 => Action::SetMarketState {
                market: ETH_BTC,
                state: [MarketState::Halted, MarketState::Open][random.below(2) as usize],
            },
            8 if random.below(10) == 0 => Action::SetAccountFlags {
                account: owner,
                flags: AccountFlags {
                    withdrawals_frozen: random.below(2) == 0,
                    ..Default::default()
                },
            },
            _ => Action::PlaceOrder(self.order(random, owner)),
        }
    }

    fn order(&mut self, random: &mut Random, owner: AccountId) -> NewOrder {
        let kind = random.below(12);
        let order_type = match kind {
            0 => OrderType::Market,
            1 => OrderType::StopLimit,
            2 => OrderType::StopMarket,
            _ => OrderType::Limit,
        };
        let price = PriceTicks::new(4_950 + random.below(100));
        let limit = matches!(order_type, OrderType::Limit | OrderType::StopLimit);
        let stop = matches!(order_type, OrderType::StopLimit | OrderType::StopMarket);
        let end = self.state.time().plus_micros(random.below(60) * 1_000_000);
        let times = [TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok, TimeInForce::Gtd(end)];
        let quantity = QuantityLots::new(random.below(1_000));
        NewOrder {
            account: owner,
            market: [BTC_USD, ETH_BTC][random.below(2) as usize],
            side: [Side::Buy, Side::Sell][random.below(2) as usize],
            order_type,
            time_in_force: match kind {
                3.. => times[random.below(4) as usize],
                0 => TimeInForce::Ioc,
                _ => TimeInForce::Gtc,
            },
            post_only: kind == 3,
            price: price.filter(|_| limit),
            quantity,
            quote_amount: None,
            trigger: PriceTicks::new(4_950 + random.below(100)).filter(|_| stop),
            display: (kind == 4).then(|| QuantityLots::new(quantity.get() / 4)),
            self_trade_prevention: SelfTradePrevention::CancelOldest,
            client_order_id: (random.below(3) == 0)
                .then(|| ClientOrderId::new(&format!("mine-{}", self.ids)).expect("a plain text")),
        }
    }
}

/// A limit order, good till cancelled.
pub(crate) fn limit(number: u64, side: Side, price: u64, lots: u64) -> Action {
    Action::PlaceOrder(NewOrder {
        account: account(number),
        market: BTC_USD,
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: PriceTicks::new(price),
        quantity: QuantityLots::new(lots),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    })
}

fn decide(state: &mut State, command: Command, entries: &mut Vec<Entry>) {
    if let Decision::Event(event) = engine::run(state, &command, &mut ()) {
        entries.push(Entry { command, event });
    }
}

fn copy(state: &State) -> State {
    let mut chunks = Vec::new();
    let hash = ::journal::write_snapshot(state, &mut |chunk| chunks.push(chunk));
    let mut reader = ::journal::SnapshotReader::new();
    for chunk in &chunks {
        reader.push_chunk(chunk).expect("a chunk of ours");
    }
    reader.finish(hash).expect("the same state")
}
