//! What can be asked of the exchange. Commands are imperative; their outcome is an [`crate::Event`].

use book::Side;
use units::{
    AccountId, Amount, AssetId, CommandId, Hash32, MarketId, PriceTicks, QuantityLots,
    ReferenceHash, Sequence, Time,
};

use crate::config::{AssetConfig, Limits, MarketConfig, MarketState, Settings};
use crate::state::AccountFlags;

/// One command as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command's id; also the id of the order, withdrawal or transfer that it makes.
    pub id: CommandId,
    /// A hash of what was asked, so that one id with two bodies is found out.
    pub body_hash: u64,
    /// Journal time after which it must not be carried out any more.
    pub expires_at: Time,
    /// The W3C trace id of the request that brought it; 0: none.
    pub trace_id: u128,
    /// Where it comes from.
    pub origin: Origin,
    /// What is asked.
    pub action: Action,
}

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From outside, through the queue. Checked for repeats and remembered.
    Client,
    /// Made by the sequencer from the state itself ([`crate::next_internal`]): has no id, is never a repeat.
    Internal,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
// A whole word in front: the kind would otherwise be worked out of the 128 bits that tell whether an order has a quote
// amount, several times for each command.
#[repr(u64)]
pub enum Action {
    /// Opens the journal. Only ever in row 1.
    Genesis(Settings),
    /// Nothing but time.
    Tick,
    /// Sets the exchange's limits.
    SetLimits(Limits),
    /// Adds an asset, or changes what may change of a known one (its transfer precision).
    DefineAsset(AssetConfig),
    /// Adds a market, or changes the rules of a known one.
    DefineMarket(MarketConfig),
    /// Halts, resumes or restricts a market.
    SetMarketState {
        /// The market.
        market: MarketId,
        /// Its new state.
        state: MarketState,
    },
    /// Opens an account. Idempotent: an account that is open already stays as it is.
    OpenAccount {
        /// The new account's id, chosen by the shell.
        account: AccountId,
    },
    /// Sets an account's flags: locks, market-maker limits, closing.
    SetAccountFlags {
        /// The account.
        account: AccountId,
        /// All its flags.
        flags: AccountFlags,
    },
    /// Credits an account from the outside world.
    Deposit {
        /// The account.
        account: AccountId,
        /// The asset.
        asset: AssetId,
        /// How much, in ledger units.
        amount: Amount,
        /// The external reference, unique for ever.
        reference: ReferenceHash,
        /// Whether it is play money, which only a sandbox journal takes.
        sandbox: bool,
    },
    /// Moves available money from one account to another.
    Transfer {
        /// The payer.
        from: AccountId,
        /// The payee.
        to: AccountId,
        /// The asset.
        asset: AssetId,
        /// How much, in ledger units.
        amount: Amount,
    },
    /// Asks for a withdrawal and holds its amount. Its id is the command's.
    RequestWithdrawal {
        /// The account.
        account: AccountId,
        /// The asset.
        asset: AssetId,
        /// How much, in ledger units.
        amount: Amount,
        /// Where to, hashed; the destination itself stands in ordinary rows.
        destination: ReferenceHash,
    },
    /// Approves a requested withdrawal.
    ApproveWithdrawal {
        /// The withdrawal.
        withdrawal: CommandId,
    },
    /// Records that the payer is about to send an approved withdrawal.
    SendWithdrawal {
        /// The withdrawal.
        withdrawal: CommandId,
    },
    /// Records that the money has left: the hold is spent.
    SettleWithdrawal {
        /// The withdrawal.
        withdrawal: CommandId,
    },
    /// Records that it could not be sent: the hold is released.
    FailWithdrawal {
        /// The withdrawal.
        withdrawal: CommandId,
    },
    /// Takes a withdrawal back, before it is being sent: the hold is released.
    CancelWithdrawal {
        /// Whose it must be.
        account: AccountId,
        /// The withdrawal.
        withdrawal: CommandId,
    },
    /// Places an order. Its id is the command's.
    PlaceOrder(NewOrder),
    /// Cancels an order; one that is not known yet is remembered until the cancel expires.
    CancelOrder {
        /// Whose it must be.
        account: AccountId,
        /// Which.
        order: OrderRef,
    },
    /// Cancels all open orders of an account, of one market or of all. What exceeds one command's limit is
    /// cancelled by internal commands that follow.
    CancelAll {
        /// Whose.
        account: AccountId,
        /// Where; `None`: everywhere.
        market: Option<MarketId>,
    },
    /// Changes an open order's price or total quantity.
    AmendOrder(AmendOrder),
    /// Internal: ends one order whose time is over.
    ExpireOrder {
        /// The market.
        market: MarketId,
        /// The order.
        order: CommandId,
    },
    /// Internal: one order of a cancel-all that is still going on, or of an account that was closed.
    CancelNext {
        /// The market.
        market: MarketId,
        /// The order.
        order: CommandId,
        /// Why.
        reason: CancelReason,
    },
    /// Internal: the market's price has reached a stop.
    TriggerStop {
        /// The market.
        market: MarketId,
        /// The order.
        order: CommandId,
    },
    /// Internal: the reference has moved too far, too fast.
    HaltMarket {
        /// The market.
        market: MarketId,
    },
    /// Internal: the database was restored from a backup, so what the journal said after this row is lost. It is another
    /// journal from here on: commands that were meant for the lost one are not for this.
    Restore {
        /// The random number of the new journal.
        incarnation: u64,
        /// The last row of the lost journal, where it is known.
        lost: Option<Sequence>,
    },
    /// Notes how far the audit log's hash chain reaches, so that the journal vouches for what is behind it. The log itself
    /// is no state: whoever rewrites it has to rewrite the journal from this row on, too.
    NoteAuditHead(AuditHead),
}

