//! The API's words for the core's kinds: one name each, the same in bodies, queries, logs and the database.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)+
        }

        // By hand: the derive does not see words that come out of a macro, and would say the variants' names.
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = ObjectBuilder::new().schema_type(Type::String);
                words
                    .description(Some(concat!($($doc),*).trim()))
                    .enum_values(Some(Self::WORDS.iter().copied()))
                    .into()
            }
        }

        impl ToSchema for $name {}

        impl $name {
            /// Every word, in the order in which they are documented.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// Returns the word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Finds what a word means; words are lower case.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// Makes a words enum and the core's enum of the same variants convert into each other.
macro_rules! mirrors {
    ($name:ident, $core:ty { $($variant:ident),+ }) => {
        impl From<$core> for $name {
            fn from(value: $core) -> Self {
                match value {
                    $(<$core>::$variant => Self::$variant,)+
                }
            }
        }

        impl From<$name> for $core {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$variant,)+
                }
            }
        }
    };
}

words! {
    /// Which side of the market an order is on.
    Side {
        /// Pays quote, receives base.
        Buy = "buy",
        /// Pays base, receives quote.
        Sell = "sell",
    }
}
mirrors!(Side, engine::Side { Buy, Sell });

words! {
    /// The kinds of order.
    OrderType {
        /// Trades at its price or better.
        Limit = "limit",
        /// Trades at once at what the book offers, within the band.
        Market = "market",
        /// Becomes a limit order when the last trade reaches its trigger.
        StopLimit = "stop_limit",
        /// Becomes a market order when the last trade reaches its trigger.
        StopMarket = "stop_market",
    }
}
mirrors!(OrderType, engine::OrderType { Limit, Market, StopLimit, StopMarket });

words! {
    /// How long an order stands.
    TimeInForce {
        /// Good till cancelled.
        Gtc = "gtc",
        /// Immediate or cancel.
        Ioc = "ioc",
        /// Fill or kill.
        Fok = "fok",
        /// Good till a date, which `goodTillDate` gives.
        Gtd = "gtd",
    }
}

impl From<engine::TimeInForce> for TimeInForce {
    fn from(value: engine::TimeInForce) -> Self {
        match value {
            engine::TimeInForce::Gtc => Self::Gtc,
            engine::TimeInForce::Ioc => Self::Ioc,
            engine::TimeInForce::Fok => Self::Fok,
            engine::TimeInForce::Gtd(_) => Self::Gtd,
        }
    }
}

words! {
    /// What happens when an order meets another of its own account.
    SelfTradePrevention {
        /// What remains of the incoming order is cancelled.
        CancelNewest = "cancel_newest",
        /// The resting order is cancelled, and the incoming one goes on.
        CancelOldest = "cancel_oldest",
        /// Both are cancelled.
        CancelBoth = "cancel_both",
        /// They trade. Only in replays of recorded data: no client can ask for it.
        Allow = "allow",
    }
}
mirrors!(
    SelfTradePrevention,
    engine::SelfTradePrevention { CancelNewest, CancelOldest, CancelBoth, Allow }
);

words! {
    /// Where an order stands.
    OrderStatus {
        /// Received, not decided yet.
        Pending = "pending",
        /// In the book or waiting for its trigger, nothing filled yet.
        Open = "open",
        /// In the book, partly filled.
        PartiallyFilled = "partially_filled",
        /// Wholly filled.
        Filled = "filled",
        /// Ended before it was filled.
        Cancelled = "cancelled",
        /// Refused.
        Rejected = "rejected",
        /// Ended because its time was over.
        Expired = "expired",
    }
}

impl From<engine::OrderStatus> for OrderStatus {
    fn from(value: engine::OrderStatus) -> Self {
        match value {
            engine::OrderStatus::Open => Self::Open,
            engine::OrderStatus::PartiallyFilled => Self::PartiallyFilled,
            engine::OrderStatus::Filled => Self::Filled,
            engine::OrderStatus::Cancelled => Self::Cancelled,
            engine::OrderStatus::Expired => Self::Expired,
        }
    }
}

