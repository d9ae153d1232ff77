//! The flow that the core is measured with: two million commands from a fixed seed, 60 % adds near the touch, 30 %
//! cancels, 10 % marketable.
//!
//! Invariant: the same seed makes the same commands. They are made by running them, so that cancels name orders
//! that are open and the book keeps its size.

use std::collections::HashMap;

use anyhow::{Context, bail};
use engine::{
    Action, AssetConfig, Command, Decision, Ending, Event, Limits, MarketConfig, NewOrder,
    Observer, OrderRef, OrderType, Origin, SelfTradePrevention, Settings, Side, Stamp, State, Step,
    TimeInForce,
};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots, RatePpm,
    ReferenceHash, Time,
};

/// Commands of one batch.
pub(crate) const BATCH_COMMANDS: usize = 256;
/// Journal time between batches: 100,000 commands/s.
const BATCH_MICROS: u64 = 2_560;
/// The same in the time of ids.
const COMMANDS_A_MILLISECOND: u128 = 100;
/// Orders in the book before the measured commands.
const BOOK_ORDERS: usize = 10_000;
/// Accounts that buy, and as many that sell, so that nobody meets itself.
const ACCOUNTS_A_SIDE: u64 = 500;

const MARKET: MarketId = MarketId::new(0);

/// Numbers that look random and are the same every time (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a command does to a bare book.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BookOp {
    /// An order: takes what its limit allows; the rest rests under `number`, or is dropped.
    Place {
        /// The order's number, or `u32::MAX` where the rest is dropped.
        number: u32,
        /// Its side.
        side: Side,
        /// Its limit.
        price: PriceTicks,
        /// Its quantity.
        quantity: QuantityLots,
    },
    /// Cancels an order that rests.
    Cancel {
        /// Its number.
        number: u32,
    },
}

/// The flow.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What makes the exchange and fills the book; not measured.
    pub opening: Vec<Command>,
    /// What is measured.
    pub commands: Vec<Command>,
    /// The same for the book alone: the opening orders and then the measured ones.
    pub book: (Vec<BookOp>, Vec<BookOp>),
}

/// Opens the next batch of a state that is not followed by anybody.
pub(crate) fn open_batch(state: &mut State) {
    let sequence = state.sequence().next();
    let time = Time::from_micros(sequence.get().saturating_mul(BATCH_MICROS));
    state.open_batch(Stamp { sequence, time });
}

/// Decides and applies commands in batches.
pub(crate) fn run(state: &mut State, commands: &[Command], observer: &mut impl Observer) {
    for batch in commands.chunks(BATCH_COMMANDS) {
        open_batch(state);
        state.warm(batch.iter());
        for command in batch {
            std::hint::black_box(engine::run(state, command, observer));
        }
    }
}

/// Where the ids of commands come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// From the server: UUIDv7, milliseconds in front, random bits behind.
    New,
    /// From an idempotency key: UUIDv8, all random.
    FromKeys,
}

impl Ids {
    /// Returns the id of a command, counted from 1.
    pub(crate) fn id(self, number: u128) -> CommandId {
        let mut random = Random::new(u64::try_from(number).unwrap_or(0));
        let (front, version) = match self {
            Self::New => (number / COMMANDS_A_MILLISECOND, 7),
            Self::FromKeys => (u128::from(random.next()), 8),
        };
        let (version, variant) = (version << 76, 2_u128 << 62);
        let behind = u128::from(random.below(1 << 12)) << 64 | u128::from(random.next() >> 2);
        CommandId::new(front << 80 | version | variant | behind)
    }
}

/// Wraps an action as a command from outside.
pub(crate) fn command(id: CommandId, action: Action) -> Command {
    Command { id, body_hash: 7, expires_at: Time::MAX, trace_id: 0, origin: Origin::Client, action }
}

