//! Why a command is refused.

/// Why a command was refused, grouped by what it is about; `decide` has the order of the checks.
///
/// One closed list with stable codes: the code is part of the API, of the journal's format and of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
// A whole word: a `Result` that carries it is then copied in words, which every command is spared time by.
#[repr(u64)]
pub enum Reject {
    /// It reached the sequencer after its expiry.
    Expired,
    /// A defect of ours: deciding it failed.
    Internal,
    /// The journal has not been opened, or is opened twice.
    Genesis,
    /// Not allowed from where it came.
    Forbidden,
    /// No such asset.
    AssetUnknown,
    /// No such market.
    MarketUnknown,
    /// The asset's definition is not possible.
    AssetInvalid,
    /// The market's definition is not possible: the tick × lot is not a whole number of quote units, or base
    /// and quote are the same, or resting orders would be off the new grid.
    MarketInvalid,
    /// No more assets or markets can be defined.
    TooMany,
    /// No such account.
    AccountUnknown,
    /// The account is closed.
    AccountClosed,
    /// The account is locked.
    AccountLocked,
    /// The account id is one of the exchange's own.
    AccountReserved,
    /// The account still has balances or open orders.
    AccountNotEmpty,
    /// Zero, or more than one command may move.
    AmountInvalid,
    /// Finer than the asset's transfer precision.
    AmountPrecision,
    /// Play money in a journal that is not a sandbox.
    NotSandbox,
    /// A deposit with this reference is known.
    DepositKnown,
    /// From an account to itself.
    SelfTransfer,
    /// No such withdrawal of this account.
    WithdrawalUnknown,
    /// The withdrawal is not in a state that allows it.
    WithdrawalState,
    /// Withdrawals are frozen for this account.
    WithdrawalFrozen,
    /// More than is available.
    InsufficientFunds,
    /// The order's fields do not fit together (a limit order without a price, a market order that is
    /// post-only, …).
    OrderInvalid,
    /// Zero, or more than the market allows.
    QuantityInvalid,
    /// Below the market's least notional.
    NotionalTooSmall,
    /// More than one command may move.
    NotionalTooLarge,
    /// Outside the price band.
    PriceBand,
    /// The market takes no orders now.
    MarketClosed,
    /// The market takes post-only orders now.
    MarketPostOnly,
    /// Post-only, and it would trade at once.
    PostOnlyWouldCross,
    /// A market order into an empty book.
    NoLiquidity,
    /// An iceberg's slice is zero, more than the quantity, or so small that there would be more than a hundred.
    DisplayInvalid,
    /// A good-till-date order whose time is over.
    GtdOver,
    /// Its trigger is reached already.
    TriggerReached,
    /// Too many open orders in this market.
    TooManyOrders,
    /// Too many orders this second.
    RateLimited,
    /// The client order id is in use, or was within the window.
    ClientOrderIdUsed,
    /// No such order of this account.
    OrderUnknown,
    /// The order is closed.
    OrderClosed,
    /// The new quantity is at or below what is filled.
    AmendBelowFilled,
    /// The change changes nothing, or is not one that this order can have.
    AmendInvalid,
    /// The audit log's head does not reach beyond the one that was noted.
    AuditHeadStale,
}

