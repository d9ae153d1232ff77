//! The state of the whole exchange, and the questions it answers.

use book::Side;
use units::{
    AccountId, AssetId, Balance, CommandId, MarketId, PriceTicks, QuantityLots, Sequence,
    SignedAmount, Time,
};

use crate::command::ClientOrderId;
use crate::config::{AssetConfig, Limits, MarketConfig, MarketState, Settings};
use crate::observe::{OrderView, WithdrawalView};
use crate::snapshot::Record;

/// Where in the journal a command stands: its row, its place in the row, and the row's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The row.
    pub sequence: Sequence,
    /// The row's journal time.
    pub time: Time,
}

/// What an account may not do, or may do beyond others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccountFlags {
    /// Takes no new orders, transfers or withdrawals; cancels are taken.
    pub locked: bool,
    /// Takes no withdrawals.
    pub withdrawals_frozen: bool,
    /// Has the market makers' limits.
    pub market_maker: bool,
    /// Closed for ever.
    pub closed: bool,
}

/// A market as it stands.
#[derive(Clone, Copy, Debug)]
pub struct MarketView<'a> {
    /// Its id.
    pub id: MarketId,
    /// Its rules.
    pub config: &'a MarketConfig,
    /// Its state.
    pub state: MarketState,
    /// The last trade's price.
    pub last_price: Option<PriceTicks>,
    /// The reference of the price band: the volume-weighted price of the last five minutes' trades, else the last
    /// trade's, else the configured one.
    pub reference: Option<PriceTicks>,
    /// The highest bid.
    pub best_bid: Option<PriceTicks>,
    /// The lowest ask.
    pub best_ask: Option<PriceTicks>,
    /// The last book update id given.
    pub update_id: u64,
    /// Orders in the book, waiting stops included.
    pub orders: usize,
}

/// One price of the visible book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthLevel {
    /// The price.
    pub price: PriceTicks,
    /// The visible quantity.
    pub quantity: QuantityLots,
    /// How many orders.
    pub orders: u32,
}

/// An account as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its flags.
    pub flags: AccountFlags,
    /// Its counter: one more with every order change, trade, balance change and withdrawal change of its own.
    pub account_sequence: u64,
}

/// A command that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownCommand {
    /// The hash of its body.
    pub body_hash: u64,
    /// The journal row of its outcome.
    pub outcome: Sequence,
}

/// The state of the whole exchange.
#[derive(Debug, Default)]
pub struct State {}

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
    /// When `sequence` does not follow the last one, or `time` is before it.
    pub fn open_batch(&mut self, _stamp: Stamp) {
        unimplemented!()
    }

    /// Returns the last row that was opened.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        unimplemented!()
    }

    /// Returns the journal time of the last row that was opened.
    #[must_use]
    pub fn time(&self) -> Time {
        unimplemented!()
    }

    /// Returns what the journal was born with; `None` before genesis.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        unimplemented!()
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        unimplemented!()
    }

    /// Returns the assets; an asset's id is its position.
    #[must_use]
    pub fn assets(&self) -> &[AssetConfig] {
        unimplemented!()
    }

    /// Finds an asset by its symbol.
    #[must_use]
    pub fn asset_by_symbol(&self, _symbol: &str) -> Option<AssetId> {
        unimplemented!()
    }

    /// Returns the outside world's balance of an asset, zero or negative.
    #[must_use]
    pub fn outside(&self, _asset: AssetId) -> SignedAmount {
        unimplemented!()
    }

    /// Returns the markets in the order of their ids.
    pub fn markets(&self) -> impl Iterator<Item = MarketView<'_>> {
        core::iter::empty()
    }

    /// Returns a market.
    #[must_use]
    pub fn market(&self, _market: MarketId) -> Option<MarketView<'_>> {
        unimplemented!()
    }

    /// Finds a market by its symbol (`BTC/USD`).
    #[must_use]
    pub fn market_by_symbol(&self, _symbol: &str) -> Option<MarketId> {
        unimplemented!()
    }

    /// Returns the visible book's levels of one side, best first.
    pub fn depth(&self, _market: MarketId, _side: Side) -> impl Iterator<Item = DepthLevel> {
        core::iter::empty()
    }

    /// Returns the open orders that rest in one side of a book, in price-time priority (waiting stops apart).
    pub fn resting(&self, _market: MarketId, _side: Side) -> impl Iterator<Item = OrderView<'_>> {
        core::iter::empty()
    }

    /// Returns an account.
    #[must_use]
    pub fn account(&self, _account: AccountId) -> Option<AccountView> {
        unimplemented!()
    }

    /// Returns all accounts in the order of opening.
    pub fn accounts(&self) -> impl Iterator<Item = AccountView> {
        core::iter::empty()
    }

    /// Returns an account's balance of an asset; nothing for an account that has none.
    #[must_use]
    pub fn balance(&self, _account: AccountId, _asset: AssetId) -> Balance {
        unimplemented!()
    }

    /// Returns an account's balances, of the assets that it ever had, in the order of asset ids.
    pub fn balances(&self, _account: AccountId) -> impl Iterator<Item = (AssetId, Balance)> {
        core::iter::empty()
    }

    /// Returns an open order.
    #[must_use]
    pub fn order(&self, _order: CommandId) -> Option<OrderView<'_>> {
        unimplemented!()
    }

    /// Finds an order by its owner's id for it: open, or closed within the window.
    #[must_use]
    pub fn order_by_client_id(
        &self,
        _account: AccountId,
        _id: &ClientOrderId,
    ) -> Option<CommandId> {
        unimplemented!()
    }

    /// Returns an account's open orders, oldest first within each market.
    pub fn open_orders(&self, _account: AccountId) -> impl Iterator<Item = OrderView<'_>> {
        core::iter::empty()
    }

    /// Returns a withdrawal that is not closed.
    #[must_use]
    pub fn withdrawal(&self, _withdrawal: CommandId) -> Option<WithdrawalView> {
        unimplemented!()
    }

    /// Returns all withdrawals that are not closed, by id.
    pub fn withdrawals(&self) -> impl Iterator<Item = WithdrawalView> {
        core::iter::empty()
    }

    /// Returns what is remembered of a command.
    #[must_use]
    pub fn known(&self, _command: CommandId) -> Option<KnownCommand> {
        unimplemented!()
    }

    /// Returns how many commands are remembered, and the bytes that takes.
    #[must_use]
    pub fn dedup_window(&self) -> (usize, usize) {
        unimplemented!()
    }

    /// Returns the canonical stream of records that [`crate::StateBuilder`] takes.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        core::iter::empty()
    }

    /// Checks every invariant over the whole state: assets sum to zero, held is the sum of the open holds, the
    /// books are not crossed, all cross-references agree.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold, in words, with the account, asset or order.
    pub fn check(&self) -> Result<(), String> {
        unimplemented!()
    }
}
