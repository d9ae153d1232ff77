//! A state as a stream of records, and back. The journal crate gives the records their bytes.
//!
//! The stream is canonical: two equal states give the same records in the same order, so the hash of their bytes
//! is the state's hash.

mod build;

use book::Side;
use units::{
    AccountId, Amount, AssetId, Balance, CommandId, MarketId, OrderId, PriceTicks, QuantityLots,
    ReferenceHash, Sequence, SignedAmount, Time, TradeId,
};

use crate::command::{AuditHead, ClientOrderId, OrderType, SelfTradePrevention, TimeInForce};
use crate::config::{AssetConfig, Limits, MarketConfig, MarketState, Settings};
use crate::observe::WithdrawalState;
use crate::state::AccountFlags;

pub use build::StateBuilder;
pub(crate) use build::seed;

/// One record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// First: what the state as a whole is.
    Head {
        /// The last journal row in it.
        sequence: Sequence,
        /// Journal time.
        time: Time,
        /// The settings it was born with; `None` before genesis.
        settings: Option<Settings>,
        /// The limits.
        limits: Limits,
        /// The counter of arrivals.
        arrivals: u64,
    },
    /// An asset, in the order of their ids.
    Asset {
        /// Its rules.
        config: AssetConfig,
        /// The outside world's balance of it: zero or negative.
        outside: SignedAmount,
    },
    /// A market, in the order of their ids.
    Market {
        /// Its rules.
        config: MarketConfig,
        /// Its state.
        state: MarketState,
        /// The last order id given.
        last_order_id: OrderId,
        /// The last trade id given.
        last_trade_id: TradeId,
        /// The last book update id given.
        update_id: u64,
        /// The last trade's price.
        last_price: Option<PriceTicks>,
        /// Whether a halt by the reference's move is due.
        halt_due: bool,
    },
    /// One second of a market's trades, for its reference price; oldest first.
    TradeSecond {
        /// The market.
        market: MarketId,
        /// The second of journal time.
        second: u64,
        /// Σ price × quantity, in tick-lots.
        tick_lots: u128,
        /// Σ quantity, in lots.
        lots: u128,
        /// The reference before the second's first trade.
        reference_before: Option<PriceTicks>,
    },
    /// An account, in the order of opening.
    Account {
        /// Its id.
        id: AccountId,
        /// Its flags.
        flags: AccountFlags,
        /// Its counter.
        account_sequence: u64,
        /// The second of journal time of its last order command.
        rate_second: u64,
        /// Its order commands in that second.
        rate_count: u32,
    },
    /// A balance of the account above, in the order of asset ids.
    Balance {
        /// Of what.
        asset: AssetId,
        /// How much.
        balance: Balance,
    },
    /// An open order: of each market first the bids and the asks in price-time priority, then the waiting
    /// stops in the order of arrival.
    Order(OrderRecord),
    /// A client order id that is closed but still in the window, oldest first.
    ClosedClientId {
        /// Whose.
        account: AccountId,
        /// The client's id.
        client_order_id: ClientOrderId,
        /// The order.
        order: CommandId,
        /// The hash of the placing command's body.
        body_hash: u64,
        /// When it was closed.
        closed_at: Time,
    },
    /// A command in the window, oldest first.
    Known {
        /// Its id.
        id: CommandId,
        /// Its body's hash.
        body_hash: u64,
        /// The row of its outcome.
        outcome: Sequence,
        /// Journal time of its outcome.
        time: Time,
    },
    /// A cancel that came before its order, by expiry.
    RememberedCancel {
        /// The order.
        order: CommandId,
        /// Whose it must be.
        account: AccountId,
        /// Until when.
        expires_at: Time,
    },
    /// A cancel-all that goes on, oldest first.
    Sweep {
        /// Whose orders.
        account: AccountId,
        /// Where; `None`: everywhere.
        market: Option<MarketId>,
        /// Only orders that arrived before this one.
        before_arrival: u64,
    },
    /// A withdrawal that is not closed, in the order of ids.
    Withdrawal {
        /// Its id.
        id: CommandId,
        /// Whose.
        account: AccountId,
        /// Of what.
        asset: AssetId,
        /// How much.
        amount: Amount,
        /// Where it stands.
        state: WithdrawalState,
    },
    /// The reference of a deposit that was credited, in the order of references.
    DepositReference(ReferenceHash),
    /// The audit log's head that was noted last, where one was.
    AuditHead(AuditHead),
    /// Last: how many records came before, so that a cut stream is found out.
    End {
        /// The number of records before this one.
        records: u64,
    },
}

/// An open order in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// Its id.
    pub id: CommandId,
    /// Its integer id in its market.
    pub order_id: OrderId,
    /// Its market.
    pub market: MarketId,
    /// Its owner.
    pub account: AccountId,
    /// Buy or sell.
    pub side: Side,
    /// As it was placed.
    pub order_type: OrderType,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// Whether it may only make.
    pub post_only: bool,
    /// What happens when it meets its own kind.
    pub self_trade_prevention: SelfTradePrevention,
    /// The limit price; absent for a waiting stop-market order.
    pub price: Option<PriceTicks>,
    /// Its total quantity.
    pub quantity: QuantityLots,
    /// The filled part.
    pub filled: QuantityLots,
    /// What the filled part cost.
    pub filled_notional: Amount,
    /// What is visible of the rest now (all of it unless an iceberg).
    pub visible: QuantityLots,
    /// An iceberg's slice.
    pub display: Option<QuantityLots>,
    /// A stop's trigger.
    pub trigger: Option<PriceTicks>,
    /// Whether it still waits for the trigger.
    pub waits: bool,
    /// What is held for it.
    pub hold: Amount,
    /// The owner's id for it.
    pub client_order_id: Option<ClientOrderId>,
    /// The hash of the placing command's body.
    pub body_hash: u64,
    /// When it was accepted.
    pub created_at: Time,
    /// The row that accepted it.
    pub created_in: Sequence,
    /// Its place in the order of all arrivals.
    pub arrival: u64,
}

/// Why a stream of records is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSnapshot(pub &'static str);

impl core::fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for BadSnapshot {}
