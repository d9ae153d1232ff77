//! The state of the whole exchange, and the questions it answers.

mod accounts;
mod check;
mod chunk;
mod client_ids;
mod ids;
mod market;
mod order;
mod places;
mod records;
mod reference;
mod views;
mod warm;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use book::Side;
use ledger::{AccountIndex, Ledger};
use units::{
    AccountId, Amount, AssetId, Balance, CommandId, MarketId, ReferenceHash, Sequence,
    SignedAmount, Time,
};

use crate::command::{AuditHead, ClientOrderId};
use crate::config::{AssetConfig, Limits, Settings};
use crate::observe::{OrderView, WithdrawalState, WithdrawalView};

pub(crate) use accounts::{AccountInfo, info_mut};
pub(crate) use client_ids::{ClientEntry, ClientIds};
pub(crate) use ids::{IdHash, OrderIds, Salt};
pub(crate) use market::Market;
pub(crate) use order::{Extra, Order, hold};
pub(crate) use reference::{TradeSecond, band};
pub use views::{AccountFlags, AccountView, DepthLevel, KnownCommand, MarketView, Stamp};
pub(crate) use window::{Known, Window};

/// The state of the whole exchange.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) sequence: Sequence,
    pub(crate) time: Time,
    pub(crate) settings: Option<Settings>,
    pub(crate) limits: Limits,
    /// Counts every order's arrival: time priority among stops, and what a cancel-all reaches.
    pub(crate) arrivals: u64,
    pub(crate) assets: Vec<AssetConfig>,
    pub(crate) markets: Vec<Market>,
    pub(crate) ledger: Ledger,
    /// By the ledger's account index.
    pub(crate) accounts: Vec<AccountInfo>,
    /// Seeds the hashes of ids in the tables below.
    pub(crate) salt: Salt,
    pub(crate) order_ids: OrderIds,
    pub(crate) known: Window,
    pub(crate) client_ids: ClientIds,
    /// Cancels that came before their orders.
    pub(crate) remembered: BTreeMap<CommandId, (AccountId, Time)>,
    pub(crate) remembered_expiries: BTreeSet<(Time, CommandId)>,
    /// Cancel-alls that go on.
    pub(crate) sweeps: VecDeque<Sweep>,
    pub(crate) withdrawals: BTreeMap<CommandId, Withdrawal>,
    pub(crate) deposit_references: BTreeSet<ReferenceHash>,
    /// Good-till-date orders by their end, then arrival.
    pub(crate) expiries: BTreeMap<(Time, u64), (MarketId, u32)>,
    /// The audit log's head that was noted last.
    pub(crate) audit_head: Option<AuditHead>,
}

/// A cancel-all that goes on: an account's orders that arrived before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) account: AccountId,
    pub(crate) market: Option<MarketId>,
    pub(crate) before_arrival: u64,
}

/// A withdrawal that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    pub(crate) account: AccountIndex,
    pub(crate) asset: AssetId,
    pub(crate) amount: Amount,
    pub(crate) state: WithdrawalState,
}

impl State {
    /// Returns the state before the first row of a journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the batch of one journal row: sets the time and forgets what is past its window.
    ///
    /// # Panics
    ///
    /// When the row does not follow the last one, or its time is before it.
    pub fn open_batch(&mut self, stamp: Stamp) {
        assert_eq!(stamp.sequence, self.sequence.next(), "rows follow one another without gaps");
        assert!(stamp.time >= self.time, "journal time never decreases");
        self.sequence = stamp.sequence;
        self.time = stamp.time;
        let window = self.limits.dedup_window_micros;
        self.known.forget(stamp.time, window);
        self.client_ids.forget(stamp.time, window);
        for market in &mut self.markets {
            if market.trades.forget(stamp.time) {
                market.note_reference();
            }
        }
        if !self.sweeps.is_empty() {
            let going = |sweep: &Sweep| crate::run::next_of(self, sweep).is_some();
            let going: VecDeque<_> = self.sweeps.iter().copied().filter(going).collect();
            self.sweeps = going;
        }
        while let Some(&(expires_at, order)) = self.remembered_expiries.first()
            && expires_at < stamp.time
        {
            self.remembered_expiries.pop_first();
            self.remembered.remove(&order);
        }
    }

