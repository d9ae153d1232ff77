//! The naive exchange: slow, and obviously right. A list of orders, maps of balances, every rule written down a second
//! time from the documents alone; nothing of the engine but the types of commands and events is used.
//!
//! Where the documents leave a choice, this is how they are read here:
//!
//! - Time: a command is expired when journal time is *past* its expiry; a good-till-date order is over when its
//!   moment *has come*. The window of repeats and of closed client order ids ends when *more* than the window has passed.
//! - Every order command of a known account counts for its rate, whatever comes of it.
//! - Prices within reference ± band are exactly those with |price − reference| × 10^6 ≤ reference × band. A stop's
//!   limit price is measured from its own trigger instead.
//! - The reference's five minutes are the current second of journal time and the 300 before it; the volume-weighted
//!   price is rounded down. Its move is measured from what it was before the oldest of these trades, and anew from
//!   the moment at which a market is opened again.
//! - A stop is due when the last trade is at or beyond its trigger *now*: one that a cascade has moved away from waits on.
//! - Stops of one market: buys from the lowest trigger up, sells from the highest down, equals by arrival; of the
//!   first buy and the first sell, the one that arrived first.
//! - The state's own work: expiries, cancel-alls, halts, stops.
//! - A market order is immediate-or-cancel or fill-or-kill; icebergs are plain limit orders that may rest; a sell by market
//!   order holds what it will sell within the band, not what it asked for; its notional is measured at the reference.
//! - An amend of a waiting stop keeps its arrival; one to less than an iceberg's slice shrinks the slice.
//! - A cancel that names an order for which a cancel waits already is refused as unknown.

mod matching;
mod money;
mod orders;

use std::collections::{BTreeMap, BTreeSet};

use engine::*;
use units::*;

/// An open order.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: CommandId,
    pub(crate) order_id: u64,
    pub(crate) new: NewOrder,
    /// The limit it stands with in the book; for a waiting stop-market order the one it will have.
    pub(crate) price: Option<u64>,
    pub(crate) quantity: u64,
    pub(crate) filled: u64,
    pub(crate) filled_notional: u128,
    pub(crate) visible: u64,
    pub(crate) waits: bool,
    pub(crate) hold: u128,
    /// Its place among all arrivals.
    pub(crate) arrival: u64,
    /// Its place in the queue of its level; new when it is replaced or its slice is refreshed.
    pub(crate) priority: u64,
}

impl Open {
    pub(crate) fn remaining(&self) -> u64 {
        self.quantity - self.filled
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Market {
    pub(crate) config: MarketConfig,
    pub(crate) state: MarketState,
    pub(crate) last_order_id: u64,
    pub(crate) last_trade_id: u64,
    pub(crate) last_price: Option<u64>,
    /// Second of journal time, price, quantity, and the reference before the second's first trade.
    pub(crate) trades: Vec<(u64, u64, u64, Option<u64>)>,
    pub(crate) halt_due: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) flags: AccountFlags,
    pub(crate) rate_second: u64,
    pub(crate) rate_count: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct ClosedClientId {
    pub(crate) account: AccountId,
    pub(crate) client_order_id: ClientOrderId,
    pub(crate) closed_at: Time,
}

#[derive(Clone, Debug)]
pub(crate) struct Withdrawal {
    pub(crate) account: AccountId,
    pub(crate) asset: AssetId,
    pub(crate) amount: u128,
    pub(crate) state: WithdrawalState,
}

#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    pub(crate) account: AccountId,
    pub(crate) market: Option<MarketId>,
    pub(crate) before_arrival: u64,
}

/// What one account has of one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purse {
    pub(crate) available: u128,
    pub(crate) held: u128,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    pub(crate) now: Time,
    pub(crate) sequence: Sequence,
    pub(crate) settings: Option<Settings>,
    pub(crate) limits: Limits,
    pub(crate) assets: Vec<AssetConfig>,
    pub(crate) outside: BTreeMap<AssetId, i128>,
    pub(crate) markets: Vec<Market>,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) purses: BTreeMap<(AccountId, AssetId), Purse>,
    pub(crate) orders: Vec<Open>,
    pub(crate) closed_client_ids: Vec<ClosedClientId>,
    pub(crate) known: BTreeMap<CommandId, (u64, Sequence, Time)>,
    pub(crate) remembered_cancels: Vec<(CommandId, AccountId, Time)>,
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) withdrawals: BTreeMap<CommandId, Withdrawal>,
    pub(crate) deposit_references: BTreeSet<ReferenceHash>,
    pub(crate) arrivals: u64,
    pub(crate) priorities: u64,
    pub(crate) audit_heads: Vec<AuditHead>,
}

