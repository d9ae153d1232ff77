//! The exchange's core as the place where a file is replayed: one market, one account a side, ample funds.
//!
//! Invariant: `open` holds exactly the orders that rest in the book, by the ids that the file gives them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use engine::{
    Action, AmendOrder, Command, Decision, Ending, Event, Limits, NewOrder, OrderRef, OrderType,
    Origin, PlacedOrder, Reject, SelfTradePrevention, Settings, Side, Stamp, State, Step,
    TimeInForce,
};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots, ReferenceHash, Time,
};

use super::grid::Grid;

/// Who buys.
pub(crate) const BUYER: AccountId = AccountId::new(1000);
/// Who sells.
pub(crate) const SELLER: AccountId = AccountId::new(1001);
/// The one market.
pub(crate) const MARKET: MarketId = MarketId::new(0);

/// The journal's incarnation: it is gone with the replay.
pub(crate) const INCARNATION: u64 = 1;

/// Commands in one batch.
const BATCH_COMMANDS: u32 = 256;
/// Journal time from one batch to the next. With the window below, some 25,000 commands are remembered.
const BATCH_MICROS: u64 = 10_000;
/// How long ids are remembered: the file's own ids are checked here, so the least will do.
const WINDOW_MICROS: u64 = 1_000_000;
/// Deposits of the greatest amount that each account gets of each asset.
const DEPOSITS: u128 = 1_000;

/// One fill of the order that was placed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The resting order, by the file's id.
    pub maker: Arc<str>,
    /// Its price.
    pub price: PriceTicks,
    /// How much.
    pub quantity: QuantityLots,
}

/// An order to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Its side.
    pub side: Side,
    /// Its limit; `None`: a market order.
    pub price: Option<PriceTicks>,
    /// Its quantity; zero only with `funds`.
    pub quantity: QuantityLots,
    /// The most that a market order may spend.
    pub funds: Option<Amount>,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// Refused if it would trade at once.
    pub post_only: bool,
}

/// What a reduction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduced {
    /// The order is smaller now, at the same place in the queue.
    Smaller,
    /// Nothing would have remained: it was cancelled.
    Cancelled,
    /// It was not open: nothing happened.
    NotOpen,
}

/// An order that rests at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resting {
    /// Its side.
    pub side: Side,
    /// Its limit.
    pub price: PriceTicks,
    /// What remains of it.
    pub remaining: QuantityLots,
}

/// The core with its one market.
#[derive(Debug)]
pub(crate) struct Venue {
    state: State,
    in_batch: u32,
    last_id: u128,
    open: HashMap<Arc<str>, CommandId>,
    makers: HashMap<u64, (Arc<str>, CommandId)>,
    fills: Vec<Fill>,
    sent: u64,
    last: Option<Action>,
}

impl Venue {
    /// Opens a journal in memory with the market of `grid`.
    ///
    /// # Errors
    ///
    /// The core refuses the market.
    pub(crate) fn new(grid: &Grid) -> anyhow::Result<Self> {
        let mut venue = Self {
            state: State::new(),
            in_batch: 0,
            last_id: 0,
            open: HashMap::new(),
            makers: HashMap::new(),
            fills: Vec::new(),
            sent: 0,
            last: None,
        };
        for action in opening(grid, WINDOW_MICROS)? {
            let about = format!("{action:?}");
            match venue.run(action)? {
                Event::Done => {}
                other => bail!("the core does not take {about}: {other:?}"),
            }
        }
        venue.sent = 0;
        Ok(venue)
    }

    /// Places an order under the file's id for it. Its fills are in [`Venue::fills`].
    ///
    /// # Errors
    ///
    /// The core's refusal, in the inner result; the outer one is a defect.
    pub(crate) fn place(
        &mut self,
        id: &str,
        order: Order,
    ) -> anyhow::Result<Result<Ending, Reject>> {
        let command = CommandId::new(self.last_id + 1);
        let event = self.run(Action::PlaceOrder(NewOrder {
            account: owner(order.side),
            market: MARKET,
            side: order.side,
            order_type: if order.price.is_some() { OrderType::Limit } else { OrderType::Market },
            time_in_force: order.time_in_force,
            post_only: order.post_only,
            price: order.price,
            quantity: order.quantity,
            quote_amount: order.funds,
            trigger: None,
            display: None,
            self_trade_prevention: SelfTradePrevention::Allow,
            client_order_id: None,
        }))?;
        self.fills.clear();
        match event {
            Event::OrderPlaced(placed) => self.placed(id, command, &placed).map(Ok),
            Event::Rejected(reject) => Ok(Err(reject)),
            other => bail!("an order came to {other:?}"),
        }
    }

    fn placed(
        &mut self,
        id: &str,
        command: CommandId,
        placed: &PlacedOrder,
    ) -> anyhow::Result<Ending> {
        for step in &placed.steps {
            let Step::Fill(fill) = step else { bail!("nothing prevents self-trades here") };
            let maker = fill.maker.get();
            let (name, order) = self.makers.get(&maker).context("a maker is an open order")?;
            self.fills.push(Fill {
                maker: Arc::clone(name),
                price: fill.price,
                quantity: fill.quantity,
            });
            if self.state.order(*order).is_none() {
                self.open.remove(name);
                self.makers.remove(&maker);
            }
        }
        if placed.ending == Ending::Rests {
            let name: Arc<str> = id.into();
            self.open.insert(Arc::clone(&name), command);
            self.makers.insert(placed.order_id.get(), (name, command));
        }
        Ok(placed.ending)
    }