impl Reject {
    /// Every reason, in the order of their codes.
    pub const ALL: &'static [Self] = &[
        Self::Expired,
        Self::Internal,
        Self::Genesis,
        Self::Forbidden,
        Self::AssetUnknown,
        Self::MarketUnknown,
        Self::AssetInvalid,
        Self::MarketInvalid,
        Self::TooMany,
        Self::AccountUnknown,
        Self::AccountClosed,
        Self::AccountLocked,
        Self::AccountReserved,
        Self::AccountNotEmpty,
        Self::AmountInvalid,
        Self::AmountPrecision,
        Self::NotSandbox,
        Self::DepositKnown,
        Self::SelfTransfer,
        Self::WithdrawalUnknown,
        Self::WithdrawalState,
        Self::WithdrawalFrozen,
        Self::InsufficientFunds,
        Self::OrderInvalid,
        Self::QuantityInvalid,
        Self::NotionalTooSmall,
        Self::NotionalTooLarge,
        Self::PriceBand,
        Self::MarketClosed,
        Self::MarketPostOnly,
        Self::PostOnlyWouldCross,
        Self::NoLiquidity,
        Self::DisplayInvalid,
        Self::GtdOver,
        Self::TriggerReached,
        Self::TooManyOrders,
        Self::RateLimited,
        Self::ClientOrderIdUsed,
        Self::OrderUnknown,
        Self::OrderClosed,
        Self::AmendBelowFilled,
        Self::AmendInvalid,
        Self::AuditHeadStale,
    ];

    /// Returns the number that stands for it in the journal.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Expired => 1,
            Self::Internal => 2,
            Self::Genesis => 3,
            Self::Forbidden => 4,
            Self::AssetUnknown => 10,
            Self::MarketUnknown => 11,
            Self::AssetInvalid => 12,
            Self::MarketInvalid => 13,
            Self::TooMany => 14,
            Self::AccountUnknown => 20,
            Self::AccountClosed => 21,
            Self::AccountLocked => 22,
            Self::AccountReserved => 23,
            Self::AccountNotEmpty => 24,
            Self::AmountInvalid => 30,
            Self::AmountPrecision => 31,
            Self::NotSandbox => 32,
            Self::DepositKnown => 33,
            Self::SelfTransfer => 34,
            Self::WithdrawalUnknown => 35,
            Self::WithdrawalState => 36,
            Self::WithdrawalFrozen => 37,
            Self::InsufficientFunds => 40,
            Self::OrderInvalid => 50,
            Self::QuantityInvalid => 51,
            Self::NotionalTooSmall => 52,
            Self::NotionalTooLarge => 53,
            Self::PriceBand => 54,
            Self::MarketClosed => 55,
            Self::MarketPostOnly => 56,
            Self::PostOnlyWouldCross => 57,
            Self::NoLiquidity => 58,
            Self::DisplayInvalid => 59,
            Self::GtdOver => 60,
            Self::TriggerReached => 61,
            Self::TooManyOrders => 62,
            Self::RateLimited => 63,
            Self::ClientOrderIdUsed => 64,
            Self::OrderUnknown => 70,
            Self::OrderClosed => 71,
            Self::AmendBelowFilled => 72,
            Self::AmendInvalid => 73,
            Self::AuditHeadStale => 80,
        }
    }

    /// Returns the reason that a number stands for.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reject| reject.number() == number)
    }

    /// Returns the stable name that the API, the logs and the metrics use.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Internal => "internal",
            Self::Genesis => "genesis",
            Self::Forbidden => "forbidden",
            Self::AssetUnknown => "asset_unknown",
            Self::MarketUnknown => "market_unknown",
            Self::AssetInvalid => "asset_invalid",
            Self::MarketInvalid => "market_invalid",
            Self::TooMany => "too_many",
            Self::AccountUnknown => "account_unknown",
            Self::AccountClosed => "account_closed",
            Self::AccountLocked => "account_locked",
            Self::AccountReserved => "account_reserved",
            Self::AccountNotEmpty => "account_not_empty",
            Self::AmountInvalid => "amount_invalid",
            Self::AmountPrecision => "amount_precision",
            Self::NotSandbox => "not_sandbox",
            Self::DepositKnown => "deposit_known",
            Self::SelfTransfer => "self_transfer",
            Self::WithdrawalUnknown => "withdrawal_unknown",
            Self::WithdrawalState => "withdrawal_state",
            Self::WithdrawalFrozen => "withdrawal_frozen",
            Self::InsufficientFunds => "insufficient_funds",
            Self::OrderInvalid => "order_invalid",
            Self::QuantityInvalid => "quantity_invalid",
            Self::NotionalTooSmall => "notional_too_small",
            Self::NotionalTooLarge => "notional_too_large",
            Self::PriceBand => "price_band",
            Self::MarketClosed => "market_closed",
            Self::MarketPostOnly => "market_post_only",
            Self::PostOnlyWouldCross => "post_only_would_cross",
            Self::NoLiquidity => "no_liquidity",
            Self::DisplayInvalid => "display_invalid",
            Self::GtdOver => "gtd_over",
            Self::TriggerReached => "trigger_reached",
            Self::TooManyOrders => "too_many_orders",
            Self::RateLimited => "rate_limited",
            Self::ClientOrderIdUsed => "client_order_id_used",
            Self::OrderUnknown => "order_unknown",
            Self::OrderClosed => "order_closed",
            Self::AmendBelowFilled => "amend_below_filled",
            Self::AmendInvalid => "amend_invalid",
            Self::AuditHeadStale => "audit_head_stale",
        }
    }
}
