//! The words that stand in the projections' rows: they are the API's words.

use engine::{
    CancelReason, MarketState, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind,
};
use units::Time;

pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}

pub(super) fn order_type(order_type: OrderType) -> &'static str {
    match order_type {
        OrderType::Limit => "limit",
        OrderType::Market => "market",
        OrderType::StopLimit => "stop_limit",
        OrderType::StopMarket => "stop_market",
    }
}

/// Returns the word, and the end of an order that has one.
pub(super) fn time_in_force(time_in_force: TimeInForce) -> (&'static str, Option<Time>) {
    match time_in_force {
        TimeInForce::Gtc => ("gtc", None),
        TimeInForce::Ioc => ("ioc", None),
        TimeInForce::Fok => ("fok", None),
        TimeInForce::Gtd(till) => ("gtd", Some(till)),
    }
}

pub(super) fn self_trade_prevention(prevention: SelfTradePrevention) -> &'static str {
    match prevention {
        SelfTradePrevention::CancelNewest => "cancel_newest",
        SelfTradePrevention::CancelOldest => "cancel_oldest",
        SelfTradePrevention::CancelBoth => "cancel_both",
        SelfTradePrevention::Allow => "allow",
    }
}

pub(super) fn cancel_reason(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Requested => "requested",
        CancelReason::CancelledBeforeArrival => "cancelled_before_arrival",
        CancelReason::ImmediateOrCancel => "immediate_or_cancel",
        CancelReason::FillOrKill => "fill_or_kill",
        CancelReason::NoLiquidity => "no_liquidity",
        CancelReason::Band => "band",
        CancelReason::QuoteAmountSpent => "quote_amount_spent",
        CancelReason::SelfTrade => "self_trade",
        CancelReason::TooManySteps => "too_many_steps",
        CancelReason::Account => "account",
        CancelReason::Expired => "expired",
        CancelReason::TriggerRefused => "trigger_refused",
    }
}

pub(super) fn market_state(state: MarketState) -> &'static str {
    match state {
        MarketState::Open => "open",
        MarketState::CancelOnly => "cancel_only",
        MarketState::PostOnly => "post_only",
        MarketState::Halted => "halted",
    }
}

pub(super) fn transfer_kind(kind: TransferKind) -> &'static str {
    match kind {
        TransferKind::Deposit => "deposit",
        TransferKind::Withdrawal => "withdrawal",
        TransferKind::Transfer => "transfer",
        TransferKind::Trade => "trade",
    }
}
