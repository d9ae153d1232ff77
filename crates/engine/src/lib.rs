//! The exchange as two functions: [`decide`] and [`evolve`].
//!
//! `decide(state, command)` says what a command does, as one [`Event`]; it changes nothing. `evolve(state,
//! command, event)` makes it so; it decides nothing, so that a follower comes to the same state from the
//! journal as the sequencer did. No I/O, clock, randomness or floating point inside: time comes with the batch
//! ([`State::open_batch`]). Whatever the world may send is refused with a [`Reject`]; an assertion that fails
//! here is a defect of ours.
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

mod command;
mod config;
mod decide;
mod effects;
mod event;
mod evolve;
mod observe;
mod reject;
mod run;
mod snapshot;
mod state;

pub use command::{
    Action, AmendOrder, AuditHead, CancelReason, ClientOrderId, Command, NewOrder, OrderRef,
    OrderType, Origin, SelfTradePrevention, TimeInForce,
};
pub use config::{AssetConfig, Limits, MarketConfig, MarketState, Settings};
pub use decide::{Decision, decide};
pub use effects::{BalanceEffect, Effects, PostingEffect};
pub use event::{Ending, Event, Fill, PlacedOrder, Step};
pub use evolve::evolve;
pub use observe::{
    LedgerEntry, LevelChange, Observer, OrderStatus, OrderView, Posting, Trade, TransferKind,
    WithdrawalState, WithdrawalView,
};
pub use reject::Reject;
pub use run::{internal_command, next_internal, run};
pub use snapshot::{BadSnapshot, OrderRecord, Record, StateBuilder};
pub use state::{AccountFlags, AccountView, DepthLevel, KnownCommand, MarketView, Stamp, State};

pub use book::Side;
