//! What a run of batches changes in each table of a part: added rows as they come, and of what can change again only the last
//! state.
//!
//! Invariant: how a journal is cut into runs makes no difference to what stands in the tables after them.

use std::collections::{BTreeMap, HashMap};

use engine::{
    AccountFlags, Action, AssetConfig, BalanceEffect, Event, MarketConfig, MarketState, NewOrder,
    OrderStatus, OrderView, PostingEffect, Reject, Trade, WithdrawalView,
};
use journal::{Applied, Entry};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, ReferenceHash, Sequence, Time,
};

use super::Part;
use super::candles::{self, Candles};

/// Where something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) sequence: Sequence,
    pub(super) time: Time,
}

impl At {
    fn of(applied: &Applied) -> Self {
        Self { sequence: applied.batch.sequence, time: applied.batch.time }
    }
}

/// A deposit, whatever became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deposit {
    pub(super) id: CommandId,
    pub(super) account: AccountId,
    pub(super) asset: AssetId,
    pub(super) amount: Amount,
    pub(super) reference: ReferenceHash,
    pub(super) sandbox: bool,
    pub(super) rejected: Option<Reject>,
    pub(super) at: At,
}

/// A transfer, whatever became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) id: CommandId,
    pub(super) from: AccountId,
    pub(super) to: AccountId,
    pub(super) asset: AssetId,
    pub(super) amount: Amount,
    pub(super) rejected: Option<Reject>,
    pub(super) at: At,
}

/// A request for a withdrawal, whatever became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: CommandId,
    pub(super) account: AccountId,
    pub(super) asset: AssetId,
    pub(super) amount: Amount,
    pub(super) destination: ReferenceHash,
    pub(super) rejected: Option<Reject>,
    pub(super) at: At,
}