words! {
    /// Why an order ended without being filled.
    CancelReason {
        /// Its owner cancelled it.
        Requested = "requested",
        /// A cancel for it had come before it.
        CancelledBeforeArrival = "cancelled_before_arrival",
        /// The rest of an immediate-or-cancel order.
        ImmediateOrCancel = "immediate_or_cancel",
        /// A fill-or-kill order that could not be filled wholly.
        FillOrKill = "fill_or_kill",
        /// The rest of a market order when the book was used up.
        NoLiquidity = "no_liquidity",
        /// The rest of a market order that reached the price band.
        Band = "band",
        /// The rest of a market order whose quote amount is used up.
        QuoteAmountSpent = "quote_amount_spent",
        /// Self-trade prevention.
        SelfTrade = "self_trade",
        /// It would have caused more steps than one command may.
        TooManySteps = "too_many_steps",
        /// Its account was closed or locked.
        Account = "account",
        /// Its time was over.
        Expired = "expired",
        /// A triggered stop that could not be placed.
        TriggerRefused = "trigger_refused",
    }
}
mirrors!(
    CancelReason,
    engine::CancelReason {
        Requested,
        CancelledBeforeArrival,
        ImmediateOrCancel,
        FillOrKill,
        NoLiquidity,
        Band,
        QuoteAmountSpent,
        SelfTrade,
        TooManySteps,
        Account,
        Expired,
        TriggerRefused
    }
);

words! {
    /// What a market lets through.
    MarketState {
        /// Everything.
        Open = "open",
        /// Cancels only.
        CancelOnly = "cancel_only",
        /// Cancels, and orders that are post-only.
        PostOnly = "post_only",
        /// Nothing trades; cancels are still taken.
        Halted = "halted",
    }
}
mirrors!(MarketState, engine::MarketState { Open, CancelOnly, PostOnly, Halted });

words! {
    /// Which part a fill's owner had in the trade.
    Liquidity {
        /// The order that rested in the book.
        Maker = "maker",
        /// The order that came in.
        Taker = "taker",
    }
}

words! {
    /// The steps of a withdrawal.
    WithdrawalState {
        /// Asked for; its amount is held.
        Requested = "requested",
        /// Approved; still held.
        Approved = "approved",
        /// Being sent; still held.
        Sending = "sending",
        /// Sent.
        Settled = "settled",
        /// Not sent: the hold is released.
        Failed = "failed",
        /// Taken back: the hold is released.
        Cancelled = "cancelled",
    }
}
mirrors!(
    WithdrawalState,
    engine::WithdrawalState { Requested, Approved, Sending, Settled, Failed, Cancelled }
);

words! {
    /// The lengths of a candle.
    Interval {
        /// One minute.
        OneMinute = "1m",
        /// Five minutes.
        FiveMinutes = "5m",
        /// A quarter of an hour.
        FifteenMinutes = "15m",
        /// One hour.
        OneHour = "1h",
        /// Four hours, from midnight.
        FourHours = "4h",
        /// One day of UTC.
        OneDay = "1d",
    }
}

impl Interval {
    /// Every interval, shortest first.
    pub const ALL: &'static [Self] = &[
        Self::OneMinute,
        Self::FiveMinutes,
        Self::FifteenMinutes,
        Self::OneHour,
        Self::FourHours,
        Self::OneDay,
    ];

    /// Returns the length in minutes, which every longer one is a multiple of.
    #[must_use]
    pub const fn minutes(self) -> u64 {
        match self {
            Self::OneMinute => 1,
            Self::FiveMinutes => 5,
            Self::FifteenMinutes => 15,
            Self::OneHour => 60,
            Self::FourHours => 240,
            Self::OneDay => 1440,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_cores_codes() {
        use engine::OrderStatus as Core;
        for status in
            [Core::Open, Core::PartiallyFilled, Core::Filled, Core::Cancelled, Core::Expired]
        {
            assert_eq!(OrderStatus::from(status).as_str(), status.code());
        }
        use engine::WithdrawalState as State;
        for state in [
            State::Requested,
            State::Approved,
            State::Sending,
            State::Settled,
            State::Failed,
            State::Cancelled,
        ] {
            assert_eq!(WithdrawalState::from(state).as_str(), state.code());
        }
    }

    #[test]
    fn serde_and_parse_agree() {
        for word in Interval::WORDS {
            let interval = Interval::parse(word).expect("it is one of the words");
            assert_eq!(serde_json::to_string(&interval).unwrap(), format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<Interval>(&format!("\"{word}\"")).unwrap(), interval);
        }
        assert_eq!(Interval::parse("1M"), None);
        assert_eq!(Side::parse("BUY"), None);
    }
}