    /// Returns the last row that was opened.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Returns the journal time of the last row that was opened.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// Returns what the journal was born with; `None` before genesis.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Returns the audit log's head that was noted last.
    #[must_use]
    pub fn audit_head(&self) -> Option<AuditHead> {
        self.audit_head
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the assets; an asset's id is its position.
    #[must_use]
    pub fn assets(&self) -> &[AssetConfig] {
        &self.assets
    }

    /// Finds an asset by its symbol.
    #[must_use]
    pub fn asset_by_symbol(&self, symbol: &str) -> Option<AssetId> {
        let at = self.assets.iter().position(|asset| &*asset.symbol == symbol)?;
        Some(AssetId::new(u16::try_from(at).expect("assets fit 16 bits")))
    }

    /// Returns the outside world's balance of an asset, zero or negative.
    #[must_use]
    pub fn outside(&self, asset: AssetId) -> SignedAmount {
        self.ledger.outside(asset)
    }

    /// Returns the markets in the order of their ids.
    pub fn markets(&self) -> impl Iterator<Item = MarketView<'_>> {
        self.markets.iter().map(Market::view)
    }

    /// Returns a market.
    #[must_use]
    pub fn market(&self, market: MarketId) -> Option<MarketView<'_>> {
        self.find_market(market).map(Market::view)
    }

    /// Finds a market by its symbol (`BTC/USD`).
    #[must_use]
    pub fn market_by_symbol(&self, symbol: &str) -> Option<MarketId> {
        self.markets.iter().find(|market| &*market.config.symbol == symbol).map(|market| market.id)
    }

    /// Returns the visible book's levels of one side, best first; none for an unknown market.
    pub fn depth(&self, market: MarketId, side: Side) -> impl Iterator<Item = DepthLevel> + '_ {
        self.find_market(market).into_iter().flat_map(move |market| {
            market.book.levels(side).map(|level| DepthLevel {
                price: level.price,
                quantity: level.quantity,
                orders: level.orders,
            })
        })
    }

    /// Returns the open orders that rest in one side of a book, in price-time priority (waiting stops apart).
    pub fn resting(&self, market: MarketId, side: Side) -> impl Iterator<Item = OrderView<'_>> {
        self.find_market(market).into_iter().flat_map(move |market| {
            let orders = market.book.queues(side).flat_map(|(_, queue)| queue);
            orders.map(|resting| self.view(market, market.orders.get(resting.key)))
        })
    }

    /// Returns an account.
    #[must_use]
    pub fn account(&self, account: AccountId) -> Option<AccountView> {
        self.ledger.find(account).map(|index| self.account_view(index))
    }

    /// Returns all accounts in the order of opening.
    pub fn accounts(&self) -> impl Iterator<Item = AccountView> + '_ {
        self.account_indices().map(|index| self.account_view(index))
    }

    /// Returns an account's balance of an asset; nothing for an account that has none.
    #[must_use]
    pub fn balance(&self, account: AccountId, asset: AssetId) -> Balance {
        let index = self.ledger.find(account);
        index.map_or_else(Balance::default, |index| self.ledger.balance(index, asset))
    }

    /// Returns an account's balances, of the assets that it ever had, in the order of asset ids.
    pub fn balances(&self, account: AccountId) -> impl Iterator<Item = (AssetId, Balance)> + '_ {
        self.ledger.find(account).into_iter().flat_map(|index| self.ledger.balances(index))
    }

    /// Returns an open order.
    #[must_use]
    pub fn order(&self, order: CommandId) -> Option<OrderView<'_>> {
        let (market, slot) = self.find_order(order)?;
        Some(self.view(market, market.orders.get(slot)))
    }

    /// Finds an order by its owner's id for it: open, or closed within the window.
    #[must_use]
    pub fn order_by_client_id(&self, account: AccountId, id: &ClientOrderId) -> Option<CommandId> {
        self.client_ids.get(account, id).map(|entry| entry.order)
    }

    /// Returns the body hash of the command that uses a client order id.
    #[must_use]
    pub fn client_order_body_hash(&self, account: AccountId, id: &ClientOrderId) -> Option<u64> {
        self.client_ids.get(account, id).map(|entry| entry.body_hash)
    }

    /// Returns an account's open orders, oldest first within each market.
    pub fn open_orders(&self, account: AccountId) -> impl Iterator<Item = OrderView<'_>> {
        let index = self.ledger.find(account);
        index.into_iter().flat_map(move |index| {
            self.own_orders(index, None).map(|(market, slot)| {
                let market = self.find_market(market).expect("own orders name markets");
                self.view(market, market.orders.get(slot))
            })
        })
    }

    /// Returns a withdrawal that is not closed.
    #[must_use]
    pub fn withdrawal(&self, withdrawal: CommandId) -> Option<WithdrawalView> {
        let found = self.withdrawals.get(&withdrawal)?;
        Some(self.withdrawal_view(withdrawal, found))
    }

    /// Returns all withdrawals that are not closed, by id.
    pub fn withdrawals(&self) -> impl Iterator<Item = WithdrawalView> + '_ {
        self.withdrawals.iter().map(|(id, found)| self.withdrawal_view(*id, found))
    }

    /// Returns what is remembered of a command.
    #[must_use]
    #[inline]
    pub fn known(&self, command: CommandId) -> Option<KnownCommand> {
        let known = self.known.get(command)?;
        Some(KnownCommand { body_hash: known.body_hash, outcome: known.outcome })
    }

    /// Returns the journal time of the oldest row whose commands are remembered; those of every older one are forgotten.
    #[must_use]
    pub fn remembered_since(&self) -> Time {
        Time::from_micros(self.time.micros().saturating_sub(self.limits.dedup_window_micros))
    }

    /// Returns how many commands are remembered, and the bytes that takes.
    #[must_use]
    pub fn dedup_window(&self) -> (usize, usize) {
        (self.known.len(), self.known.bytes())
    }

    #[inline]
    pub(crate) fn find_market(&self, market: MarketId) -> Option<&Market> {
        self.markets.get(usize::from(market.get()))
    }

    /// A market that an applied event names.
    #[inline]
    pub(crate) fn market_of(&self, market: MarketId) -> &Market {
        self.find_market(market).expect("an event names a market that is defined")
    }

    #[inline]
    pub(crate) fn market_mut(&mut self, market: MarketId) -> &mut Market {
        let at = usize::from(market.get());
        self.markets.get_mut(at).expect("an event names a market that is defined")
    }

    #[inline]
    pub(crate) fn find_order(&self, order: CommandId) -> Option<(&Market, u32)> {
        let same = |market, slot| self.id_of(market, slot) == order;
        let (market, slot) = self.order_ids.get(self.salt.hash(order), same)?;
        Some((self.market_of(market), slot))
    }

    #[inline]
    pub(crate) fn id_of(&self, market: MarketId, slot: u32) -> CommandId {
        id_of(&self.markets, market, slot)
    }

    /// Finds an open order that is about to be removed; from here on it is not found any more.
    #[inline]
    pub(crate) fn take_order_id(&mut self, id: CommandId) -> Option<(MarketId, u32)> {
        let Self { order_ids, markets, salt, .. } = self;
        order_ids.remove(salt.hash(id), |market, slot| id_of(markets, market, slot) == id)
    }

    pub(crate) fn view<'a>(&self, market: &Market, order: &'a Order) -> OrderView<'a> {
        order.view(market.id, self.ledger.id(order.account), order.status())
    }

    fn withdrawal_view(&self, id: CommandId, withdrawal: &Withdrawal) -> WithdrawalView {
        WithdrawalView {
            id,
            account: self.ledger.id(withdrawal.account),
            asset: withdrawal.asset,
            amount: withdrawal.amount,
            state: withdrawal.state,
            account_sequence: 0,
        }
    }
}

#[inline]
fn id_of(markets: &[Market], market: MarketId, slot: u32) -> CommandId {
    let market = markets.get(usize::from(market.get()));
    market.expect("an open order is in a market that is defined").orders.get(slot).id
}