/// A change of something that changes seldom; written one by one, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rare<'a> {
    Asset(&'a AssetConfig, At),
    Market(&'a MarketConfig, At),
    MarketState(MarketId, MarketState),
    Flags(AccountId, AccountFlags),
    Request(Request),
    Withdrawal(WithdrawalView, At),
}

/// Everything that a run of batches changes in one part; what other parts write is empty.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    /// The first of the journal's rows.
    pub(super) first: Sequence,
    pub(super) rare: Vec<Rare<'a>>,
    pub(super) accounts: BTreeMap<AccountId, At>,
    /// Credited ones by id: one that comes twice is one row, the later.
    pub(super) deposits: BTreeMap<CommandId, Deposit>,
    pub(super) transfers: BTreeMap<CommandId, Transfer>,
    /// Refused ones: they never take the place of a row that is there.
    pub(super) refused_deposits: Vec<Deposit>,
    pub(super) refused_transfers: Vec<Transfer>,
    pub(super) refused_orders: Vec<(CommandId, &'a NewOrder, Reject, At)>,
    pub(super) orders: Vec<(&'a OrderView<'static>, At)>,
    order_at: HashMap<CommandId, usize>,
    pub(super) balances: BTreeMap<(AccountId, AssetId), (&'a BalanceEffect, At)>,
    pub(super) trades: Vec<(u32, &'a Trade)>,
    /// With the row, and the place in the row.
    pub(super) postings: Vec<(Sequence, usize, &'a PostingEffect)>,
    pub(super) candles: Candles,
    pub(super) last_prices: BTreeMap<MarketId, PriceTicks>,
}

impl<'a> Rows<'a> {
    /// Collects what the batches change in one part.
    pub(super) fn collect(part: Part, batches: impl IntoIterator<Item = &'a Applied>) -> Self {
        let mut rows = Self { first: Sequence::new(u64::MAX), ..Self::default() };
        for applied in batches {
            rows.first = rows.first.min(applied.batch.sequence);
            match part {
                Part::Orders => rows.add_orders(applied),
                Part::Money => rows.add_money(applied),
                Part::MarketData => rows.add_market_data(applied),
            }
        }
        rows
    }

    fn add_orders(&mut self, applied: &'a Applied) {
        let at = At::of(applied);
        for Entry { command, event } in &applied.batch.entries {
            if let (Action::PlaceOrder(order), Event::Rejected(reject)) = (&command.action, event) {
                self.refused_orders.push((command.id, order, *reject, at));
            }
        }
        for (_, order) in &applied.effects.orders {
            let next = self.orders.len();
            let place = *self.order_at.entry(order.id).or_insert(next);
            if place == next {
                self.orders.push((order, at));
            } else {
                self.orders[place] = (order, at);
            }
        }
    }

    fn add_money(&mut self, applied: &'a Applied) {
        let (at, effects) = (At::of(applied), &applied.effects);
        for entry in &applied.batch.entries {
            self.money_command(entry, at);
        }
        for balance in &effects.balances {
            self.balances.insert((balance.account, balance.asset), (balance, at));
        }
        let postings = effects.postings.iter().enumerate();
        self.postings.extend(postings.map(|(place, posting)| (at.sequence, place, posting)));
        let withdrawals = effects.withdrawals.iter();
        self.rare.extend(withdrawals.map(|withdrawal| Rare::Withdrawal(*withdrawal, at)));
    }

    fn add_market_data(&mut self, applied: &'a Applied) {
        let at = At::of(applied);
        for entry in &applied.batch.entries {
            if matches!(entry.event, Event::Rejected(_)) {
                continue;
            }
            match &entry.command.action {
                Action::DefineAsset(config) => self.rare.push(Rare::Asset(config, at)),
                Action::DefineMarket(config) => self.rare.push(Rare::Market(config, at)),
                Action::SetMarketState { market, state } => {
                    self.rare.push(Rare::MarketState(*market, *state));
                }
                Action::HaltMarket { market } => {
                    self.rare.push(Rare::MarketState(*market, MarketState::Halted));
                }
                _ => {}
            }
        }
        for (command, trade) in &applied.effects.trades {
            self.trades.push((*command, trade));
            self.last_prices.insert(trade.market, trade.price);
            candles::add(&mut self.candles, trade);
        }
    }

    fn money_command(&mut self, Entry { command, event }: &'a Entry, at: At) {
        let rejected = match event {
            Event::Rejected(reject) => Some(*reject),
            _ => None,
        };
        let id = command.id;
        match command.action {
            Action::Genesis(_) if rejected.is_none() => {
                self.accounts.entry(AccountId::FEES).or_insert(at);
            }
            Action::OpenAccount { account } if rejected.is_none() => {
                self.accounts.entry(account).or_insert(at);
            }
            Action::SetAccountFlags { account, flags } if rejected.is_none() => {
                self.rare.push(Rare::Flags(account, flags));
            }
            Action::Deposit { account, asset, amount, reference, sandbox } => {
                let row = Deposit { id, account, asset, amount, reference, sandbox, rejected, at };
                match rejected {
                    None => drop(self.deposits.insert(id, row)),
                    Some(_) => self.refused_deposits.push(row),
                }
            }
            Action::Transfer { from, to, asset, amount } => {
                let row = Transfer { id, from, to, asset, amount, rejected, at };
                match rejected {
                    None => drop(self.transfers.insert(id, row)),
                    Some(_) => self.refused_transfers.push(row),
                }
            }
            Action::RequestWithdrawal { account, asset, amount, destination } => {
                let row = Request { id, account, asset, amount, destination, rejected, at };
                self.rare.push(Rare::Request(row));
            }
            _ => {}
        }
    }
}

/// The words for what became of something that was refused: too late is not wrong.
pub(super) fn refusal(reject: Reject) -> (&'static str, &'static str) {
    match reject {
        Reject::Expired => ("expired", reject.code()),
        _ => ("rejected", reject.code()),
    }
}

/// The words for where an order stands.
pub(super) fn order_status(order: &OrderView<'_>) -> (&'static str, Option<&'static str>) {
    let closed = matches!(order.status, OrderStatus::Cancelled | OrderStatus::Expired);
    let reason = order.reason.filter(|_| closed).map(super::codes::cancel_reason);
    (order.status.code(), reason)
}
