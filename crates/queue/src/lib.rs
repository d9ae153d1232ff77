//! The commands' queue and the journal's fan-out, as traits, and an implementation inside one process.
//!
//! Invariants that every implementation keeps, and that `suite` tests:
//! - Messages come out in the order in which they went in. One consumer is active at a time; another waits.
//! - What was taken but not acknowledged comes out again, in order and before anything else, when its consumer is gone.
//! - An outcome of [`PublishOutcome::Confirmed`] means that the message is in the queue; `Unroutable` means that it is
//!   not and never will be.
//! - The fan-out is a hint: publishing never waits for a follower, and what a follower missed is told as a gap.

mod in_process;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use journal::Row;

pub use in_process::{InProcessFanOut, InProcessQueue};

/// Name of the queue of commands.
pub const ORDERS: &str = "orders";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is in the queue.
    Confirmed,
    /// It is not in the queue and never will be: nothing has happened.
    Unroutable,
    /// It may be in the queue or not.
    Unknown,
}

/// Gives commands to the queue.
#[async_trait]
pub trait CommandPublisher: Send + Sync {
    /// Publishes one message, persistent and mandatory, and waits for the queue's confirmation. Dropping the future
    /// after its first poll leaves the outcome unknown.
    async fn publish(&self, message: Bytes) -> PublishOutcome;

    /// Tells whether a message would be taken now, for readiness.
    fn ready(&self) -> bool;

    /// Returns how many messages wait, where that is known without asking anybody.
    fn depth(&self) -> Option<u64> {
        None
    }
}

/// A message as it was taken from the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number within this consumer, rising by one.
    pub tag: u64,
    /// What was published.
    pub body: Bytes,
    /// Whether it was taken before by a consumer that is gone.
    pub redelivered: bool,
}

/// The queue cannot be used any more through this consumer; a new one must be made.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is closed, or the connection to it is gone.
    #[error("the queue is closed")]
    Closed,
    /// The queue's side failed.
    #[error("the queue failed: {0}")]
    Failed(String),
}

/// Takes commands from the queue.
#[async_trait]
pub trait CommandConsumer: Send {
    /// Waits until this consumer is the active one and something waits, then takes what is waiting, at most `max`.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when this consumer is of no more use.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Acknowledges every delivery up to and including `through`: none of them will come again.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; the deliveries then come again.
    async fn ack(&mut self, through: u64) -> Result<(), QueueError>;

    /// Puts a copy of a delivery into the dead-letter queue with its reason. The delivery itself is still to be
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; there is no copy then.
    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), QueueError>;
}

/// Tells followers of committed journal rows.
pub trait BatchPublisher: Send + Sync {
    /// Publishes a committed row. Never waits.
    fn publish(&self, row: Arc<Row>);
}

/// What the fan-out tells.
#[derive(Clone, Debug)]
pub enum Hint {
    /// A committed row.
    Row(Arc<Row>),
    /// Rows were missed: read the journal.
    Gap,
}

/// Hears of committed journal rows, from the moment it was made on.
#[async_trait]
pub trait BatchSubscriber: Send {
    /// Waits for the next hint. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError::Closed`] when nothing will come any more.
    async fn next(&mut self) -> Result<Hint, QueueError>;
}