impl Naive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open_batch(&mut self, sequence: Sequence, time: Time) {
        assert_eq!(sequence, self.sequence.next());
        assert!(time >= self.now);
        self.sequence = sequence;
        self.now = time;
        let window = self.limits.dedup_window_micros;
        self.known.retain(|_, (_, _, at)| time.micros_since(*at) <= window);
        self.closed_client_ids.retain(|closed| time.micros_since(closed.closed_at) <= window);
        self.remembered_cancels.retain(|(_, _, expires_at)| time <= *expires_at);
    }

    /// Decides a command and does what it says.
    pub(crate) fn run(&mut self, command: &Command) -> Decision {
        let known = self.known.get(&command.id).filter(|_| command.origin == Origin::Client);
        if let Some(&(body_hash, outcome, _)) = known {
            if body_hash != command.body_hash {
                return Decision::IdReused;
            }
            let known = KnownCommand { body_hash, outcome };
            return Decision::Repeat { first: command.id, known };
        }
        let decision = self.decide_new(command);
        match &command.action {
            Action::PlaceOrder(order) => self.count_order(order.account),
            Action::AmendOrder(amend) => self.count_order(amend.account),
            _ => {}
        }
        if command.origin == Origin::Client && matches!(decision, Decision::Event(_)) {
            self.known.insert(command.id, (command.body_hash, self.sequence, self.now));
        }
        decision
    }

    fn decide_new(&mut self, command: &Command) -> Decision {
        let event = self.checked(command).and_then(|()| self.act(command));
        Decision::Event(event.unwrap_or_else(Event::Rejected))
    }

    /// Checks what is the same for all commands.
    fn checked(&self, command: &Command) -> Result<(), Reject> {
        if command.origin == Origin::Client && self.now > command.expires_at {
            return Err(Reject::Expired);
        }
        if matches!(command.action, Action::Genesis(_)) != self.settings.is_none() {
            return Err(Reject::Genesis);
        }
        let internal = matches!(
            command.action,
            Action::ExpireOrder { .. }
                | Action::CancelNext { .. }
                | Action::TriggerStop { .. }
                | Action::HaltMarket { .. }
                | Action::Restore { .. }
        );
        if internal && command.origin == Origin::Client {
            return Err(Reject::Forbidden);
        }
        Ok(())
    }

    fn act(&mut self, command: &Command) -> Result<Event, Reject> {
        match &command.action {
            Action::Genesis(settings) => {
                self.settings = Some(*settings);
                Ok(Event::Done)
            }
            Action::Tick => Ok(Event::Done),
            Action::SetLimits(limits) => {
                self.limits = *limits;
                Ok(Event::Done)
            }
            Action::DefineAsset(config) => self.define_asset(config),
            Action::DefineMarket(config) => self.define_market(config),
            Action::SetMarketState { market, state } => self.set_market_state(*market, *state),
            Action::HaltMarket { market } => self.set_market_state(*market, MarketState::Halted),
            Action::Restore { incarnation, .. } => self.restore(*incarnation),
            Action::NoteAuditHead(head) => self.note_audit_head(*head),
            Action::PlaceOrder(order) => self.place(command, order),
            Action::CancelOrder { account, order } => self.cancel(command, *account, order),
            Action::CancelAll { account, market } => self.cancel_all(*account, *market),
            Action::AmendOrder(amend) => self.amend(amend),
            Action::ExpireOrder { market, order } => {
                Ok(self.cancelled(*market, *order, CancelReason::Expired))
            }
            Action::CancelNext { market, order, reason } => {
                Ok(self.cancelled(*market, *order, *reason))
            }
            Action::TriggerStop { market, order } => Ok(self.trigger(*market, *order)),
            money => self.act_on_money(command.id, money),
        }
    }

    /// A head counts if it is of more rows than every one before.
    fn note_audit_head(&mut self, head: AuditHead) -> Result<Event, Reject> {
        if self.audit_heads.iter().any(|noted| noted.rows >= head.rows) || head.rows == 0 {
            return Err(Reject::AuditHeadStale);
        }
        self.audit_heads.push(head);
        Ok(Event::Done)
    }

    fn restore(&mut self, incarnation: u64) -> Result<Event, Reject> {
        if let Some(settings) = &mut self.settings {
            settings.incarnation = incarnation;
        }
        for market in &mut self.markets {
            market.last_order_id += 1_000_000_000;
            market.last_trade_id += 1_000_000_000;
        }
        Ok(Event::Done)
    }

    fn set_market_state(&mut self, market: MarketId, state: MarketState) -> Result<Event, Reject> {
        let now = self.now.seconds();
        let market = self.market_mut(market)?;
        market.state = state;
        market.halt_due = false;
        if state == MarketState::Open {
            let reference = market.reference(now);
            for (_, _, _, before) in &mut market.trades {
                *before = reference;
            }
        }
        Ok(Event::Done)
    }

    fn define_asset(&mut self, config: &AssetConfig) -> Result<Event, Reject> {
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        let symbol_fits =
            (2..=10).contains(&config.symbol.len()) && config.symbol.chars().all(plain);
        if !symbol_fits || config.scale > 24 || config.transfer_scale > config.scale {
            return Err(Reject::AssetInvalid);
        }
        match self.assets.iter_mut().find(|asset| asset.symbol == config.symbol) {
            Some(asset) if asset.scale != config.scale => return Err(Reject::AssetInvalid),
            Some(asset) => *asset = config.clone(),
            None => self.assets.push(config.clone()),
        }
        Ok(Event::Done)
    }

    fn define_market(&mut self, config: &MarketConfig) -> Result<Event, Reject> {
        self.asset(config.base)?;
        self.asset(config.quote)?;
        if config.base == config.quote
            || config.base_units_per_lot == 0
            || config.quote_units_per_tick_lot == 0
        {
            return Err(Reject::MarketInvalid);
        }
        let known = self.markets.iter().position(|m| m.config.symbol == config.symbol);
        let Some(at) = known else {
            self.markets.push(Market {
                config: config.clone(),
                state: MarketState::Open,
                last_order_id: 0,
                last_trade_id: 0,
                last_price: None,
                trades: Vec::new(),
                halt_due: false,
            });
            return Ok(Event::Done);
        };
        let old = &self.markets[at].config;
        if old.base != config.base || old.quote != config.quote {
            return Err(Reject::MarketInvalid);
        }
        let same_grid = old.base_units_per_lot == config.base_units_per_lot
            && old.quote_units_per_tick_lot == config.quote_units_per_tick_lot;
        if !same_grid && self.markets[at].last_order_id > 0 {
            return Err(Reject::MarketInvalid);
        }
        self.markets[at].config = config.clone();
        Ok(Event::Done)
    }

    pub(crate) fn asset(&self, asset: AssetId) -> Result<&AssetConfig, Reject> {
        self.assets.get(usize::from(asset.get())).ok_or(Reject::AssetUnknown)
    }

    pub(crate) fn market(&self, market: MarketId) -> Result<&Market, Reject> {
        self.markets.get(usize::from(market.get())).ok_or(Reject::MarketUnknown)
    }

    pub(crate) fn market_mut(&mut self, market: MarketId) -> Result<&mut Market, Reject> {
        self.markets.get_mut(usize::from(market.get())).ok_or(Reject::MarketUnknown)
    }

    /// An account that is there and not closed.
    pub(crate) fn live_account(&self, account: AccountId) -> Result<&Account, Reject> {
        if account < AccountId::FIRST_CUSTOMER {
            return Err(Reject::AccountReserved);
        }
        let found = self.accounts.get(&account).ok_or(Reject::AccountUnknown)?;
        if found.flags.closed { Err(Reject::AccountClosed) } else { Ok(found) }
    }

    /// An account that is there, not closed and not locked.
    pub(crate) fn free_account(&self, account: AccountId) -> Result<&Account, Reject> {
        let found = self.live_account(account)?;
        if found.flags.locked { Err(Reject::AccountLocked) } else { Ok(found) }
    }

    /// The most pressing thing that the state itself has to do.
    pub(crate) fn next_internal(&self) -> Option<Action> {
        self.next_expiry()
            .or_else(|| self.next_of_sweeps())
            .or_else(|| self.next_halt())
            .or_else(|| self.next_stop())
    }

    fn next_expiry(&self) -> Option<Action> {
        let due = self.orders.iter().filter_map(|order| match order.new.time_in_force {
            TimeInForce::Gtd(until) if until <= self.now => Some((until, order.arrival, order)),
            _ => None,
        });
        let (_, _, order) = due.min_by_key(|(until, arrival, _)| (*until, *arrival))?;
        Some(Action::ExpireOrder { market: order.new.market, order: order.id })
    }

    fn next_of_sweeps(&self) -> Option<Action> {
        self.sweeps.iter().find_map(|sweep| {
            let order = self.of_sweep(sweep).into_iter().next()?;
            let (market, order) = (order.new.market, order.id);
            Some(Action::CancelNext { market, order, reason: CancelReason::Requested })
        })
    }

    fn next_stop(&self) -> Option<Action> {
        let markets = (0..).map(MarketId::new).zip(&self.markets);
        let mut open = markets.filter(|(_, market)| market.state == MarketState::Open);
        open.find_map(|(id, market)| {
            let last = market.last_price?;
            let waiting = self.orders.iter().filter(|order| order.waits && order.new.market == id);
            let due = waiting.filter_map(|order| {
                let trigger = order.new.trigger.expect("a stop has a trigger").get();
                let side = order.new.side;
                reached(side, trigger, last).then_some((side, trigger, order.arrival, order))
            });
            let due: Vec<_> = due.collect();
            let buys = due.iter().filter(|(side, ..)| *side == Side::Buy);
            let sells = due.iter().filter(|(side, ..)| *side == Side::Sell);
            let buy = buys.min_by_key(|(_, trigger, arrival, _)| (*trigger, *arrival));
            let sell = sells.min_by_key(|(_, trigger, arrival, _)| (u64::MAX - trigger, *arrival));
            let first = buy.into_iter().chain(sell).min_by_key(|(_, _, arrival, _)| *arrival);
            first.map(|(_, _, _, order)| Action::TriggerStop { market: id, order: order.id })
        })
    }

    fn next_halt(&self) -> Option<Action> {
        let mut markets = (0..).map(MarketId::new).zip(&self.markets);
        let (market, _) =
            markets.find(|(_, market)| market.halt_due && market.state == MarketState::Open)?;
        Some(Action::HaltMarket { market })
    }

    /// The visible levels of one side, best first: price, quantity, orders.
    pub(crate) fn depth(&self, market: MarketId, side: Side) -> Vec<(u64, u64, u32)> {
        let mut levels: Vec<(u64, u64, u32)> = Vec::new();
        for order in self.queue(market, side) {
            let price = order.price.expect("a resting order has a price");
            match levels.last_mut() {
                Some(level) if level.0 == price => {
                    level.1 += order.visible;
                    level.2 += 1;
                }
                _ => levels.push((price, order.visible, 1)),
            }
        }
        levels
    }
}

/// Tells whether the last trade is at or beyond a stop's trigger.
pub(crate) fn reached(side: Side, trigger: u64, last: u64) -> bool {
    match side {
        Side::Buy => last >= trigger,
        Side::Sell => last <= trigger,
    }
}