/// What makes the exchange: assets, one market with fees and a band, `accounts` funded accounts.
pub(crate) fn opening(accounts: u64, limits: Limits) -> Vec<Action> {
    let asset =
        |symbol: &str, scale| AssetConfig { symbol: symbol.into(), scale, transfer_scale: scale };
    let mut actions = vec![
        Action::Genesis(Settings { incarnation: 1, salt: 0x5eed, sandbox: true }),
        Action::SetLimits(limits),
        Action::DefineAsset(asset("BTC", 8)),
        Action::DefineAsset(asset("USD", 8)),
        Action::DefineMarket(market()),
    ];
    for number in 0..accounts {
        let account = AccountId::new(AccountId::FIRST_CUSTOMER.get() + number);
        actions.push(Action::OpenAccount { account });
        for asset in [0_u16, 1] {
            actions.push(Action::Deposit {
                account,
                asset: AssetId::new(asset),
                amount: Amount::new(10_u128.pow(24)),
                reference: ReferenceHash::new(u128::from(number) * 2 + u128::from(asset)),
                sandbox: true,
            });
        }
    }
    actions
}

/// BTC/USD: tick 0.01, lot 0.0001.
fn market() -> MarketConfig {
    MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(0),
        quote: AssetId::new(1),
        base_units_per_lot: 10_000,
        quote_units_per_tick_lot: 100,
        tick_size: Amount::new(1_000_000),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(1_000_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: Some(RatePpm::new(100_000)),
        halt_move: None,
        initial_price: PriceTicks::new(5_000_000),
    }
}

/// A limit order.
pub(crate) fn limit_order(
    account: u64,
    side: Side,
    price: PriceTicks,
    quantity: QuantityLots,
    time_in_force: TimeInForce,
) -> Action {
    Action::PlaceOrder(NewOrder {
        account: AccountId::new(AccountId::FIRST_CUSTOMER.get() + account),
        market: MARKET,
        side,
        order_type: OrderType::Limit,
        time_in_force,
        post_only: false,
        price: Some(price),
        quantity,
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    })
}

/// An order that rests while the flow is made.
#[derive(Clone, Copy, Debug)]
struct Live {
    command: CommandId,
    account: AccountId,
    order: u64,
    number: u32,
}

#[derive(Debug)]
struct Maker {
    state: State,
    random: Random,
    mid: u64,
    commands: Vec<Command>,
    ops: Vec<BookOp>,
    live: Vec<Live>,
    /// Place in `live` and remaining lots, by the order's integer id.
    places: HashMap<u64, (usize, u64)>,
    numbers: u32,
    made: u128,
    ids: Ids,
}

impl Flow {
    /// Makes the flow.
    ///
    /// # Errors
    ///
    /// The core refuses what the flow is made of.
    pub(crate) fn new(commands: usize, seed: u64, ids: Ids) -> anyhow::Result<Self> {
        let mut maker = Maker {
            state: State::new(),
            random: Random::new(seed),
            mid: 5_000_000,
            commands: Vec::with_capacity(commands),
            ops: Vec::with_capacity(commands),
            live: Vec::new(),
            places: HashMap::new(),
            numbers: 0,
            made: 0,
            ids,
        };
        for action in opening(2 * ACCOUNTS_A_SIDE, Limits::default()) {
            maker.push(action)?;
        }
        while maker.live.len() < BOOK_ORDERS {
            maker.add()?;
        }
        // Measured commands begin with a batch of their own.
        let opening = std::mem::take(&mut maker.commands);
        let book = std::mem::take(&mut maker.ops);
        for _ in 0..commands {
            match maker.random.below(10) {
                0..6 => maker.add()?,
                6..9 => maker.cancel()?,
                _ => maker.take()?,
            }
        }
        Ok(Self { opening, commands: maker.commands, book: (book, maker.ops) })
    }
}

impl Maker {
    fn push(&mut self, action: Action) -> anyhow::Result<Event> {
        if self.commands.len().is_multiple_of(BATCH_COMMANDS) {
            open_batch(&mut self.state);
        }
        self.made += 1;
        let command = command(self.ids.id(self.made), action);
        let decision = engine::run(&mut self.state, &command, &mut ());
        self.commands.push(command);
        match decision {
            Decision::Event(Event::Rejected(reject)) => {
                bail!("the core refuses the flow: {reject:?}")
            }
            Decision::Event(event) => Ok(event),
            other => bail!("a new command came to {other:?}"),
        }
    }

