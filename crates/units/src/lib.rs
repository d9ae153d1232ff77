//! Whole numbers of money, price, quantity and time, and the ids of things.
//!
//! Invariant: nothing here is a floating-point number, and nothing off-grid has a representation. A price is a
//! whole number of ticks and a quantity a whole number of lots of one market; an amount is a whole
//! number of ledger units of one asset. Decimals exist at the edge only (crate `wire`).
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::indexing_slicing
    )
)]

mod id;
mod mix;
mod money;
mod time;

pub use id::{
    AccountId, AssetId, CommandId, Hash32, MarketId, OrderId, ReferenceHash, Sequence, TradeId,
};
pub use mix::{mix, mix_bytes, mix_wide};
pub use money::{Amount, Balance, PriceTicks, QuantityLots, RatePpm, SignedAmount};
pub use time::Time;

/// One million: the denominator of every rate given in parts per million.
pub const PPM: u32 = 1_000_000;
