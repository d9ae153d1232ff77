//! Parts of the state as they are shown.

use units::{AccountId, MarketId, PriceTicks, QuantityLots, Sequence, Time};

use super::market::Market;
use book::Side;

use crate::config::{MarketConfig, MarketState};

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

impl Market {
    pub(crate) fn view(&self) -> MarketView<'_> {
        MarketView {
            id: self.id,
            config: &self.config,
            state: self.state,
            last_price: self.last_price,
            reference: self.reference,
            best_bid: self.book.best(Side::Buy),
            best_ask: self.book.best(Side::Sell),
            update_id: self.update_id,
            orders: self.orders.len(),
        }
    }
}
