//! What a command has done: one event per command. Followers apply events and never decide again.

use units::{AccountId, Amount, CommandId, MarketId, OrderId, PriceTicks, QuantityLots, TradeId};

use crate::command::CancelReason;
use crate::reject::Reject;

/// The outcome of one command. The command beside it in the journal gives the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Refused; nothing has changed but that the command is known, and counts for its account's order rate.
    Rejected(Reject),
    /// Done as asked: for every action whose effect the command itself says in full (configuration, accounts,
    /// deposits, transfers, the steps of a withdrawal).
    Done,
    /// An order was accepted.
    OrderPlaced(PlacedOrder),
    /// An order was cancelled or has expired.
    OrderCancelled {
        /// Its market.
        market: MarketId,
        /// The order.
        order: CommandId,
        /// Why.
        reason: CancelReason,
    },
    /// A cancel came before its order and is remembered.
    CancelRemembered,
    /// A cancel-all was begun: these orders, in this order, are cancelled; more may follow in
    /// internal commands.
    OrdersCancelled {
        /// The orders.
        orders: Vec<(MarketId, CommandId)>,
        /// Whether some are left for internal commands.
        more: bool,
    },
    /// An order was changed, keeping its place in the queue.
    OrderReduced {
        /// Its market.
        market: MarketId,
        /// The order.
        order: CommandId,
        /// Its new total quantity.
        quantity: QuantityLots,
    },
    /// An order was changed and went to the back of the queue, perhaps trading on the way. (A waiting stop whose limit
    /// price changed, or whose quantity rose, has no steps and the ending `Waits`.)
    OrderReplaced {
        /// Its market.
        market: MarketId,
        /// The order.
        order: CommandId,
        /// Its new total quantity.
        quantity: QuantityLots,
        /// What it did with its new price.
        placed: PlacedOrder,
    },
    /// A stop was triggered.
    StopTriggered {
        /// Its market.
        market: MarketId,
        /// The order.
        order: CommandId,
        /// What it did.
        placed: PlacedOrder,
    },
}

/// How an order went into the market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedOrder {
    /// The order's integer id in its market.
    pub order_id: OrderId,
    /// The limit that it went to market with: its price, or the band's edge for a market order.
    /// `None` where a market order had no band.
    pub limit: Option<PriceTicks>,
    /// What was held in all before the first step, in ledger units of what it pays with.
    pub hold: Amount,
    /// What it did, in the order in which it happened.
    pub steps: Vec<Step>,
    /// How it stands after the last step.
    pub ending: Ending,
}

/// One step of an order's way through the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It traded with the order at the head of the best level.
    Fill(Fill),
    /// Self-trade prevention cancelled the order at the head of the best level.
    MakerCancelled {
        /// That order's integer id in its market.
        maker: OrderId,
        /// Its remaining quantity, hidden part included.
        remaining: QuantityLots,
    },
}

/// One trade, as the taker's step. The price is the maker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The trade's id in its market.
    pub trade_id: TradeId,
    /// The resting order's integer id in its market.
    pub maker: OrderId,
    /// The resting order's owner.
    pub maker_account: AccountId,
    /// The resting order's price.
    pub price: PriceTicks,
    /// How much was traded.
    pub quantity: QuantityLots,
    /// The maker's fee, in ledger units of what the maker receives.
    pub maker_fee: Amount,
    /// The taker's fee, in ledger units of what the taker receives.
    pub taker_fee: Amount,
}

/// How an order stands after it has gone through the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Wholly filled.
    Filled,
    /// The rest stands in the book.
    Rests,
    /// A stop that waits for its trigger.
    Waits,
    /// The rest is cancelled.
    Cancelled(CancelReason),
}
