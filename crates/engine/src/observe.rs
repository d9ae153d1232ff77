//! What [`crate::evolve`] tells whoever follows: the rows of the projections, the market data and the private
//! streams are made from these calls alone, so that no follower works anything out a second time.

use std::borrow::Cow;

use book::Side;
use units::{
    AccountId, Amount, AssetId, Balance, CommandId, MarketId, OrderId, PriceTicks, QuantityLots,
    Sequence, SignedAmount, Time, TradeId,
};

use crate::command::{CancelReason, ClientOrderId, OrderType, SelfTradePrevention, TimeInForce};

/// Follows the effects of events, in the order in which they happen. Every method does nothing unless overridden;
/// `()` follows nothing and costs nothing.
pub trait Observer {
    /// Whether anything follows: where nothing does, nothing is made to be told.
    const FOLLOWS: bool = true;

    /// Money moved: the postings sum to zero.
    fn entry(&mut self, _entry: &LedgerEntry<'_>) {}
    /// An account's balance of one asset changed, holds included. `account_sequence` is the account's counter
    /// after the change. Not called for [`AccountId::OUTSIDE`].
    fn balance(
        &mut self,
        _account: AccountId,
        _asset: AssetId,
        _balance: Balance,
        _account_sequence: u64,
    ) {
    }
    /// An order is new, or has changed, or is closed. Called once per change, after it.
    fn order(&mut self, _order: &OrderView<'_>) {}
    /// A trade.
    fn trade(&mut self, _trade: &Trade) {}
    /// The visible quantity at one price changed.
    fn level(&mut self, _change: &LevelChange) {}
    /// A withdrawal is new or has changed.
    fn withdrawal(&mut self, _withdrawal: &WithdrawalView) {}
    /// An asset was defined or changed.
    fn asset(&mut self, _asset: AssetId) {}
    /// A market's rules or state changed.
    fn market(&mut self, _market: MarketId) {}
    /// An account was opened or its flags changed.
    fn account(&mut self, _account: AccountId) {}
}

impl Observer for () {
    const FOLLOWS: bool = false;
}

/// One balanced movement of money.
#[derive(Clone, Copy, Debug)]
pub struct LedgerEntry<'a> {
    /// Why.
    pub kind: TransferKind,
    /// The command that caused it: the taker's order, the deposit, the withdrawal.
    pub reference: CommandId,
    /// The trade that it settles.
    pub trade: Option<(MarketId, TradeId)>,
    /// Journal time.
    pub time: Time,
    /// The parts, which sum to zero for each asset.
    pub postings: &'a [Posting],
}

/// One part of a [`LedgerEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Whose balance.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// The change of its total, in ledger units.
    pub amount: SignedAmount,
}

/// Why money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferKind {
    /// From the outside world in.
    Deposit,
    /// Out to the outside world.
    Withdrawal,
    /// Between two accounts.
    Transfer,
    /// A trade, its fees included.
    Trade,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderStatus {
    /// In the book or waiting for its trigger, nothing filled yet.
    Open,
    /// In the book, partly filled.
    PartiallyFilled,
    /// Wholly filled.
    Filled,
    /// Ended before it was filled; the reason is beside it.
    Cancelled,
    /// Ended because its time was over.
    Expired,
}

