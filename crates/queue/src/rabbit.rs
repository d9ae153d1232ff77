//! The queue and the fan-out over RabbitMQ 3.10 or newer.
//!
//! `orders` is a quorum queue with a single active consumer and without a delivery limit: a killed consumer counts as a
//! delivery for everything that it had prefetched, so a limit would put good orders aside. Single active consumer says who
//! should decide; it is no fence. The fence is the epoch, in PostgreSQL.
//!
//! Invariants:
//! - A connection that is lost is made anew; nothing that was published is sent again by itself, since the one who asked
//!   may have given it up. What was written and not confirmed is [`PublishOutcome::Unknown`](crate::PublishOutcome).
//! - A consumer is never mended: when its connection is gone, what it had not acknowledged comes to the next one.

mod bundle;
mod connection;
mod consumer;
mod fan_out;
mod publisher;
mod row;
mod topology;

pub use connection::{Address, BadAddress};
pub use consumer::RabbitQueue;
pub use fan_out::{RabbitFanOut, RabbitSubscriber};
pub use publisher::RabbitPublisher;