    fn side(&mut self) -> (Side, u64) {
        let account = self.random.below(ACCOUNTS_A_SIDE);
        match self.random.below(2) {
            0 => (Side::Buy, account),
            _ => (Side::Sell, ACCOUNTS_A_SIDE + account),
        }
    }

    /// Adds an order up to forty ticks behind the touch, nearer ones more often.
    fn add(&mut self) -> anyhow::Result<()> {
        if self.random.below(64) == 0 {
            self.mid = self.mid + self.random.below(3) - 1;
        }
        let (side, account) = self.side();
        let behind = 1 + self.random.below(40).min(self.random.below(40));
        let price = match side {
            Side::Buy => self.mid - behind,
            Side::Sell => self.mid + behind,
        };
        let quantity = 1 + self.random.below(100);
        self.place(side, account, price, quantity, TimeInForce::Gtc)
    }

    /// Takes about three orders; more where the book has grown, fewer where it has shrunk.
    fn take(&mut self) -> anyhow::Result<()> {
        let (side, account) = self.side();
        let price = match side {
            Side::Buy => self.mid + 60,
            Side::Sell => self.mid - 60,
        };
        let most = if self.live.len() > BOOK_ORDERS { 400 } else { 200 };
        let quantity = 1 + self.random.below(most);
        self.place(side, account, price, quantity, TimeInForce::Ioc)
    }

    fn cancel(&mut self) -> anyhow::Result<()> {
        let bound = u64::try_from(self.live.len()).unwrap_or(u64::MAX);
        if bound == 0 {
            return self.add();
        }
        let index = usize::try_from(self.random.below(bound)).context("an index fits")?;
        let Live { command, account, number, .. } = self.live[index];
        self.push(Action::CancelOrder { account, order: OrderRef::Id(command) })?;
        self.ops.push(BookOp::Cancel { number });
        self.close(index);
        Ok(())
    }

    fn place(
        &mut self,
        side: Side,
        account: u64,
        price: u64,
        quantity: u64,
        time_in_force: TimeInForce,
    ) -> anyhow::Result<()> {
        let price = PriceTicks::new(price).context("the price stays above zero")?;
        let lots = QuantityLots::new(quantity);
        let event = self.push(limit_order(account, side, price, lots, time_in_force))?;
        let Event::OrderPlaced(placed) = event else { bail!("an order came to {event:?}") };
        let mut left = quantity;
        for step in &placed.steps {
            let Step::Fill(fill) = step else { bail!("nobody meets itself in this flow") };
            left -= fill.quantity.get();
            let maker = fill.maker.get();
            let (index, remaining) = self.places.get_mut(&maker).context("a maker rests")?;
            *remaining -= fill.quantity.get();
            if *remaining == 0 {
                let index = *index;
                self.close(index);
            }
        }
        let mut number = u32::MAX;
        if placed.ending == Ending::Rests {
            number = self.numbers;
            self.numbers += 1;
            let id = self.commands.last().context("it was just made")?.id;
            let account = AccountId::new(AccountId::FIRST_CUSTOMER.get() + account);
            let order = placed.order_id.get();
            self.places.insert(order, (self.live.len(), left));
            self.live.push(Live { command: id, account, order, number });
        }
        self.ops.push(BookOp::Place { number, side, price, quantity: lots });
        Ok(())
    }

    fn close(&mut self, index: usize) {
        let closed = self.live.swap_remove(index);
        self.places.remove(&closed.order);
        if let Some(moved) = self.live.get(index) {
            let (place, _) = self.places.get_mut(&moved.order).expect("a live order has its place");
            *place = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_flow_in_its_shares() {
        let flow = || Flow::new(20_000, 7, Ids::New);
        let (first, second) = (flow(), flow());
        let (first, second) = (first.expect("runs"), second.expect("runs"));
        assert_eq!(first.commands, second.commands);
        let cancels = first
            .commands
            .iter()
            .filter(|command| matches!(command.action, Action::CancelOrder { .. }));
        let cancels = cancels.count();
        assert!((5_500..6_500).contains(&cancels), "30 % are cancels: {cancels}");
    }
}