/// How far the audit log's hash chain reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Rows of the log that are linked: the position of the newest link.
    pub rows: u64,
    /// That link's hash, which covers all of them.
    pub head: Hash32,
}

/// Names an order of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OrderRef {
    /// By its id.
    Id(CommandId),
    /// By the id that its owner gave it.
    Client(ClientOrderId),
}

/// A client's own order id: 1 to 36 of `[A-Za-z0-9._:/-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientOrderId(Box<str>);

impl ClientOrderId {
    /// The greatest length, in bytes.
    pub const LENGTH_MAX: usize = 36;

    /// Wraps a text; `None` where it is empty, too long, or has another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        (fits && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The owner.
    pub account: AccountId,
    /// The market.
    pub market: MarketId,
    /// Buy or sell.
    pub side: Side,
    /// Limit, market, or a stop.
    pub order_type: OrderType,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// Refused if it would trade at once.
    pub post_only: bool,
    /// The limit price; given for `Limit` and `StopLimit`, absent for the others.
    pub price: Option<PriceTicks>,
    /// The quantity; may be absent (zero) only for a market order with a quote amount.
    pub quantity: QuantityLots,
    /// The most that a market order may spend (buy) or earn (sell), in ledger units of the quote asset, fees
    /// aside. With a quantity too, whichever ends first.
    pub quote_amount: Option<Amount>,
    /// The price that triggers a stop; given for the stops only.
    pub trigger: Option<PriceTicks>,
    /// An iceberg's visible slice; `None`: all is visible.
    pub display: Option<QuantityLots>,
    /// What happens when it meets an order of its own account.
    pub self_trade_prevention: SelfTradePrevention,
    /// The owner's own id for it.
    pub client_order_id: Option<ClientOrderId>,
}

/// The kinds of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderType {
    /// Trades at its price or better.
    Limit,
    /// Trades at once at what the book offers, within the band.
    Market,
    /// Becomes a limit order when the last trade reaches its trigger.
    StopLimit,
    /// Becomes a market order (immediate or cancel at the band) when the last trade reaches its trigger.
    StopMarket,
}

/// How long an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeInForce {
    /// Good till cancelled.
    Gtc,
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill: wholly at once, or not at all.
    Fok,
    /// Good till a moment of journal time.
    Gtd(Time),
}

/// What happens when an order meets another of its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelfTradePrevention {
    /// What remains of the incoming order is cancelled.
    #[default]
    CancelNewest,
    /// The resting order is cancelled, and the incoming one goes on.
    CancelOldest,
    /// Both are cancelled.
    CancelBoth,
    /// They trade. Only for replays of data whose owners are not known; never taken from a client.
    Allow,
}

/// A change of an open order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmendOrder {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub order: OrderRef,
    /// The new limit price; `None`: as it is.
    pub price: Option<PriceTicks>,
    /// The new total quantity, filled part included; `None`: as it is.
    pub quantity: Option<QuantityLots>,
}

/// Why an order ended without being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// Its owner cancelled it.
    Requested,
    /// A cancel for it had come before it.
    CancelledBeforeArrival,
    /// The rest of an immediate-or-cancel order.
    ImmediateOrCancel,
    /// A fill-or-kill order that could not be filled wholly.
    FillOrKill,
    /// The rest of a market order when the book was used up.
    NoLiquidity,
    /// The rest of a market order that reached the price band.
    Band,
    /// The rest of a market order whose quote amount is used up.
    QuoteAmountSpent,
    /// Self-trade prevention.
    SelfTrade,
    /// It would have caused more steps than one command may.
    TooManySteps,
    /// Its account was closed or locked.
    Account,
    /// Its time was over.
    Expired,
    /// A triggered stop that could not be placed (post-only that would cross, market not open).
    TriggerRefused,
}