    /// Cancels an order; `false` where it is not open.
    ///
    /// # Errors
    ///
    /// The core does not cancel an order that is open: a defect.
    pub(crate) fn cancel(&mut self, id: &str) -> anyhow::Result<bool> {
        let Some(&order) = self.open.get(id) else { return Ok(false) };
        let view = self.state.order(order).context("an open order is in the state")?;
        let (account, integer) = (view.account, view.order_id.get());
        match self.run(Action::CancelOrder { account, order: OrderRef::Id(order) })? {
            Event::OrderCancelled { .. } => {
                self.open.remove(id);
                self.makers.remove(&integer);
                Ok(true)
            }
            other => bail!("a cancel of an open order came to {other:?}"),
        }
    }

    /// Takes `quantity` off what remains of an order, which keeps its priority.
    ///
    /// # Errors
    ///
    /// The core does not reduce an order that is open: a defect.
    pub(crate) fn reduce(&mut self, id: &str, quantity: QuantityLots) -> anyhow::Result<Reduced> {
        let Some(&order) = self.open.get(id) else { return Ok(Reduced::NotOpen) };
        let view = self.state.order(order).context("an open order is in the state")?;
        let smaller = view.quantity.checked_sub(quantity).filter(|&total| total > view.filled);
        let Some(total) = smaller else {
            self.cancel(id)?;
            return Ok(Reduced::Cancelled);
        };
        let (account, order) = (view.account, OrderRef::Id(order));
        let amend = AmendOrder { account, order, price: None, quantity: Some(total) };
        match self.run(Action::AmendOrder(amend))? {
            Event::OrderReduced { .. } => Ok(Reduced::Smaller),
            other => bail!("a reduction of an open order came to {other:?}"),
        }
    }

    /// Returns the fills of the order that was placed last.
    pub(crate) fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// Returns what the core was asked last and under which id, for whoever repeats it elsewhere.
    pub(crate) fn last(&self) -> Option<(CommandId, &Action)> {
        self.last.as_ref().map(|action| (CommandId::new(self.last_id), action))
    }

    /// Returns the commands that were sent to the core.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns an open order.
    pub(crate) fn order(&self, id: &str) -> Option<Resting> {
        self.open.get(id).and_then(|&order| self.resting(order))
    }

    /// Returns the open orders by the file's ids, in no order.
    pub(crate) fn orders(&self) -> impl Iterator<Item = (&str, Resting)> {
        self.open.iter().filter_map(|(id, &order)| Some((&**id, self.resting(order)?)))
    }

    fn resting(&self, order: CommandId) -> Option<Resting> {
        let view = self.state.order(order)?;
        let remaining = view.quantity.checked_sub(view.filled)?;
        Some(Resting { side: view.side, price: view.price?, remaining })
    }

    /// Returns one side of the book, best first: price and total quantity.
    pub(crate) fn depth(&self, side: Side) -> impl Iterator<Item = (PriceTicks, QuantityLots)> {
        self.state.depth(MARKET, side).map(|level| (level.price, level.quantity))
    }

    /// Checks every invariant of the core's state.
    ///
    /// # Errors
    ///
    /// The first that does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.state.check()
    }

    fn run(&mut self, action: Action) -> anyhow::Result<Event> {
        if self.in_batch == 0 {
            let sequence = self.state.sequence().next();
            let time = Time::from_micros(sequence.get().saturating_mul(BATCH_MICROS));
            self.state.open_batch(Stamp { sequence, time });
        }
        self.in_batch = (self.in_batch + 1) % BATCH_COMMANDS;
        self.last_id += 1;
        let command = Command {
            id: CommandId::new(self.last_id),
            body_hash: 0,
            expires_at: Time::MAX,
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        let decision = engine::run(&mut self.state, &command, &mut ());
        self.sent += 1;
        self.last = Some(command.action);
        match decision {
            Decision::Event(event) => Ok(event),
            other => bail!("a command with a new id came to {other:?}"),
        }
    }
}

/// Returns the account that orders of a side belong to.
pub(crate) fn owner(side: Side) -> AccountId {
    match side {
        Side::Buy => BUYER,
        Side::Sell => SELLER,
    }
}

/// What makes the market: a journal's first commands. `window_micros` is how long ids are remembered.
///
/// # Errors
///
/// None that [`Grid::new`] has not found already.
pub(crate) fn opening(grid: &Grid, window_micros: u64) -> anyhow::Result<Vec<Action>> {
    let (base, quote) = (AssetId::new(0), AssetId::new(1));
    let settings = Settings { incarnation: INCARNATION, salt: 1, sandbox: true };
    let mut actions = vec![Action::Genesis(settings), Action::SetLimits(limits(window_micros))];
    actions.extend(grid.assets().map(Action::DefineAsset));
    actions.push(Action::DefineMarket(grid.market(base, quote)?));
    actions.extend([BUYER, SELLER].map(|account| Action::OpenAccount { account }));
    for (account, asset) in [(BUYER, quote), (SELLER, base)] {
        actions.extend((0..DEPOSITS).map(|number| Action::Deposit {
            account,
            asset,
            amount: Amount::COMMAND_MAX,
            reference: ReferenceHash::new(u128::from(asset.get()) * DEPOSITS + number),
            sandbox: true,
        }));
    }
    Ok(actions)
}

fn limits(window_micros: u64) -> Limits {
    Limits {
        open_orders_max: u32::MAX,
        maker_open_orders_max: u32::MAX,
        orders_per_second_max: 0,
        maker_orders_per_second_max: 0,
        steps_max: u32::MAX,
        dedup_window_micros: window_micros,
    }
}