impl OrderStatus {
    /// Returns the name that the API and the database use.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::PartiallyFilled => "partially_filled",
            Self::Filled => "filled",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// An order as it stands at one moment.
#[derive(Clone, Debug)]
pub struct OrderView<'a> {
    /// Its id, the placing command's.
    pub id: CommandId,
    /// Its integer id in its market.
    pub order_id: OrderId,
    /// Its owner.
    pub account: AccountId,
    /// Its market.
    pub market: MarketId,
    /// Buy or sell.
    pub side: Side,
    /// As it was placed: a triggered stop keeps its type.
    pub order_type: OrderType,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// Whether it may only make.
    pub post_only: bool,
    /// The limit price; `None` for market and stop-market orders.
    pub price: Option<PriceTicks>,
    /// The total quantity; zero for a market order that was given by quote amount alone.
    pub quantity: QuantityLots,
    /// The quote amount of a market order, in ledger units.
    pub quote_amount: Option<Amount>,
    /// The filled part.
    pub filled: QuantityLots,
    /// What the filled part cost, in ledger units of the quote asset, fees aside.
    pub filled_notional: Amount,
    /// A stop's trigger price.
    pub trigger: Option<PriceTicks>,
    /// Whether a stop has been triggered.
    pub triggered: bool,
    /// An iceberg's slice.
    pub display: Option<QuantityLots>,
    /// What happens when it meets its own kind.
    pub self_trade_prevention: SelfTradePrevention,
    /// The owner's id for it.
    pub client_order_id: Option<Cow<'a, ClientOrderId>>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it ended, for `Cancelled` and `Expired`.
    pub reason: Option<CancelReason>,
    /// Journal time of its acceptance.
    pub created_at: Time,
    /// The journal row that accepted it.
    pub created_in: Sequence,
    /// Journal time of the last change; of its acceptance where it is not known (queries of live state).
    pub updated_at: Time,
    /// The account's counter after this change; 0 in queries.
    pub account_sequence: u64,
}

impl OrderView<'_> {
    /// Returns the same view, borrowing nothing.
    #[must_use]
    pub fn to_owned_view(&self) -> OrderView<'static> {
        let client_order_id = self.client_order_id.as_deref().cloned().map(Cow::Owned);
        OrderView { client_order_id, ..*self }
    }
}

/// A trade, seen from both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// The market.
    pub market: MarketId,
    /// Its id in its market.
    pub trade_id: TradeId,
    /// The journal row.
    pub sequence: Sequence,
    /// Journal time.
    pub time: Time,
    /// The maker's price.
    pub price: PriceTicks,
    /// How much of the base asset.
    pub quantity: QuantityLots,
    /// The price × quantity, in ledger units of the quote asset.
    pub notional: Amount,
    /// Which side the taker was on.
    pub taker_side: Side,
    /// The taker's order.
    pub taker_order: CommandId,
    /// The taker's integer order id.
    pub taker_order_id: OrderId,
    /// The taker.
    pub taker_account: AccountId,
    /// The taker's fee, in ledger units of what the taker receives.
    pub taker_fee: Amount,
    /// The maker's order.
    pub maker_order: CommandId,
    /// The maker's integer order id.
    pub maker_order_id: OrderId,
    /// The maker.
    pub maker_account: AccountId,
    /// The maker's fee, in ledger units of what the maker receives.
    pub maker_fee: Amount,
    /// The asset of the buyer's fee is the base, of the seller's the quote: these two, taker's first.
    pub fee_assets: (AssetId, AssetId),
    /// The taker's account counter.
    pub taker_account_sequence: u64,
    /// The maker's account counter.
    pub maker_account_sequence: u64,
}

/// A change of the visible book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// The market.
    pub market: MarketId,
    /// Bids (`Buy`) or asks (`Sell`).
    pub side: Side,
    /// The price.
    pub price: PriceTicks,
    /// The visible quantity there now; zero: the level is gone.
    pub quantity: QuantityLots,
    /// The market's book update id: one more than the last one's.
    pub update_id: u64,
}

/// A withdrawal as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithdrawalView {
    /// Its id.
    pub id: CommandId,
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// How much, in ledger units.
    pub amount: Amount,
    /// Where it stands.
    pub state: WithdrawalState,
    /// The account's counter after this change; 0 in queries.
    pub account_sequence: u64,
}

/// The steps of a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WithdrawalState {
    /// Asked for; its amount is held.
    Requested,
    /// Approved; still held.
    Approved,
    /// Being sent; still held.
    Sending,
    /// Sent: the hold is spent.
    Settled,
    /// Not sent: the hold is released.
    Failed,
    /// Taken back: the hold is released.
    Cancelled,
}

impl WithdrawalState {
    /// Returns the name that the API and the database use.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Sending => "sending",
            Self::Settled => "settled",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
